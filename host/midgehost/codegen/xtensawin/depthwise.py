"""DEPTHWISE_CONV_2D, 3 x 3, by columns 1 or 2 at a time: 9 instructions for the products of an output, 7 for its tail.

One channel after another: its plane is gathered out of NHWC into scratch, widened and padded with zero points, and
while the weights stay in five address registers, two halves each, MAC16 loads the plane's words beside multiplying.

Stride 1: an even and an odd output see the same two words W0, W1 of each row. The even one is
W0.l w0 + W0.h w1 + W1.l w2, the odd one W0.h w0 + W1.l w1 + W1.h w2; the W1 stay in m1 to m3 for the odd one, W0 comes
again through m0 by stepping back. Stride 2: W0.l w0 + W0.h w1 + W1.l w2, then each W1 is the next W0.

Rows of a call are channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import numpy as np

from midgehost.codegen.asm.xtensa import Half, Xtensa
from midgehost.codegen.machine import MachineCall, Routine
from midgehost.codegen.requantise import layer
from midgehost.codegen.xtensawin import dot, scales
from midgehost.codegen.xtensawin.frame import MOST_SCRATCH, Frame, Parameters, block_word
from midgehost.codegen.xtensawin.tails import CLAMP_COST, CLAMP_WORDS, EXTRA, KIND, SHIFT, Tails, is_ranged
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.ops.window import Window

_PARAMETERS: Final = (
    # the plane in scratch: its words, what they are filled with, where its data begins
    *("plane_words", "padding", "data"),
    *("pixel_bytes", "in_width", "in_height", "line", "line_rest"),
    # outputs: rounds in a line, whether one more, what pointers move to the next line, bytes of all lines
    *("rounds", "odd", "next_first", "next_others", "lines", *CLAMP_WORDS),
)
_EXTRA: Final = {scales.STRAIGHT: 0, scales.BENT: 5, scales.EXACT: 30}  # instructions of an output
_WEIGHT_BYTES: Final = 9  # a channel

_P0, _P1, _P2, _WA, _WB, _WC, _WD, _WE, _OUT, _STEP, _M, _C, _R, _T = range(2, 16)
_WEIGHTS: Final = (_WA, _WB, _WC, _WD, _WE)


def depthwise_calls(node: Node, window: Window, tile_bytes: int | None) -> Sequence[MachineCall] | None:
    """The calls of a DEPTHWISE_CONV_2D on one image; None where there is no kernel for it."""
    weights = node.input(1).array()[0]
    height, width, channels = weights.shape
    if (height, width) != (3, 3) or node.input(0).shape[3] != channels or window.stride_width > 2:
        return None
    plane = _Plane(window)
    if plane.nbytes > MOST_SCRATCH:
        return None
    layers = layer(node)
    by_channel = weights.reshape(9, channels).T.astype(np.int64)
    all_scales = scales.scales_of(layers, abs(by_channel).max(axis=1))
    ranged = is_ranged(layers)
    routine = depthwise_routine(window.stride_width, ranged)
    parameters = Parameters(Xtensa(), _PARAMETERS)
    an_output = 16 + CLAMP_COST * ranged
    zero = 256 * node.input(0).zero_point
    group = channels if tile_bytes is None else max(1, tile_bytes // _WEIGHT_BYTES)
    calls: list[MachineCall] = []
    for first in range(0, channels, group):
        some = all_scales[first : first + group]
        words = plane.parameters(channels) | {
            "padding": zero << 16 | zero & 0xFFFF,
            "zero_point": layers.zero_point,
            "low": layers.low,
            "high": layers.high,
        }
        calls.append(
            MachineCall(
                routine,
                Place(node.input(0).index, first),
                Place(node.output.index, first),
                weights=by_channel[first : first + group].astype(np.int8).tobytes(),
                params=[*parameters.values(words), *scales.words_of(some)],
                scratch_bytes=plane.nbytes,
                rows=len(some),
                macs=9 * window.out_height * window.out_width * len(some),
                cost=60 + plane.nbytes / 2 + sum(plane.cost(an_output + _EXTRA[scale.kind]) for scale in some),
            )
        )
    return calls


class _Plane:
    """A padded channel in scratch: lines of halves."""

    def __init__(self, window: Window) -> None:
        self._window = window
        # products read whole words, and one beyond what they need
        columns = max(window.pad_width + window.in_width, (window.out_width + 1) * window.stride_width + 1)
        rows = max(window.pad_height + window.in_height, (window.out_height - 1) * window.stride_height + 3)
        self._line = -(-columns // 2) * 4
        self._data = window.pad_height * self._line + 2 * window.pad_width
        self.nbytes = rows * self._line + 4

    def parameters(self, channels: int) -> dict[str, int]:
        """Those of the plane."""
        window = self._window
        step = window.stride_height * self._line
        pairs, odd = divmod(window.out_width, 2)
        if window.stride_width == 1:
            rounds, back = pairs, 4 * pairs + 8 * odd
            first, others = step - back - (0 if odd else 4), step - back
        else:
            rounds, odd = window.out_width, 0
            first = others = step - 4 * window.out_width - 4
        return {
            "pixel_bytes": channels,
            "plane_words": self.nbytes // 4,
            "line": self._line,
            "data": self._data + 1,  # a value is a half's upper byte
            "in_width": window.in_width,
            "in_height": window.in_height,
            "line_rest": self._line - 2 * window.in_width,
            "rounds": rounds,
            "odd": odd,
            "next_first": first,
            "next_others": others,
            "lines": window.out_height * step,
        }

    def cost(self, an_output: float) -> float:
        """Instructions of a channel."""
        window = self._window
        gather = window.in_height * (4 * window.in_width + 5)
        return gather + window.out_height * (an_output * window.out_width + 12) + 95


@cache
def depthwise_routine(stride: int, ranged: bool) -> Routine:
    """Rows are channels. `stride` is that along a line."""
    a = Xtensa()
    kept = tuple(name for name in _PARAMETERS if name not in ("padding", "plane_words", "data"))
    own = ("left", "source", "out", "weights", "words", "plane", "data", "end", "delta", "rounds_left")
    frame = Frame(a, (*own, *kept))
    parameters = Parameters(a, _PARAMETERS)
    block, address, t, u, v = 15, 14, 13, 12, 11
    frame.enter(block)
    block_word(a, address, block, "params")
    for word in kept:
        parameters.load(t, address, word)
        frame.store(t, word)
    block_word(a, u, block, "row0")
    block_word(a, t, block, "row1")
    a.sub(t, t, u)
    frame.store(t, "left")
    for name, word in ("source", "in0"), ("out", "out"):
        block_word(a, t, block, word)
        a.add(t, t, u)
        frame.store(t, name)
    a.addx8(v, u, u)
    block_word(a, t, block, "weights")
    a.add(t, v, t)
    frame.store(t, "weights")
    a.addx2(v, u, u)
    a.addi(t, address, parameters.size)
    a.addx4(t, v, t)
    frame.store(t, "words")
    block_word(a, t, block, "scratch")
    a.addi(u, t, -4)
    frame.store(u, "plane")
    frame.load(v, "lines")
    a.add(u, u, v)
    frame.store(u, "end")
    parameters.load(u, address, "data")
    a.add(u, u, t)
    frame.store(u, "data")
    parameters.load(u, address, "plane_words")
    parameters.load(v, address, "padding")
    filled = a.fresh("filled")
    a.loop(u, filled)
    a.s32i(v, t)
    a.addi(t, t, 4)
    a.label(filled)
    _Emitter(a, frame, stride, Tails(a, frame, ranged)).channels()
    return Routine(f"depthwise_{stride}" + "_ranged" * ranged, a.code())


class _Emitter:
    """The loop over channels, and what is in it."""

    def __init__(self, a: Xtensa, frame: Frame, stride: int, tails: Tails) -> None:
        self._a, self._frame, self._stride, self._tails = a, frame, stride, tails

    def channels(self) -> None:
        a, frame = self._a, self._frame
        special, exact, following = (a.fresh(name) for name in ("special", "exact", "following"))
        channel = a.label()
        self._gather()
        words = _R
        frame.load(words, "words")
        self._load_weights(words)
        frame.load(_OUT, "out")
        a.addi(_T, _OUT, 1)
        frame.store(_T, "out")
        frame.load(_STEP, "pixel_bytes")
        frame.load(_P0, "plane")
        frame.load(_T, "line")
        a.add(_P1, _P0, _T)
        a.add(_P2, _P1, _T)
        a.l32i(_M, words, 0)
        a.l32i(_C, words, 4)
        a.l8ui(_T, words, SHIFT)
        a.ssr(_T)
        a.bltz(_M, special)
        self._lines(self._straight)
        a.label(following)
        frame.load(_T, "words")
        a.addi(_T, _T, 4 * scales.WORDS)
        frame.store(_T, "words")
        frame.load(_T, "left")
        a.addi(_T, _T, -1)
        frame.store(_T, "left")
        a.bnez(_T, channel)
        frame.leave()
        a.label(special)
        a.l8ui(_T, words, KIND)
        a.bnei(_T, scales.BENT, exact, far=True)
        a.l16ui(_T, words, EXTRA)
        frame.store(_T, "delta")
        a.neg(_M, _M)
        a.addi(_M, _M, -1)
        self._lines(self._bent)
        a.j(following)
        a.label(exact)
        a.mov(_STEP, words)
        self._lines(self._exact, counted=True)
        a.j(following)

    def _gather(self) -> None:
        """The next channel into the plane."""
        a, frame = self._a, self._frame
        source, target, pixel, width, height, rest, t = range(2, 9)
        frame.load(source, "source")
        a.addi(t, source, 1)
        frame.store(t, "source")
        frame.load(target, "data")
        for register, word in (
            (pixel, "pixel_bytes"), (width, "in_width"), (height, "in_height"), (rest, "line_rest"),
        ):  # fmt: skip
            frame.load(register, word)
        dot.place_loop(a, 0)
        line, end = a.label(), a.fresh("gathered")
        a.loop(width, end)
        a.l8ui(t, source)
        a.add(source, source, pixel)
        a.s8i(t, target)
        a.addi(target, target, 2)
        a.label(end)
        a.add(target, target, rest)
        a.addi(height, height, -1)
        a.bnez(height, line)

    def _load_weights(self, words: int) -> None:
        """The next channel's weights into halves, shifted to the left by the channel's `pre`."""
        a, frame = self._a, self._frame
        at = _P0
        a.l8ui(_T, words, SHIFT)
        a.extui(_T, _T, 5, 3)
        a.ssl(_T)
        frame.load(at, "weights")
        for number, register in enumerate(_WEIGHTS):
            a.l8ui(register, at, 2 * number)
            a.sext(register, register, 7)
            a.sll(register, register)
            if 2 * number + 1 < _WEIGHT_BYTES:
                a.extui(register, register, 0, 16)
                a.l8ui(_T, at, 2 * number + 1)
                a.sext(_T, _T, 7)
                a.slli(_T, _T, 16)
                a.sll(_T, _T)
                a.or_(register, register, _T)
        a.addi(at, at, _WEIGHT_BYTES)
        frame.store(at, "weights")

    def _lines(self, tail: Callable[[], None], counted: bool = False) -> None:
        """All outputs of a channel. `counted`: the loop is too long for the hardware's."""
        a, frame = self._a, self._frame
        first = (_P0,) if self._stride == 1 else (_P0, _P1, _P2)
        dot.place_loop(a, 3 * len(first) + 2)
        line = a.label()
        for m, pointer in enumerate(first):
            a.ldinc(m, pointer)
        frame.load(_T, "rounds")
        end = a.fresh("end")
        if counted:
            a.beqz(_T, end)
            again = a.label()
            frame.store(_T, "rounds_left")
        else:
            again = ""
            a.loopgtz(_T, end)
        if self._stride == 1:
            self._even(step_back=True)
            tail()
            self._odd()
            tail()
        else:
            self._single()
            tail()
        if counted:
            frame.load(_T, "rounds_left")
            a.addi(_T, _T, -1)
            a.bnez(_T, again)
        a.label(end)
        if self._stride == 1:
            whole = a.fresh("whole")
            frame.load(_T, "odd")
            a.beqz(_T, whole)
            self._even(step_back=False)
            tail()
            a.label(whole)
        frame.load(_T, "next_first")
        a.add(_P0, _P0, _T)
        frame.load(_T, "next_others")
        a.add(_P1, _P1, _T)
        a.add(_P2, _P2, _T)
        frame.load(_T, "end")
        a.bne(_P0, _T, line, far=True)

    def _weight(self, number: int) -> tuple[int, str]:
        """The register and the half that hold a weight."""
        return _WEIGHTS[number // 2], "lh"[number % 2]

    def _add(self, m: int, half: str, number: int, load: tuple[int, int] | None = None, back: bool = False) -> None:
        """acc += a half of m * a weight, beside loading (m, pointer) forwards or back."""
        a = self._a
        register, weight_half = self._weight(number)
        if m < 2:
            halves: Half = _half(half, weight_half)
            if load is None:
                a.mula_da(halves, m, register)
            elif back:
                a.mula_da_lddec(halves, load[0], load[1], m, register)
            else:
                a.mula_da_ldinc(halves, load[0], load[1], m, register)
        else:
            a.mula_ad(_half(weight_half, half), register, m)

    def _even(self, step_back: bool) -> None:
        """m0 = W0 of the first line, to which _P0 points; the others point before their W0."""
        a = self._a
        a.mul_da(_half("l", "l"), 0, _WA)
        self._add(0, "h", 1, (1, _P0))
        self._add(1, "l", 2, (0, _P1))
        self._add(0, "l", 3, (2, _P1))
        self._add(0, "h", 4, (0, _P2))
        self._add(2, "l", 5)
        self._add(0, "l", 6, (3, _P2))
        self._add(0, "h", 7, (0, _P0) if step_back else None, back=True)
        self._add(3, "l", 8)

    def _odd(self) -> None:
        """m0 = W0 of the first line, m1 to m3 the W1; afterwards all is one word further."""
        a = self._a
        a.mul_ad(_half("l", "l"), _WC, 2)
        self._add(0, "h", 0, (0, _P1), back=True)
        self._add(1, "l", 1)
        self._add(1, "h", 2)
        self._add(0, "h", 3, (0, _P2), back=True)
        self._add(2, "h", 5)
        self._add(3, "l", 7)
        self._add(0, "h", 6, (0, _P0))
        self._add(3, "h", 8)

    def _single(self) -> None:
        """m0 to m2 = W0 of the lines, to which the pointers point; afterwards all is one word further."""
        a = self._a
        a.mul_ad(_half("l", "l"), _WD, 2)
        self._add(2, "h", 7)
        self._add(0, "l", 0, (2, _P2))
        self._add(0, "h", 1, (0, _P0))
        self._add(1, "l", 3)
        self._add(1, "h", 4, (1, _P1))
        self._add(0, "l", 2)
        self._add(2, "l", 8)
        self._add(1, "l", 5)

    def _store(self, step: int) -> None:
        a = self._a
        self._tails.clamp(_R, _T)
        a.s8i(_R, _OUT)
        a.add(_OUT, _OUT, step)

    def _straight(self) -> None:
        self._tails.straight(_R, _M, _C)
        self._store(_STEP)

    def _bent(self) -> None:
        self._tails.bent_from_frame(_R, _T, _M, _C)
        self._store(_STEP)

    def _exact(self) -> None:
        """_STEP holds the address of the channel's words."""
        self._tails.exact(_R, _M, _T, _C, _STEP)
        self._tails.clamp(_R, _T)
        self._a.s8i(_R, _OUT)
        self._frame.load(_T, "pixel_bytes")
        self._a.add(_OUT, _OUT, _T)


def _half(first: str, second: str) -> Half:
    halves: dict[str, Half] = {"ll": "ll", "hl": "hl", "lh": "lh", "hh": "hh"}
    return halves[first + second]
