"""Depthwise 3 x 3 convolutions, stride 1 or 2, a channel at a time: two output rows to a word.

A few channels are gathered into planes of packed words, pixel (y, x) with (y + distance, x), zero points around them:
so a window over words gives the outputs of two rows, `distance` input rows apart. The upper half of a band of output
rows is paired with the lower one; where their number is odd both compute the row in the middle.

A word of outputs takes 9 products of 9 words, of which those of the last columns stay in registers: the three columns
change roles from word to word, so the code is unrolled by three. Where sums are flushed depends on the channel's
weights: there is code for each of PATTERNS, column by column.

A call's rows are (group of channels, band) pairs. The stream holds for each channel its weights in int8, a byte of
nothing, the header of its pattern (int16), and its tail's parameters.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# isort: off
from midgehost.codegen.asm.rv32 import (
    A0, A1, A2, A3, A4, A5, A6, A7, RA, S0, S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, SP,
    T0, T1, T2, T3, T4, T5, T6, Rv32,
)  # fmt: skip

# isort: on
from midgehost.codegen.machine import Form, MachineCall, Routine
from midgehost.codegen.rv32imc import packing
from midgehost.codegen.rv32imc.frame import Frame
from midgehost.codegen.rv32imc.parameters import Parameters
from midgehost.codegen.rv32imc.tails import Tails, emit_bend, emit_clamp, emit_line
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.ops.convolution import kernel_window
from midgehost.models.ops.window import Window

SIZE: Final = 3
PATTERNS: Final = (5, 4), (3, 3, 3), (2, 2, 3, 2), (2, 2, 2, 2, 1)  # taps between flushes
POST: Final = 16  # the shift behind the high word
_PLANE_BYTES: Final = 8192  # of scratch that the planes should not exceed
_GROUPS: Final = (4, 2, 1)  # channels gathered at a time

_WEIGHTS: Final = (S2, S3, S4, S5, S6, S7, S8, S9, S10)  # column by column
_COLUMNS: Final = ((A0, A1, A2), (A3, A4, A5), (S0, S1, A6))
_PRODUCT, _BIAS, _PRE, _LOW, _HIGH, _AT, _LOWER, _END, _STEP, _WORDS = T6, T5, T4, T3, T2, T1, T0, A7, S11, RA

_NAMES: Final = (
    "bands", "band_rows", "last_band", "last_group", "channels", "group_shift", "low", "high", "pre", "pivot", "fill",
    "fill_words", "height", "row_bytes", "pad_height", "distance", "distance_bytes", "plane_rows", "columns",
    "pad_bytes", "slot", "out_row_bytes", "word_rows", "lower_bytes", "gather",
)  # fmt: skip


class _Program:
    """The routine for one stride, pitch of planes (bytes) and tail."""

    def __init__(self, stride: int, pitch: int, bent: bool) -> None:
        self.a = a = Rv32()
        self._stride, self._pitch, self._bent = stride, pitch, bent
        self.record_bytes = 12 + (12 if bent else 8)
        self._frame = Frame(
            a,
            [
                "plane", "slot", "channel_place", "record", "words", "rows", "pattern", "multiplier", "addend", "delta",
                "pivot", "low", "high", "pre", "channels", "out_row_bytes", "lower_bytes", "word_rows", "fill",
            ],
        )  # fmt: skip
        self.parameters = Parameters(a, _NAMES)
        self._anchor = a.fresh("anchor")
        self._patterns = [a.fresh("pattern") for _ in PATTERNS]
        self._gathers = {group: a.fresh("gather") for group in _GROUPS}
        self._row, self._channel, self._word_row, self._row_done = map(a.fresh, ("row", "channel", "words", "done"))
        self._emit()
        self.routine = Routine(f"depthwise_{stride}_{pitch}{'_bent' if bent else ''}", a.code())

    def header(self, pattern: int) -> int:
        """What leads to a pattern's code."""
        return self.a.address(self._patterns[pattern]) - self.a.address(self._anchor)

    def gather(self, group: int) -> int:
        """What leads to the code that gathers so many channels."""
        return self.a.address(self._gathers[group]) - self.a.address(self._anchor)

    def _emit(self) -> None:
        a, p, frame = self.a, self.parameters, self._frame
        frame.enter()
        frame.load(S0, "params")
        for name in ("low", "high", "pre", "pivot", "channels", "out_row_bytes", "lower_bytes", "word_rows", "slot"):
            p.load(T0, S0, name)
            frame.store(T0, name)
        self._clear()
        a.label(self._row)
        self._begin_row()
        a.label(self._channel)
        self._begin_channel()
        a.label(self._word_row)
        self._begin_word_row()
        a.label(self._row_done)
        self._end_word_row()
        a.label(self._anchor)
        for label, pattern in zip(self._patterns, PATTERNS, strict=True):
            a.label(label)
            self._words(label, pattern)

    def _clear(self) -> None:
        """Fills the planes with packed zero points: their edges are never written again."""
        a, p, frame = self.a, self.parameters, self._frame
        p.load(T0, S0, "fill")
        a.andi(T1, T0, 0xFF)
        a.slli(T2, T1, 8)
        a.or_(T1, T1, T2)
        a.slli(T2, T1, 16)
        a.or_(T1, T1, T2)
        frame.store(T1, "fill")  # four bytes of zero points, a source for rows outside
        a.slli(T1, T0, 16)
        a.add(T0, T0, T1)
        frame.load(A0, "scratch")
        p.load(A1, S0, "fill_words")
        a.slli(A1, A1, 2)
        a.add(A1, A1, A0)
        loop = a.label()
        for i in range(8):
            a.sw(T0, A0, 4 * i)
        a.addi(A0, A0, 32)
        a.bltu(A0, A1, loop)

    def _begin_row(self) -> None:
        """Finds group and band of row0 and gathers their planes."""
        a, p, frame = self.a, self.parameters, self._frame
        more = a.fresh("more")
        frame.load(A0, "row0")
        frame.load(A1, "row1")
        a.blt(A0, A1, more)
        frame.leave()
        a.label(more)
        frame.load(S0, "params")
        p.load(A1, S0, "bands")
        a.divu(S1, A0, A1)
        a.remu(A2, A0, A1)
        p.load(T0, S0, "group_shift")
        a.sll(S1, S1, T0)
        p.load(T0, S0, "last_group")
        self._least(S1, T0)  # S1: the group's first channel
        p.load(T0, S0, "band_rows")
        a.mul(A2, A2, T0)
        p.load(T0, S0, "last_band")
        self._least(A2, T0)  # A2: the band's first output row
        a.li(T0, self.record_bytes)
        a.mul(T0, T0, S1)
        frame.load(T1, "weights")
        a.add(T0, T0, T1)
        frame.store(T0, "record")
        frame.load(T0, "out")
        p.load(T1, S0, "out_row_bytes")
        a.mul(T1, T1, A2)
        a.add(T0, T0, T1)
        a.add(T0, T0, S1)
        frame.store(T0, "channel_place")
        if self._stride == 2:
            a.slli(A2, A2, 1)
        p.load(T0, S0, "pad_height")
        a.sub(A2, A2, T0)  # A2: the band's first input row
        frame.load(A0, "in0")
        p.load(S2, S0, "row_bytes")
        a.mul(T0, A2, S2)
        a.add(A0, A0, T0)
        a.add(A0, A0, S1)  # A0: the group in that row
        frame.load(A3, "scratch")
        frame.store(A3, "plane")
        p.load(T0, S0, "pad_bytes")
        a.add(A3, A3, T0)  # A3: where its first column goes
        p.load(S3, S0, "plane_rows")
        p.load(S4, S0, "height")
        p.load(S5, S0, "distance")
        p.load(S6, S0, "distance_bytes")
        p.load(S7, S0, "columns")
        a.slli(S7, S7, 2)
        p.load(S9, S0, "channels")
        p.load(T0, S0, "gather")
        a.la(S10, self._anchor)
        a.add(T0, T0, S10)
        self._gather(T0)

    def _gather(self, loop: int) -> None:
        """Rows of the planes: A0 and A2 are the group's place and number in the row of the low pixels, A3 the words."""
        a, frame = self.a, self._frame
        low_inside, high_inside, next_row = map(a.fresh, ("low", "high", "next"))
        rows = a.label()
        low, low_step, high, high_step = A4, A5, A6, A7
        a.mv(low, A0)
        a.mv(low_step, S9)
        a.bltu(A2, S4, low_inside)
        a.addi(low, SP, frame.offset("fill"))
        a.li(low_step, 0)
        a.label(low_inside)
        a.add(high, A0, S6)
        a.mv(high_step, S9)
        a.add(T1, A2, S5)
        a.bltu(T1, S4, high_inside)
        a.addi(high, SP, frame.offset("fill"))
        a.li(high_step, 0)
        a.label(high_inside)
        a.mv(S11, A3)
        a.add(T1, A3, S7)
        a.jr(loop)
        for group, label in self._gathers.items():
            a.label(label)
            for i in range(group):
                a.lb(T5, low, i)
                a.lb(T6, high, i)
                a.slli(T6, T6, 16)
                a.add(T5, T5, T6)
                a.sw(T5, S11, i * self._pitch // group)
            a.add(low, low, low_step)
            a.add(high, high, high_step)
            a.addi(S11, S11, 4)
            a.bne(S11, T1, label)
            a.j(next_row)
        a.label(next_row)
        a.add(A0, A0, S2)
        a.addi(A2, A2, 1)
        a.addi(A3, A3, self._pitch)
        a.addi(S3, S3, -1)
        a.bnez(S3, rows)

    def _least(self, value: int, limit: int) -> None:
        below = self.a.fresh("below")
        self.a.bge(limit, value, below)
        self.a.mv(value, limit)
        self.a.label(below)

    def _begin_channel(self) -> None:
        a, frame = self.a, self._frame
        frame.load(A0, "record")
        for i, weight in enumerate(_WEIGHTS):
            a.lb(weight, A0, i)
        a.lh(A1, A0, 10)
        a.la(A2, self._anchor)
        a.add(A1, A1, A2)
        frame.store(A1, "pattern")
        for i, name in enumerate(("multiplier", "addend", "delta")[: 3 if self._bent else 2]):
            a.lw(A1, A0, 12 + 4 * i)
            frame.store(A1, name)
        a.addi(A0, A0, self.record_bytes)
        frame.store(A0, "record")
        frame.load(_AT, "channel_place")
        a.addi(A1, _AT, 1)
        frame.store(A1, "channel_place")
        frame.load(A1, "plane")
        frame.store(A1, "words")
        frame.load(A1, "word_rows")
        frame.store(A1, "rows")
        a.li(_BIAS, packing.BIAS)
        for register, name in ((_PRE, "pre"), (_LOW, "low"), (_HIGH, "high"), (_LOWER, "lower_bytes")):
            frame.load(register, name)
        frame.load(_STEP, "channels")

    def _begin_word_row(self) -> None:
        a, frame = self.a, self._frame
        frame.load(_WORDS, "words")
        frame.load(_END, "out_row_bytes")
        frame.load(_PRODUCT, "pattern")
        a.add(_END, _END, _AT)
        for column in range(SIZE - self._stride):
            self._load_column(_COLUMNS[column], column)
        a.jr(_PRODUCT)

    def _load_column(self, registers: Sequence[int], column: int) -> None:
        for y, register in enumerate(registers):
            self.a.lw(register, _WORDS, y * self._pitch + 4 * column)

    def _words(self, loop: str, pattern: Sequence[int]) -> None:
        """The words of a row for one pattern, three in a round."""
        a, stride = self.a, self._stride
        columns = list(_COLUMNS)
        for k in range(SIZE):
            for new in range(SIZE - stride, SIZE):
                self._load_column(columns[new], k * stride + new)
            self._word(columns, pattern)
            columns = columns[stride:] + columns[:stride]
            if k < SIZE - 1:
                a.beq(_AT, _END, self._row_done)
        a.addi(_WORDS, _WORDS, 4 * SIZE * stride)
        a.bne(_AT, _END, loop)
        a.j(self._row_done)

    def _word(self, columns: Sequence[Sequence[int]], pattern: Sequence[int]) -> None:
        """Two outputs. The first column is used up: its registers become sum, accumulators and constants."""
        a = self.a
        inputs = [register for column in columns for register in column]
        free: list[int] = []
        accumulators: tuple[int, int] | None = None
        tap = 0
        for length in pattern:
            total = inputs[tap] if tap < SIZE else free.pop()
            a.mul(total, inputs[tap], _WEIGHTS[tap])
            for later in range(tap + 1, tap + length):
                product = inputs[later] if later < SIZE else _PRODUCT
                a.mul(product, inputs[later], _WEIGHTS[later])
                a.add(total, total, product)
                if later < SIZE:
                    free.append(product)
            tap += length
            if accumulators is None:
                accumulators = total, free.pop()
                a.add(accumulators[1], total, _BIAS)
                a.srai(accumulators[1], accumulators[1], 16)
            else:
                a.add(accumulators[0], accumulators[0], total)
                a.add(total, total, _BIAS)
                a.srai(total, total, 16)
                a.add(accumulators[1], accumulators[1], total)
                free.append(total)
        assert accumulators is not None
        self._tail(accumulators, free.pop())

    def _tail(self, accumulators: tuple[int, int], free: int) -> None:
        a, frame = self.a, self._frame
        low, high = accumulators
        a.slli(_PRODUCT, high, 16)
        a.sub(low, low, _PRODUCT)
        frame.load(free, "multiplier")
        frame.load(_PRODUCT, "addend")
        for raw in accumulators:
            emit_line(a, raw, (_PRE, POST), (free, _PRODUCT))
        if self._bent:
            frame.load(free, "pivot")
            frame.load(_PRODUCT, "delta")
            for y in accumulators:
                emit_bend(a, y, free, _PRODUCT)
        for value in accumulators:
            a.srai(value, value, POST)
            emit_clamp(a, value, _LOW, _HIGH)
        a.sb(low, _AT)
        a.add(_PRODUCT, _AT, _LOWER)
        a.sb(high, _PRODUCT)
        a.add(_AT, _AT, _STEP)

    def _end_word_row(self) -> None:
        a, frame = self.a, self._frame
        frame.load(A0, "words")
        frame.load(A1, "rows")
        a.addi(A0, A0, self._stride * self._pitch)
        frame.store(A0, "words")
        a.addi(A1, A1, -1)
        frame.store(A1, "rows")
        a.bnez(A1, self._word_row)
        frame.load(A0, "plane")
        frame.load(A1, "slot")
        frame.load(A2, "scratch")
        a.add(A0, A0, A1)
        frame.store(A0, "plane")
        a.addi(A2, A2, self._pitch)
        a.bne(A0, A2, self._channel)
        frame.load(A0, "row0")
        a.addi(A0, A0, 1)
        frame.store(A0, "row0")
        a.j(self._row)


@cache
def _program(stride: int, pitch: int, bent: bool) -> _Program:
    return _Program(stride, pitch, bent)


@dataclass(frozen=True)
class _Shape:
    """How a layer is cut: planes of `rows` times `pitch` bytes for `group` channels, bands of `band` output rows."""

    stride: int
    pitch: int
    group: int
    band: int
    bands: int
    rows: int

    @classmethod
    def of(cls, window: Window, channels: int) -> _Shape | None:
        """None where a row of words does not fit a pitch."""
        stride = window.stride_width
        words = (window.out_width - 1) * stride + SIZE
        pitch = next((pitch for pitch in (256, 512) if 4 * words <= pitch), None)
        if pitch is None:
            return None
        group = next(g for g in _GROUPS if g <= channels and 4 * words * g <= pitch)
        most = 2 * ((_PLANE_BYTES // pitch - SIZE) // stride + 1)
        bands = -(-window.out_height // most)
        band = -(-window.out_height // bands)
        half = (band + 1) // 2
        return cls(stride, pitch, group, band, bands, (half - 1) * stride + SIZE)


def depthwise_conv_2d(node: Node, form: Form, tile_bytes: int | None) -> list[MachineCall] | None:
    """The calls of a depthwise layer; None for other windows than 3 x 3 at stride 1 or 2, batches, dilation, several
    filters a channel, and where a channel has no fitting pattern or tail. Both forms of weights are the same."""
    source, window = node.input(0), kernel_window(node)
    if source.shape[0] != 1 or node.output.shape[3] != source.shape[3]:
        return None
    if (window.height, window.width, window.dilation_height, window.dilation_width) != (SIZE, SIZE, 1, 1):
        return None
    if window.stride_height != window.stride_width or window.stride_width > 2:
        return None
    channels = node.input(0).shape[3]
    weights = node.input(1).array()[0].transpose(2, 1, 0).reshape(channels, SIZE * SIZE)  # column by column
    shape = _Shape.of(window, channels)
    tails = Tails.of(node, (POST,))
    kind = tails.kind(range(channels))
    if shape is None or kind == "exact":
        return None
    program = _program(shape.stride, shape.pitch, kind == "bent")
    live = np.where([[tails.constant(channel)] for channel in range(channels)], 0, weights).astype(np.int8)
    patterns = [_pattern(row) for row in live]
    records: list[bytes] = []
    for channel, pattern in enumerate(patterns):
        if pattern is None:
            return None
        words = tails.words(channel, kind)
        records.append(struct.pack(f"<9sxh{len(words)}i", live[channel].tobytes(), program.header(pattern), *words))
    limit = channels if tile_bytes is None else tile_bytes // program.record_bytes
    if limit < shape.group:
        return None
    calls: list[MachineCall] = []
    for first in range(0, channels, limit):
        first = min(first, channels - shape.group)
        count = min(limit, channels - first)
        groups = -(-count // shape.group)
        cost = sum(_cost(window, shape, PATTERNS[pattern or 0]) for pattern in patterns[first : first + count])
        calls.append(
            MachineCall(
                program.routine,
                Place(node.input(0).index, first),
                Place(node.output.index, first),
                weights=b"".join(records[first : first + count]),
                params=program.parameters.values(_words(node, window, shape, program, tails, count)),
                scratch_bytes=shape.rows * shape.pitch,
                rows=groups * shape.bands,
                macs=window.out_height * window.out_width * SIZE * SIZE * count,
                cost=cost * groups * shape.group / count,
            )
        )
    return calls


def _words(node: Node, window: Window, shape: _Shape, program: _Program, tails: Tails, count: int) -> dict[str, int]:
    """The parameters of a call for `count` channels."""
    channels = node.input(0).shape[3]
    half = (shape.band + 1) // 2
    distance = shape.stride * (shape.band - half)
    row_bytes, out_row_bytes = window.in_width * channels, window.out_width * channels
    columns = (window.out_width - 1) * shape.stride + SIZE
    return {
        "bands": shape.bands,
        "band_rows": shape.band,
        "last_band": window.out_height - shape.band,
        "last_group": count - shape.group,
        "channels": channels,
        "group_shift": shape.group.bit_length() - 1,
        "fill": node.input(0).zero_point,
        "fill_words": shape.rows * shape.pitch // 4,
        "height": window.in_height,
        "row_bytes": row_bytes,
        "pad_height": window.pad_height,
        "distance": distance,
        "distance_bytes": distance * row_bytes,
        "plane_rows": shape.rows,
        "columns": min(window.in_width, columns - window.pad_width),
        "pad_bytes": 4 * window.pad_width,
        "slot": shape.pitch // shape.group,
        "out_row_bytes": out_row_bytes,
        "word_rows": half,
        "lower_bytes": (shape.band - half) * out_row_bytes,
        "gather": program.gather(shape.group),
        **tails.layer_words,
    }


def _pattern(weights: NDArray[Any]) -> int | None:
    """The first of PATTERNS that fits a channel's weights."""
    return next((i for i, pattern in enumerate(PATTERNS) if packing.fits(weights, pattern)), None)


def _cost(window: Window, shape: _Shape, pattern: Sequence[int]) -> float:
    """Instructions of a channel."""
    half = (shape.band + 1) // 2
    word = SIZE * shape.stride + 16 + 3 * len(pattern) + 25
    words = half * (window.out_width * word + 22)
    gathered = shape.rows * (window.in_width * (5 + 4 / shape.group) + 25 / shape.group)
    return shape.bands * (words + gathered + 60)
