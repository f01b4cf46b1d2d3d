"""DEPTHWISE_CONV_2D of 3 x 3, stride 1 or 2: pairs of neighbouring columns in a word, four outputs at a time.

A row of a call is four channels by a strip of output rows. What the strip sees is gathered in scratch, transposed: a
word holds columns 2j and 2j + 1 (of the padded image) of one channel as halves x * 256. Words lie by column pair, then
row, then channel, at distances that do not depend on the layer. Then channel by channel, its weights in registers, two
by two outputs are computed, two SMLAD-like instructions a row of the kernel and output:

    stride 1    (x0 x1)(w0 w1) + x2 w2  and  x1 w0 + (x2 x3)(w1 w2)
    stride 2    (x0 x1)(w0 w1) + x2 w2  and  (x2 x3)(w0 w1) + x4 w2

Of an odd number of columns or rows the last outputs are computed twice and stored in the same place, the true one last.
Where four do not divide the channels the last four are some of those before again, and bytes are gathered, not words.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen import requantise
from midgehost.codegen.armv7emsp import packing
from midgehost.codegen.armv7emsp.block import Kind, kind
from midgehost.codegen.armv7emsp.frame import IN0, OUT, PARAMS, ROW0, ROW1, SCRATCH, WEIGHTS, Frame
from midgehost.codegen.armv7emsp.stage import Exact, Line, Stage, exact_stage, line_stage
from midgehost.codegen.asm.thumb import LR, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12, SP
from midgehost.codegen.asm.thumb2 import Thumb2, asr, lsl
from midgehost.codegen.machine import MachineCall, Routine
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.ops.convolution import kernel_window
from midgehost.models.ops.window import Window

_CHANNELS: Final = 4  # of a row of a call
_WORD: Final = 4 * _CHANNELS  # bytes from one row of a column pair to the next
_OUT_ROWS: Final = {1: 8, 2: 4}  # of a strip, by stride
_IN_ROWS: Final = {1: 10, 2: 9}
_PRE, _POST, _X_BITS = 14, 16, 8  # of a line: weights take the part of `pre` that activations do not
_SUM_BITS: Final = 31 - _X_BITS
# Parameters
_PARAMS: Final = (
    "first_channel", "strips", "channels", "out_width", "out_height", "in_height", "in_width", "pad_height", "first_x",
    "end_x", "full", "odd", "fill", "quad_bytes", "last_channel",
)  # fmt: skip
_VALUES: Final = (
    *_PARAMS, "in0", "first_out", "weights", "scratch", "row", "row1",
    "in_row", "out_row", "stream", "row_pairs", "odd_row", "top", "middle", "bottom", "corner", "target",
    "channel", "channel_out", "pair", "down", "right", "diagonal", "in_end", "odd_left", "next_in", "next_out",
    "stage0", "stage1", "stage2", "stage3", "low", "high",
)  # fmt: skip
_IN, _OUT, _X0, _X1, _X2 = R7, R4, R5, R6, LR
_OUTPUTS = (R0, R1, R2, R3)  # left and right of the upper row, then of the lower
_WEIGHTS = (R8, R9, R10, R11, R12, LR)


def depthwise_conv_2d(node: Node, tile_bytes: int | None) -> list[MachineCall] | None:
    """The calls of a DEPTHWISE_CONV_2D, or None."""
    source, weights = node.input(0), node.input(1).array()
    window = kernel_window(node)
    stride, channels = window.stride_height, source.shape[3]
    sizes = window.height, window.width, window.dilation_height, window.dilation_width
    if sizes != (3, 3, 1, 1) or stride not in _OUT_ROWS or window.stride_width != stride:
        return None
    if source.shape[0] != 1 or weights.shape[3] != channels or channels < _CHANNELS:
        return None
    layer = requantise.layer(node)
    stage = line_stage(layer, _PRE, _POST) or exact_stage(layer, _SUM_BITS)
    if stage is None:
        return None
    stream = _stream(packing.live_rows(np.moveaxis(weights, 3, 0), layer), stage, stride)
    tile = len(stream) if tile_bytes is None else tile_bytes // len(stream[0])
    if not tile:
        return None
    strips = -(-window.out_height // _OUT_ROWS[stride])
    pairs, words = _column_pairs(window), channels % _CHANNELS == 0
    params = [
        strips,
        channels,
        window.out_width,
        window.out_height,
        window.in_height,
        window.in_width,
        window.pad_height,
        -window.pad_width,
        2 * pairs - window.pad_width,
        window.out_width // 2,
        window.out_width % 2,
        int.from_bytes(4 * (source.zero_point & 0xFF).to_bytes(1), "little", signed=True),
        len(stream[0]),
        channels - _CHANNELS,
    ]
    if isinstance(stage, Exact):
        params += [stage.low, stage.high]
    calls: list[MachineCall] = []
    for first in range(0, len(stream), tile):
        part = stream[first : first + tile]
        calls.append(
            MachineCall(
                depthwise_routine(stride, kind(stage), words),
                Place(source.index),
                Place(node.output.index),
                weights=b"".join(part),
                params=[_CHANNELS * first, *params],
                scratch_bytes=pairs * _IN_ROWS[stride] * _WORD,
                rows=strips * len(part),
                macs=9 * node.output.elements * len(part) // len(stream),
                cost=len(part) * _quad_cost(window, words, stage),
            )
        )
    return calls


def _quad_cost(window: Window, words: bool, stage: Stage) -> float:
    """Estimated cycles of four channels."""
    stride, width = window.stride_height, window.out_width
    strips, row_pairs = -(-window.out_height // _OUT_ROWS[stride]), (window.out_height + 1) // 2
    rows = 2 * row_pairs * stride + strips * (3 - stride)
    block = (62 if stride == 1 else 70) + (14 if isinstance(stage, Exact) else 0)
    gather = _column_pairs(window) * ((20 if words else 29) * rows + 45 * strips)
    return 230 * strips + gather + 4 * row_pairs * (34 + 14 * (width % 2) + (width + 1) // 2 * block)


def _column_pairs(window: Window) -> int:
    """How many of the padded image the windows see."""
    return (window.out_width + 1) // 2 * window.stride_width + 1


def _stream(weights: NDArray[Any], stage: Stage, stride: int) -> list[bytes]:
    """For each four channels, one after the other, the weights as the registers hold them and the stage's constants.

    `weights` [channels, 9].
    """
    rows = weights.reshape(-1, 3, 3).astype(np.int16)
    if isinstance(stage, Line):
        rows = rows << (_PRE - _X_BITS)
    left = rows[:, :, 0:2].reshape(-1, 6)
    last = np.pad(rows[:, :, 2], ((0, 0), (0, 1)))
    words = np.concatenate([left, rows[:, :, 1:3].reshape(-1, 6) if stride == 1 else last], axis=1)
    found: list[bytes] = []
    for channel, halves in enumerate(words):
        row = stage.rows[channel]
        constants = row if isinstance(stage, Line) else (2 * stage.biases[channel], *row)
        found.append(halves.astype("<i2").tobytes() + struct.pack(f"<{len(constants)}i", *constants))
    return [b"".join(found[first : first + _CHANNELS]) for first in packing.first_rows(len(found))]


@cache
def depthwise_routine(stride: int, stage: Kind, words: bool) -> Routine:
    """Scratch: the transposed strip. Parameters: those of _PARAMS, low and high if the stage is exact."""
    a = Thumb2()
    frame = Frame(a, *_VALUES)
    frame.enter()
    a.ldr(R7, R0, PARAMS)
    frame.copy(R1, R7, *((4 * i, name) for i, name in enumerate(_PARAMS)))
    if stage != "line":
        frame.copy(R1, R7, *((4 * (len(_PARAMS) + i), name) for i, name in enumerate(("low", "high"))))
    frame.copy(R1, R0, (IN0, "in0"), (OUT, "first_out"), (WEIGHTS, "weights"), (SCRATCH, "scratch"), (ROW0, "row"))
    frame.copy(R1, R0, (ROW1, "row1"))
    row = a.label()
    _place(a, frame, stride)
    _gather(a, frame, stride, words)
    _compute(a, frame, stride, stage)
    frame.load(R0, "row")
    frame.load(R1, "row1")
    a.adds_imm(R0, R0, 1)
    frame.store(R0, "row")
    a.cmp(R0, R1)
    a.bcond_w("ne", row)
    frame.leave()
    return Routine(f"armv7emsp.depthwise.{stride}.{'words' if words else 'bytes'}.{stage}", a.code())


def _place(a: Thumb2, frame: Frame, stride: int) -> None:
    """Where this row's strip and channels are, and how much of it lies outside of the image."""
    names = ("row", "strips", "channels", "out_width", "quad_bytes")
    for register, name in zip((R0, R1, R2, R3, R4), names, strict=True):
        frame.load(register, name)
    a.udiv(R5, R0, R1)  # quad
    a.mls(R6, R5, R1, R0)  # strip
    frame.load(R1, "weights")
    a.mla(R1, R5, R4, R1)
    frame.store(R1, "stream")
    frame.load(R1, "first_channel")
    frame.load(R4, "last_channel")
    a.add_w(R5, R1, R5, lsl(2))
    a.cmp(R5, R4)
    a.it("hi")
    a.mov(R5, R4)  # channel
    a.muls(R3, R2)
    frame.store(R3, "out_row")
    a.lsls_imm(R6, R6, _OUT_ROWS[stride].bit_length() - 1)  # first output row
    a.mul(R3, R3, R6)
    frame.load(R1, "first_out")
    a.adds(R1, R1, R3)
    a.adds(R1, R1, R5)
    frame.store(R1, "channel_out")
    frame.load(R0, "out_height")
    a.subs(R0, R0, R6)
    a.cmp_imm(R0, _OUT_ROWS[stride])
    a.it("hi")
    a.mov_imm_w(R0, _OUT_ROWS[stride])  # output rows
    a.and_imm_w(R1, R0, 1)
    frame.store(R1, "odd_row")
    a.adds(R0, R0, R1)
    a.lsrs_imm(R1, R0, 1)
    frame.store(R1, "row_pairs")
    a.lsls_imm(R0, R0, stride - 1) if stride > 1 else a.adds_imm(R0, R0, 1)
    a.adds_imm(R0, R0, 1)  # input rows
    a.lsls_imm(R6, R6, stride - 1) if stride > 1 else None
    frame.load(R1, "pad_height")
    a.subs(R6, R6, R1)  # first input row
    frame.load(R1, "in_height")
    a.adds(R3, R6, R0)
    a.subs(R3, R3, R1)
    a.bic_w(R3, R3, R3, asr(31))
    frame.store(R3, "bottom")
    a.rsbs(R4, R6)
    a.bic_w(R4, R4, R4, asr(31))
    frame.store(R4, "top")
    a.subs(R0, R0, R3)
    a.subs(R0, R0, R4)
    frame.store(R0, "middle")
    a.adds(R6, R6, R4)
    frame.load(R1, "in_width")
    a.muls(R1, R2)
    frame.store(R1, "in_row")
    frame.load(R0, "in0")
    a.mla(R0, R1, R6, R0)
    a.adds(R0, R0, R5)
    frame.store(R0, "corner")


