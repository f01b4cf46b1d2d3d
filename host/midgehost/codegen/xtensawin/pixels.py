"""All filters on a tile of pixels: the part that every convolution shares.

A tile holds a vector of widened inputs for each pixel, one behind the other. For one filter after another the inner
loop goes over the pixels: its constants stay in registers, and while the stream of inputs runs on by itself only the
row of weights begins again.

Speed: weights are int16. Size: they are int8, and a row is widened into scratch once a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.asm.xtensa import Xtensa
from midgehost.codegen.machine import Form
from midgehost.codegen.requantise import Channels
from midgehost.codegen.xtensawin import dot, scales
from midgehost.codegen.xtensawin.frame import Frame, Parameters, block_word
from midgehost.codegen.xtensawin.tails import CLAMP_COST, CLAMP_WORDS, EXTRA, KIND, SHIFT, Tails, is_ranged
from midgehost.codegen.xtensawin.widen import reordered, widen_plain, widen_scaled

PARAMETERS: Final = ("rounds", "filters", "pixel_bytes", *CLAMP_WORDS)
# Of the frame: tile (its address less 4), pixels in it and where their outputs go are the caller's to set.
WORDS: Final = (
    *("tile", "pixels", "out"),
    *("pixel_bytes", "weights", "row", "words", "words_end", "channel", "stream", *CLAMP_WORDS),
)
ROUNDS: Final = 2  # the register that holds the rounds of a vector's products, here and while a tile is filled

_STEP, _END, _ROW, _AT_WORDS, _X, _W, _OUT, _M, _C, _R, _T, _U, _H = range(3, 16)
_AN_OUTPUT: Final = 12  # instructions beside the products
_EXTRA: Final = {scales.STRAIGHT: 0, scales.BENT: 3, scales.EXACT: 28}
_A_FILTER: Final = 18  # with each tile


@dataclass(frozen=True)
class PixelKernel:
    """Emits the part. `ranged`: outputs are clamped to less than int8."""

    a: Xtensa
    frame: Frame
    form: Form
    ranged: bool

    def prepare(self, parameters: Parameters, block: int, address: int, t: int, u: int) -> None:
        """Fills the frame, once a call. Registers: the block, the parameters, two free ones.

        The channels' words follow the parameters; a row of weights is widened at the beginning of scratch.
        """
        a, frame = self.a, self.frame
        for word in ("pixel_bytes", *CLAMP_WORDS):
            parameters.load(t, address, word)
            frame.store(t, word)
        parameters.load(ROUNDS, address, "rounds")
        block_word(a, t, block, "weights")
        frame.store(t, "weights")
        block_word(a, t, block, "scratch")
        frame.store(t, "row")
        a.addi(t, address, parameters.size)
        frame.store(t, "words")
        parameters.load(u, address, "filters")
        a.addx2(u, u, u)
        a.addx4(u, u, t)
        frame.store(u, "words_end")

    def widen(self, target: int, source: int, count: int, scratch: Sequence[int]) -> None:
        """Activations as the products take them; six free registers."""
        if self.form == "speed":
            widen_scaled(self.a, target, source, count, scratch[2], scratch[:2])
        else:
            widen_plain(self.a, target, source, count, scratch)

    def outputs(self) -> None:
        """The outputs of the tile. Uses every register, keeps ROUNDS."""
        a, frame, tails = self.a, self.frame, Tails(self.a, self.frame, self.ranged)
        special, exact, following, done = (a.fresh(name) for name in ("special", "exact", "following", "done"))
        frame.load(_T, "pixels")
        frame.load(_X, "tile")
        a.mull(_T, _T, ROUNDS)
        a.addx8(_END, _T, _X)
        a.addi(_END, _END, 4)
        frame.load(_STEP, "pixel_bytes")
        frame.load(_T, "out")
        frame.store(_T, "channel")
        frame.load(_AT_WORDS, "words")
        frame.load(_ROW, "weights")
        if self.form == "speed":
            a.addi(_ROW, _ROW, -4)
        else:
            frame.store(_ROW, "stream")
        filter_ = a.label()
        if self.form == "size":
            self._widen_row()
        frame.load(_OUT, "channel")
        a.addi(_T, _OUT, 1)
        frame.store(_T, "channel")
        frame.load(_X, "tile")
        a.ldinc(0, _X)
        a.l32i(_M, _AT_WORDS, 0)
        a.l32i(_C, _AT_WORDS, 4)
        a.l8ui(_T, _AT_WORDS, SHIFT)
        a.ssr(_T)
        a.bltz(_M, special)
        self._pixels(lambda: tails.straight(_R, _M, _C), tails)
        a.label(following)
        a.addi(_AT_WORDS, _AT_WORDS, 4 * scales.WORDS)
        if self.form == "speed":
            a.addx8(_ROW, ROUNDS, _ROW)
        frame.load(_T, "words_end")
        a.bltu(_AT_WORDS, _T, filter_, far=True)
        a.j(done)
        a.label(special)
        a.l8ui(_T, _AT_WORDS, KIND)
        a.bnei(_T, scales.BENT, exact)
        a.neg(_M, _M)
        a.addi(_M, _M, -1)
        a.l16ui(_U, _AT_WORDS, EXTRA)
        frame.load(_H, "zero_point")
        self._pixels(lambda: tails.bent(_R, _T, _M, _C, _U, _H), tails)
        a.j(following)
        a.label(exact)
        self._pixels(lambda: tails.exact(_R, _H, _T, _U, _AT_WORDS), tails)
        a.j(following)
        a.label(done)

    def _pixels(self, tail: Callable[[], None], tails: Tails) -> None:
        """One filter on all pixels."""
        a = self.a
        dot.place_loop(a, 8)
        pixel = a.label()
        dot.clear(a, ROUNDS)
        a.mov(_W, _ROW)
        a.ldinc(2, _W)
        dot.add_products(a, ROUNDS, _X, _W)
        tail()
        tails.clamp(_R, _T)
        a.s8i(_R, _OUT)
        a.add(_OUT, _OUT, _STEP)
        a.bne(_X, _END, pixel, far=a.here - a.address(pixel) > 120)

    def _widen_row(self) -> None:
        """The next row of the stream into scratch."""
        frame = self.frame
        frame.load(_U, "stream")
        frame.load(_W, "row")
        self.a.addi(_ROW, _W, -4)
        widen_scaled(self.a, _W, _U, ROUNDS, _H, (_R, _T))
        frame.store(_U, "stream")


@dataclass(frozen=True)
class Filters:
    """The filters of a convolution as vectors of products, packed. `depth` values are in a vector, with all padding."""

    channels: Channels
    form: Form
    weights: NDArray[Any]  # int8 [filters, depth], in the order of the tile's vectors, depth a multiple of 4
    scales: Sequence[scales.Scale]

    @classmethod
    def of(cls, channels: Channels, form: Form, weights: NDArray[Any], widened: bool) -> Filters:
        """`widened`: the tile's vectors are in the order that `widen` gives, the weights here are not yet."""
        padded = np.pad(weights, ((0, 0), (0, -weights.shape[1] % dot.ROUND)))
        if widened != (form == "size"):  # in the size form widening the row does the same to the weights
            padded = reordered(padded)
        widest = abs(weights.astype(np.int64)).max(axis=1) if form == "speed" else None
        return cls(channels, form, padded, scales.scales_of(channels, widest))

    @property
    def rounds(self) -> int:
        return self.weights.shape[1] // dot.ROUND

    @property
    def ranged(self) -> bool:
        return is_ranged(self.channels)

    @property
    def row_bytes(self) -> int:
        """Of a filter in the stream."""
        return self.weights.shape[1] * (2 if self.form == "speed" else 1)

    @property
    def scratch_row_bytes(self) -> int:
        """At the beginning of scratch; products read a word more."""
        return 0 if self.form == "speed" else 2 * self.weights.shape[1] + 16

    def groups(self, tile_bytes: int | None) -> Sequence[range]:
        """The filters of each call."""
        count = len(self.weights)
        most = count if tile_bytes is None else max(1, (tile_bytes - 4) // self.row_bytes)
        return [range(first, min(first + most, count)) for first in range(0, count, most)]

    def stream(self, group: range) -> bytes:
        """The weights of some filters; products of int16 read a word more."""
        rows = self.weights[group.start : group.stop]
        if self.form == "size":
            return rows.tobytes()
        shifts = np.array([scale.pre - scales.PRE for scale in self.scales[group.start : group.stop]])
        return (rows.astype(np.int16) << shifts[:, None]).astype("<i2").tobytes() + bytes(4)

    def parameters(self, group: range) -> dict[str, int]:
        """Those of PARAMETERS."""
        channels = self.channels
        return {
            "rounds": self.rounds,
            "filters": len(group),
            "pixel_bytes": len(channels),
            "zero_point": channels.zero_point,
            "low": channels.low,
            "high": channels.high,
        }

    def words(self, group: range) -> list[int]:
        """The channels' words, which follow the parameters."""
        return scales.words_of(self.scales[group.start : group.stop])

    def cost(self, group: range, pixels: int, tiles: int) -> float:
        """Instructions of `outputs` for so many pixels in so many tiles."""
        an_output = _AN_OUTPUT + CLAMP_COST * self.ranged
        tail = sum(an_output + _EXTRA[scale.kind] for scale in self.scales[group.start : group.stop])
        a_filter = _A_FILTER + (0 if self.form == "speed" else 8 * self.rounds + 6)
        return pixels * (tail + 4 * self.rounds * len(group)) + tiles * (len(group) * a_filter + 12)