def _gather(a: Thumb2, frame: Frame, stride: int, words: bool) -> None:
    """The strip, transposed; column pair by column pair."""
    frame.load(LR, "first_x")
    frame.load(R4, "scratch")
    a.mov_imm_w(R8, 0xFF00FF00)
    column = a.label()
    frame.store(R4, "target")
    for register, name in ((R5, "corner"), (R6, "channels"), (R7, "in_width"), (R2, "in_row")):
        frame.load(register, name)
    a.mla(R0, LR, R6, R5)
    a.adds(R1, R0, R6)
    a.mov(R3, R2)
    a.add_imm_w(R12, LR, 1)
    for x, source, step in ((LR, R0, R2), (R12, R1, R3)):
        a.cmp(x, R7)
        a.it("cs", "t")
        a.add_imm_w(source, SP, frame.at("fill"))
        a.mov_imm_w(step, 0)
    _fill_rows(a, frame, "top")
    frame.load(R5, "middle")
    again = a.label()
    (_transpose_words if words else _transpose_bytes)(a)
    a.adds(R0, R0, R2)
    a.adds(R1, R1, R3)
    a.stm_w(R4, (R9, R10, R11, R12))
    a.subs_imm(R5, R5, 1)
    a.bcond("ne", again)
    _fill_rows(a, frame, "bottom")
    frame.load(R4, "target")
    frame.load(R0, "end_x")
    a.add_imm_w(LR, LR, 2)
    a.adds_imm(R4, R4, _pitch(stride))
    a.cmp(LR, R0)
    a.bcond_w("ne", column)


def _transpose_words(a: Thumb2) -> None:
    """R9 to R12: the channels of the pixels at R0 and R1, pairs of halves; R8 the mask of odd bytes."""
    a.ldr(R6, R0)
    a.ldr(R7, R1)
    a.pkhbt(R10, R6, R7, lsl(16))  # channels 0 and 1 of both
    a.pkhtb(R12, R7, R6, asr(16))  # channels 2 and 3
    a.and_w(R9, R8, R10, lsl(8))
    a.and_w(R10, R10, R8)
    a.and_w(R11, R8, R12, lsl(8))
    a.and_w(R12, R12, R8)


def _transpose_bytes(a: Thumb2) -> None:
    """As _transpose_words, from any address."""
    for channel, two in ((0, (R9, R10)), (2, (R11, R12))):
        for i, register in enumerate(two):
            a.ldrb_w(register, R0, channel + i)
        for i, register in enumerate((R6, R7)):
            a.ldrb(register, R1, channel + i)
        for register, other in zip(two, (R6, R7), strict=True):
            a.orr_w(register, register, other, lsl(16))
    for register in (R9, R10, R11, R12):
        a.lsl_imm_w(register, register, 8)


def _pitch(stride: int) -> int:
    """Bytes from a column pair to the next."""
    return _IN_ROWS[stride] * _WORD


def _fill_rows(a: Thumb2, frame: Frame, count: str) -> None:
    """Rows outside of the image."""
    frame.load(R5, count)
    a.cbz(R5, done := a.fresh("filled"))
    frame.load(R9, "fill")
    a.and_w(R9, R9, R8)
    for register in (R10, R11, R12):
        a.mov(register, R9)
    again = a.label()
    a.stm_w(R4, (R9, R10, R11, R12))
    a.subs_imm(R5, R5, 1)
    a.bcond("ne", again)
    a.label(done)


def _compute(a: Thumb2, frame: Frame, stride: int, stage: Kind) -> None:
    """All four channels of the strip."""
    frame.load(R0, "scratch")
    channel = a.label()
    frame.store(R0, "channel")
    frame.load(_OUT, "channel_out")
    frame.load(_IN, "channel")
    frame.load(R5, "stream")
    weights = _WEIGHTS[: 6 if stride == 1 else 5]
    a.ldm_w(R5, weights)
    for i in range(2 if stage == "line" else 4):
        a.ldr_post(R0, R5, 4)
        frame.store(R0, f"stage{i}")
    frame.store(R5, "stream")
    frame.load(R0, "row_pairs")
    frame.load(R1, "out_row")
    frame.store(R1, "down")
    pair = a.label()
    # R0 pairs of rows left, R1 bytes between output rows
    frame.store(R0, "pair")
    a.cmp_imm(R0, 1)
    a.bcond("ne", even := a.fresh("even"))
    frame.load(R2, "odd_row")
    a.cbz(R2, even)
    a.movs(R1, 0)
    frame.store(R1, "down")
    a.label(even)
    a.add_imm_w(R2, _IN, 2 * stride * _WORD)
    frame.store(R2, "next_in")
    frame.load(R2, "out_row")
    a.add_w(R2, _OUT, R2, lsl(1))
    frame.store(R2, "next_out")
    frame.load(R2, "channels")
    frame.load(R3, "full")
    frame.load(R0, "odd")
    frame.store(R2, "right")
    frame.store(R0, "odd_left")
    a.adds(R1, R1, R2)
    frame.store(R1, "diagonal")
    a.movw(R0, stride * _pitch(stride))
    a.mla(R0, R0, R3, _IN)
    frame.store(R0, "in_end")
    a.cmp_imm(R3, 0)
    a.bcond_w("eq", last := a.fresh("last"))
    block = a.label()
    (_block1 if stride == 1 else _block2)(a)
    _finish(a, frame, stage)
    frame.load(_X0, "diagonal")
    frame.load(_X1, "down")
    a.strb_reg(_OUTPUTS[3], _OUT, _X0)
    a.strb_reg(_OUTPUTS[2], _OUT, _X1)
    frame.load(_X0, "right")
    a.strb_reg(_OUTPUTS[1], _OUT, _X0)
    a.strb(_OUTPUTS[0], _OUT)
    frame.load(_X1, "in_end")
    a.add_w(_OUT, _OUT, _X0, lsl(1))
    a.add_imm_w(_IN, _IN, stride * _pitch(stride))
    a.cmp(_IN, _X1)
    a.bcond_w("ne", block)
    a.label(last)
    frame.load(R0, "odd_left")
    a.cbz(R0, row_done := a.fresh("row_done"))
    a.movs(R0, 0)
    frame.store(R0, "odd_left")
    frame.store(R0, "right")
    frame.load(R0, "down")
    frame.store(R0, "diagonal")
    a.add_imm_w(R0, _IN, stride * _pitch(stride))
    frame.store(R0, "in_end")
    a.b_w(block)
    a.label(row_done)
    frame.load(R0, "pair")
    frame.load(R1, "out_row")
    frame.load(_IN, "next_in")
    frame.load(_OUT, "next_out")
    a.subs_imm(R0, R0, 1)
    a.bcond_w("ne", pair)
    frame.load(R1, "channel_out")
    a.adds_imm(R1, R1, 1)
    frame.store(R1, "channel_out")
    frame.load(R0, "channel")
    a.adds_imm(R0, R0, 4)
    a.tst_imm_w(R0, _WORD - 1)
    a.bcond_w("ne", channel)


def _block1(a: Thumb2) -> None:
    """Two by two outputs, stride 1: four rows of two words at _IN."""
    left, right = _WEIGHTS[:3], _WEIGHTS[3:]  # (w0 w1) and (w1 w2), by kernel row
    for row in range(4):
        a.ldr_w(_X0, _IN, row * _WORD)
        a.ldr_w(_X1, _IN, _pitch(1) + row * _WORD)
        for below in (0, 1):
            kernel = row - below
            if not 0 <= kernel < 3:
                continue
            first, second = _OUTPUTS[2 * below], _OUTPUTS[2 * below + 1]
            if kernel == 0:
                a.smuad(first, _X0, left[0])
                a.smultb(second, _X0, left[0])
            else:
                a.smlad(first, _X0, left[kernel], first)
                a.smlatb(second, _X0, left[kernel], second)
            a.smlabt(first, _X1, right[kernel], first)
            a.smlad(second, _X1, right[kernel], second)


def _block2(a: Thumb2) -> None:
    """Two by two outputs, stride 2: five rows of three words at _IN."""
    left = _WEIGHTS[:3]  # (w0 w1) by kernel row; w2 of the rows 0 and 1, then of row 2

    def last(register: int, x: int, kernel: int) -> None:
        multiply = a.smlabt if kernel == 1 else a.smlabb
        multiply(register, x, _WEIGHTS[3 + kernel // 2], register)

    for row in range(5):
        for i, register in enumerate((_X0, _X1, _X2)):
            a.ldr_w(register, _IN, row * _WORD + i * _pitch(2))
        for below in (0, 1):
            kernel = row - 2 * below
            if not 0 <= kernel < 3:
                continue
            for output, pair, single in ((0, _X0, _X1), (1, _X1, _X2)):
                register = _OUTPUTS[2 * below + output]
                if kernel == 0:
                    a.smuad(register, pair, left[0])
                else:
                    a.smlad(register, pair, left[kernel], register)
                last(register, single, kernel)


def _finish(a: Thumb2, frame: Frame, stage: Kind) -> None:
    """From the four sums, 2^14 or 2^8 times too large, to int8."""
    frame.load(_X0, "stage0")
    frame.load(_X1, "stage1")
    if stage == "line":
        for register in _OUTPUTS:
            a.smmla(register, register, _X0, _X1)
        for register in _OUTPUTS:
            a.ssat(register, 8, register, asr(_POST))
        return
    for register in _OUTPUTS:
        a.add_w(register, _X0, register, asr(_X_BITS - 1))
        a.smmulr(register, register, _X1)
        a.add_w(register, register, register, asr(31))
    frame.load(_X0, "stage2")
    frame.load(_X1, "stage3")
    for register in _OUTPUTS:
        a.add_w(register, register, _X0)
        a.asr_w(register, register, _X1)
        a.ssat(register, 8, register)
    if stage == "clamped":
        frame.load(_X0, "low")
        frame.load(_X1, "high")
        for register in _OUTPUTS:
            a.cmp(register, _X0)
            a.it("lt")
            a.mov(register, _X0)
            a.cmp(register, _X1)
            a.it("gt")
            a.mov(register, _X1)
