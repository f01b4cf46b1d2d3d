"""DEPTHWISE_CONV_2D with a 3 x 3 window, stride 1 or 2, one channel's plane at a time.

The plane is packed into words of two rows, half of the output apart: x = row + 65536 * row far below. A group is two
neighbouring columns, two outputs each, so that a weight serves four outputs. T sums products as in `ladder`; it must be
flushed before a half may leave 16 bits, and the taps behind which it is flushed are a *pattern*: there is code for a
few of them, and a channel takes the one with the fewest flushes that its weights' worst case allows. An odd column and
channels that fit no pattern (neighbouring weights of -128) are done a column at a time.

A row of the call is a channel. Its weights: nine int8, the distance from label "base" to the code of its pattern, that
of single columns and that of its form, then the form's constants.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen import requantise
from midgehost.codegen.armv6m import forms
from midgehost.codegen.armv6m.frame import Kernel, signed
from midgehost.codegen.armv6m.requantise import (
    FORMS,
    TABLE_PARAMS,
    Stage,
    TablePlan,
    emit_general,
    emit_table,
    stages,
)
from midgehost.codegen.asm.thumb import (
    LR,
    PC,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    R11,
    R12,
)
from midgehost.codegen.machine import MachineCall, Routine
from midgehost.codegen.requantise import TABLE_POST, Channels
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.ops.convolution import kernel_window
from midgehost.models.ops.window import Window

_PLANE_BYTES: Final = 12_000  # the largest packed plane
_HALF, _SUMS, _STEP = R8, ((R9, R10), (R11, R12)), LR  # 0x8000; A and B of each column; from row to row of the plane
_TAPS: Final = {  # by stride, so that few registers are held
    1: [(dy, dx) for dy in range(3) for dx in (2, 0, 1)],
    2: [(dy, dx) for dy in range(3) for dx in (0, 1, 2)],
}
# Positions in that order behind which there is a flush. Chosen for the shared models: more patterns save little.
_PATTERNS: Final = {
    1: [(4,), (5,), (2, 5), (3, 6), (1, 4), (1, 4, 6), (1, 3, 5, 7)],
    2: [(2,), (4,), (2, 4), (3, 5), (1, 4, 6), (1, 3, 5, 7)],
}
_SINGLES: Final = [(2, 5), (1, 3, 5, 7), tuple(range(8))]  # the last one fits all weights
_PARAMS: Final = (
    "channels", "pixels_far", "groups", "singles", "rows", "back_two", "back_one", "step", "row_back", "record_bytes",
    "plane_at", "plane_blocks", "pad_word", "first_word", "plane_rows", "inner_rows", "pad_top", "far", "in_height",
    "in_row_bytes", "four_bytes", "rest", "row_bytes",
)  # fmt: skip
_VARIABLES: Final = (
    *forms.VARIABLES, *(f"w{i}" for i in range(9)), "coarse", "fine", "addend", "form", "constants", "pattern",
    "single", "tail_two", "tail_one", "these_groups", "these_singles", "left", "rows_left", "columns", "output",
    "plane", "input", "line",
)  # fmt: skip


@dataclass(frozen=True)
class _Sites:
    """Distances from "base" in halfwords."""

    patterns: dict[tuple[int, ...], int]
    singles: dict[tuple[int, ...], int]
    forms: dict[str, int]


@cache
def routine(stride: int) -> tuple[Routine, _Sites]:
    """The routine for a stride."""
    k = Kernel((*_PARAMS, *TABLE_PARAMS), ("in0", "out", "weights", "scratch", "row0", "row1"), _VARIABLES)
    k.begin()
    _emit_prepare(k)
    k.label("next_channel")
    _emit_record(k)
    _emit_gather(k)
    _emit_rows(k)
    for pattern in _PATTERNS[stride]:
        k.label(f"pattern{pattern}")
        _Group(k, 2, stride, pattern).emit()
        k.load(R6, "tail_two")
        k.mov(PC, R6)
    for columns, stem in ((2, "two"), (1, "one")):
        k.label(f"sums_of_{stem}")
        _emit_outputs(k, columns, stem)
    for pattern in _SINGLES:
        k.label(f"single{pattern}")
        _Group(k, 1, stride, pattern).emit()
        k.load(R6, "tail_one")
        k.mov(PC, R6)
    for form in FORMS:
        if form != "table":
            k.label(f"form_{form}")
            forms.emit(k, form)
            k.b("converted")
    _emit_converted(k)
    emit_general(k, "general")

    def distance(label: str) -> int:
        return (k.address(label) - k.address("base")) // 2

    return Routine(f"depthwise_stride{stride}", k.code()), _Sites(
        {pattern: distance(f"pattern{pattern}") for pattern in _PATTERNS[stride]},
        {pattern: distance(f"single{pattern}") for pattern in _SINGLES},
        {form: 0 if form == "table" else distance(f"form_{form}") for form in FORMS},
    )


def _emit_prepare(k: Kernel) -> None:
    """Addresses; in the first row the table, and padding all over the plane."""
    k.load(R0, "scratch")
    k.load(R1, "table_base")
    k.adds(R1, R1, R0)
    k.store(R1, "table")
    k.load(R1, "plane_at")
    k.adds(R1, R1, R0)
    k.store(R1, "plane")
    k.load(R1, "row0")
    k.cmp_imm(R1, 0)
    k.bcond_far("ne", "prepared")
    emit_table(k)
    k.load(R0, "plane")
    k.load(R1, "plane_blocks")
    for register in (R2, R3, R4, R5):
        k.load(register, "pad_word")
    pad = k.label()
    k.stm(R0, [R2, R3, R4, R5])
    k.subs_imm(R1, R1, 1)
    k.bcond("ne", pad)
    k.label("prepared")
    k.load(R0, "row0")
    k.load(R1, "in0")
    k.adds(R1, R1, R0)
    k.store(R1, "input")
    k.load(R1, "out")
    k.adds(R1, R1, R0)
    k.store(R1, "output")


def _emit_record(k: Kernel) -> None:
    """The channel's weights, code and constants from its record to the frame."""
    k.load(R0, "row0")
    k.load(R1, "record_bytes")
    k.muls(R0, R1)
    k.load(R1, "weights")
    k.adds(R1, R1, R0)
    for word in range(2):
        k.ldm(R1, [R2])
        for i in range(4):
            k.lsls_imm(R3, R2, 24 - 8 * i)
            k.asrs_imm(R3, R3, 24)
            k.store(R3, f"w{4 * word + i}")
    k.mov(R5, PC)  # the address of the instruction after next
    k.ldm(R1, [R2, R3])
    k.label("base")
    k.sxtb(R4, R2)
    k.store(R4, "w8")
    for register, slot in ((R2, "pattern"), (R3, "single")):
        k.asrs_imm(R4, register, 16)
        k.lsls_imm(R4, R4, 1)
        k.adds(R4, R4, R5)
        k.store(R4, slot)
    k.uxth(R3, R3)
    k.lsls_imm(R3, R3, 1)
    k.adds(R3, R3, R5)
    k.store(R3, "form")
    for stem in ("two", "one"):
        k.ldr_difference(R4, f"sums_of_{stem}", "base")
        k.cmp(R3, R5)
        k.bcond("eq", by_table := k.fresh())
        k.ldr_difference(R4, f"slow_{stem}", "base")
        k.label(by_table)
        k.adds(R4, R4, R5)
        k.store(R4, f"tail_{stem}")
    k.store(R1, "constants")
    k.ldm(R1, [R4, R5, R6])
    k.store(R4, "fine")
    k.store(R5, "coarse")
    k.store(R6, "addend")
    # bits 8 and up of the ninth weight's word: no pattern fits, all columns are single
    k.load(R3, "groups")
    k.load(R4, "singles")
    k.lsls_imm(R2, R2, 16)
    k.lsrs_imm(R2, R2, 24)
    k.bcond("eq", "in_groups")
    k.adds(R4, R4, R3)
    k.adds(R4, R4, R3)
    k.movs(R3, 0)
    k.label("in_groups")
    k.store(R3, "these_groups")
    k.store(R4, "these_singles")


def _emit_gather(k: Kernel) -> None:
    """Packs the channel's plane. A half whose row lies outside of the image reads the padding, again and again.

    r0 and r1 point to the pixels of both halves, r8 and r9 are their steps; r12 counts the rows that go on like that.
    """
    k.load(R2, "plane")
    k.load(R0, "first_word")
    k.adds(R2, R2, R0)
    for register, slot in ((LR, "four_bytes"), (R11, "row_bytes")):
        k.load(R0, slot)
        k.mov(register, R0)
    k.movs(R7, 0)
    k.store(R7, "line")
    k.label("gather_rows")
    k.load(R6, "line")
    k.load(R5, "pad_top")
    k.movs(R3, 1)
    k.cmp(R6, R5)
    k.bcond("ne", "at_edge")
    k.load(R3, "inner_rows")
    k.label("at_edge")
    k.mov(R12, R3)
    k.adds(R3, R3, R6)
    k.store(R3, "line")
    k.subs(R6, R6, R5)
    k.load(R5, "in_height")
    k.load(R4, "in_row_bytes")
    for pointer, step in ((R0, R8), (R1, R9)):
        if pointer == R1:
            k.load(R3, "far")
            k.adds(R6, R6, R3)
        k.add_rd_sp(pointer, k.slot("pad_word"))
        k.movs(R3, 0)
        k.cmp(R6, R5)
        k.bcond("cs", outside := k.fresh())
        k.mov(pointer, R4)
        k.muls(pointer, R6)
        k.load(R3, "input")
        k.adds(pointer, pointer, R3)
        k.load(R3, "channels")
        k.label(outside)
        k.mov(step, R3)
    row = k.label()
    k.mov(R3, R2)
    k.add(R3, LR)
    k.mov(R10, R3)  # behind the fours
    k.cmp(R2, R3)
    k.bcond("eq", "no_fours")
    fours = k.label()
    for _ in range(2):
        _emit_pixel(k, R3, R4)
        _emit_pixel(k, R5, R6)
        k.stm(R2, [R3, R5])
    k.cmp(R2, R10)
    k.bcond("ne", fours)
    k.label("no_fours")
    k.load(R5, "rest")
    k.cmp_imm(R5, 0)
    k.bcond("eq", "gathered_row")
    ones = k.label()
    _emit_pixel(k, R3, R4)
    k.stm(R2, [R3])
    k.subs_imm(R5, R5, 1)
    k.bcond("ne", ones)
    k.label("gathered_row")
    k.add(R2, R11)
    k.mov(R5, R12)
    k.subs_imm(R5, R5, 1)
    k.mov(R12, R5)
    k.bcond("ne", row)
    k.load(R3, "line")
    k.load(R4, "plane_rows")
    k.cmp(R3, R4)
    k.bcond_far("ne", "gather_rows")


def _emit_pixel(k: Kernel, low: int, high: int) -> None:
    """low = the next word; spoils high."""
    k.ldrsb(high, R1, R7)
    k.ldrsb(low, R0, R7)
    k.add(R1, R9)
    k.add(R0, R8)
    k.lsls_imm(high, high, 16)
    k.adds(low, low, high)


def _emit_rows(k: Kernel) -> None:
    """The loops over rows and groups of columns, and over channels."""
    k.load(R0, "rows")
    k.store(R0, "rows_left")
    k.movs(R0, 1)
    k.lsls_imm(R0, R0, 15)
    k.mov(_HALF, R0)
    k.load(R0, "step")
    k.mov(_STEP, R0)
    k.load(R0, "plane")
    k.label("next_row")
    k.load(R1, "these_groups")
    k.cmp_imm(R1, 0)
    k.bcond("eq", "row_of_one")
    k.store(R1, "left")
    k.load(R1, "pattern")
    k.mov(PC, R1)
    k.label("row_of_one")
    k.load(R1, "these_singles")
    k.cmp_imm(R1, 0)
    k.bcond("eq", "row_done")
    k.store(R1, "left")
    k.load(R1, "single")
    k.mov(PC, R1)
    k.label("row_done")
    k.load(R1, "row_back")
    k.adds(R0, R0, R1)
    k.load(R1, "rows_left")
    k.subs_imm(R1, R1, 1)
    k.store(R1, "rows_left")
    k.bcond("ne", "next_row")
    k.load(R0, "row0")
    k.adds_imm(R0, R0, 1)
    k.store(R0, "row0")
    k.load(R1, "input")
    k.adds_imm(R1, R1, 1)
    k.store(R1, "input")
    k.load(R1, "out")
    k.adds(R1, R1, R0)
    k.store(R1, "output")
    k.load(R1, "row1")
    k.cmp(R0, R1)
    k.bcond("eq", "done")
    k.b("next_channel")
    k.label("done")
    k.finish()


class _Group:
    """The taps of a group of columns: from the plane at r0 to sums in r2 and r3, r4 and r5 (row, row far below)."""

    def __init__(self, k: Kernel, columns: int, stride: int, pattern: Sequence[int]) -> None:
        self._k, self._columns, self._stride, self._pattern = k, columns, stride, pattern
        self._free = [R1, R2, R3, R4, R5, R6, R7]
        self._sums: list[int | None] = [None, None]  # T of each column
        self._flushed = False
        self._tap = 0

    def emit(self) -> None:
        k = self._k
        for dy in range(3):
            if self._columns == 1:
                self._emit_row_of_one(dy)
            elif self._stride == 1:
                self._emit_row_stride1(dy)
            else:
                self._emit_row_stride2(dy)
            if dy < 2:
                k.add(R0, _STEP)
                if self._columns == 1:
                    k.adds_imm(R0, R0, 4 * self._stride)  # fewer words than a group of two has read
        self._finish()

    def _emit_row_of_one(self, dy: int) -> None:
        x = self._take(3)
        self._k.ldm(R0, x)
        for _, dx in _TAPS[self._stride][:3]:
            weight = self._weight(dy, dx)
            self._k.muls(x[dx], weight)
            self._free.append(weight)
            self._sum(0, x[dx])
            self._after_tap()

    def _emit_row_stride1(self, dy: int) -> None:
        k = self._k
        x = self._take(4)
        k.ldm(R0, x)
        weight = self._weight(dy, 2)
        k.muls(x[3], weight)
        k.muls(weight, x[2])
        self._sum(0, weight)
        self._sum(1, x[3])
        self._after_tap()
        weight = self._weight(dy, 0)
        k.muls(x[0], weight)
        k.muls(weight, x[1])
        self._sum(0, x[0])
        self._sum(1, weight)
        self._after_tap()
        weight = self._weight(dy, 1)
        k.muls(x[1], weight)
        k.muls(x[2], weight)
        self._free.append(weight)
        self._sum(0, x[1])
        self._sum(1, x[2])
        self._after_tap()

    def _emit_row_stride2(self, dy: int) -> None:
        k = self._k
        x = self._take(3)
        k.ldm(R0, x)
        weight = self._weight(dy, 0)
        k.muls(x[0], weight)
        k.muls(weight, x[2])
        self._sum(0, x[0])
        self._sum(1, weight)
        self._after_tap()
        weight = self._weight(dy, 1)
        k.muls(x[1], weight)
        self._sum(0, x[1])
        y = self._take(2)
        k.ldm(R0, y)
        k.muls(weight, y[0])
        self._free.append(y[0])
        self._sum(1, weight)
        self._after_tap()
        weight = self._weight(dy, 2)
        k.muls(x[2], weight)
        k.muls(y[1], weight)
        self._free.append(weight)
        self._sum(0, x[2])
        self._sum(1, y[1])
        self._after_tap()

    def _take(self, count: int) -> list[int]:
        """The lowest free registers."""
        self._free.sort()
        taken, self._free = self._free[:count], self._free[count:]
        assert len(taken) == count, "the taps fit the registers"
        return taken

    def _weight(self, dy: int, dx: int) -> int:
        (register,) = self._take(1)
        self._k.load(register, f"w{3 * dy + dx}")
        return register

    def _sum(self, column: int, product: int) -> None:
        total = self._sums[column]
        if total is None:
            self._sums[column] = product
        else:
            self._k.adds(total, total, product)
            self._free.append(product)

    def _after_tap(self) -> None:
        k = self._k
        if self._tap in self._pattern:
            for column in range(self._columns):
                total, (a, b) = self._sums[column], _SUMS[column]
                assert total is not None
                accumulate = k.add if self._flushed else k.mov
                accumulate(a, total)
                k.add(total, _HALF)
                k.asrs_imm(total, total, 16)
                accumulate(b, total)
                self._free.append(total)
                self._sums[column] = None
            self._flushed = True
        self._tap += 1

    def _finish(self) -> None:
        """The last flush, into low registers."""
        k = self._k
        targets = [(R2, R3), (R4, R5)][: self._columns]
        wanted = {register for pair in targets for register in pair}
        for column in range(self._columns):
            total = self._sums[column]
            assert total is not None
            if total in wanted:
                spare = next(r for r in (R6, R7, R1) if r not in self._sums)
                k.mov(spare, total)
                self._sums[column] = spare
        spare = next(r for r in (R6, R7, R1) if r not in self._sums)
        for column, (low, high) in enumerate(targets):
            total, (a, b) = self._sums[column], _SUMS[column]
            assert total is not None
            k.mov(high, total)
            k.add(high, _HALF)
            k.asrs_imm(high, high, 16)
            if self._flushed:
                k.add(total, a)
                k.add(high, b)
            k.lsls_imm(spare, high, 16)
            k.subs(low, total, spare)


def _emit_outputs(k: Kernel, columns: int, stem: str) -> None:
    """From sums to stored outputs; on to the next group or row."""
    values = (R2, R3, R4, R5)[: 2 * columns]
    k.load(R1, "fine")
    k.mov(R9, R1)
    k.load(R6, "coarse")
    k.load(R7, "addend")
    for value in values:
        k.mov(R1, R9)
        k.muls(R1, value)
        k.asrs_imm(R1, R1, 12)
        k.muls(value, R6)
        k.adds(R1, R1, R7)
        k.adds(value, value, R1)
        k.asrs_imm(value, value, TABLE_POST)
    k.load(R6, "table")
    for value in values:
        k.ldrb_reg(value, R6, value)
    k.label(f"store_{stem}")
    k.load(R6, "output")
    k.load(R7, "pixels_far")
    k.load(R1, "channels")
    k.adds(R7, R7, R6)
    k.strb(R2, R6)
    k.strb(R3, R7)
    if columns == 2:
        k.strb_reg(R4, R6, R1)
        k.strb_reg(R5, R7, R1)
        k.adds(R6, R6, R1)
    k.adds(R6, R6, R1)
    k.store(R6, "output")
    k.load(R7, f"back_{stem}")
    k.adds(R0, R0, R7)
    k.load(R1, "left")
    k.subs_imm(R1, R1, 1)
    k.store(R1, "left")
    k.bcond("eq", end := k.fresh())
    k.load(R1, "pattern" if columns == 2 else "single")
    k.mov(PC, R1)
    k.label(end)
    k.b("row_of_one" if columns == 2 else "row_done")
    k.label(f"slow_{stem}")
    k.store(R0, "line")
    k.movs(R0, columns)
    k.store(R0, "columns")
    k.load(R1, "constants")
    k.ldm(R1, [R7])
    k.load(R6, "form")
    k.mov(PC, R6)


def _emit_converted(k: Kernel) -> None:
    """Back from a form other than the table's."""
    k.label("converted")
    k.load(R0, "step")
    k.mov(_STEP, R0)
    k.movs(R0, 1)
    k.lsls_imm(R0, R0, 15)
    k.mov(_HALF, R0)
    k.load(R0, "line")
    k.load(R1, "columns")
    k.cmp_imm(R1, 1)
    k.bcond_far("eq", "store_one")
    k.b("store_two")


# Packing


def calls(node: Node, tile_bytes: int | None) -> list[MachineCall] | None:
    """DEPTHWISE_CONV_2D with 3 x 3 weights, one filter a channel and stride 1 or 2; None for others."""
    window = kernel_window(node)
    weights = node.input(1).array()
    batch, _, _, depth = node.input(0).shape
    stride = window.stride_height
    channels = requantise.layer(node)
    if (
        weights.shape[1:] != (3, 3, depth)
        or (window.stride_width, window.dilation_height, window.dilation_width) != (stride, 1, 1)
        or stride not in _TAPS
        or (channels.mantissas < 0).any()
    ):
        return None
    plane = _Plane.of(window)
    if plane.nbytes > _PLANE_BYTES:
        return None
    code, sites = routine(stride)
    found = stages(channels, tables=True)
    table = TablePlan.of(channels, found)
    records = [_record(weights[0, :, :, i], stage, channels, i, stride, sites) for i, stage in enumerate(found)]
    record_bytes = max(len(record) for record in records)
    most = depth if tile_bytes is None else tile_bytes // record_bytes
    if most == 0:
        return None
    cost = _cycles(window, plane, stride)
    made: list[MachineCall] = []
    for image in range(batch):
        for first in range(0, depth, most):
            some = records[first : first + most]
            params = [
                depth,
                plane.far * window.out_width * depth,
                window.out_width // 2,
                window.out_width % 2,
                plane.out_rows,
                *plane.steps(stride),
                4 * stride * (plane.width - window.out_width),
                record_bytes,
                table.nbytes,
                plane.nbytes // 16,
                node.input(0).zero_point * 65537,
                4 * window.pad_width,
                plane.rows,
                max(1, min(plane.rows, window.in_height - plane.far * stride + window.pad_height) - window.pad_height),
                window.pad_height,
                plane.far * stride,
                window.in_height,
                window.in_width * depth,
                window.in_width // 4 * 16,
                window.in_width % 4,
                4 * (plane.width - window.in_width),
                *table.params,
            ]
            made.append(
                MachineCall(
                    code,
                    Place(node.input(0).index, image * window.in_height * window.in_width * depth + first),
                    Place(node.output.index, image * window.out_height * window.out_width * depth + first),
                    weights=b"".join(record.ljust(record_bytes, b"\0") for record in some),
                    params=params,
                    scratch_bytes=table.nbytes + plane.nbytes,
                    rows=len(some),
                    macs=9 * window.out_height * window.out_width * len(some),
                    cost=cost * len(some) + table.cost + plane.nbytes * 0.6 + 250,
                )
            )
    return made


@dataclass(frozen=True)
class _Plane:
    """Sizes in words and rows; the upper half of a word is `far` output rows below the lower."""

    width: int
    rows: int
    out_rows: int
    far: int

    @classmethod
    def of(cls, window: Window) -> _Plane:
        stride, out_rows = window.stride_height, -(-window.out_height // 2)
        width = max((window.out_width - 1) * stride + 3, window.pad_width + window.in_width)
        return cls(width, (out_rows - 1) * stride + 3, out_rows, window.out_height - out_rows)

    @property
    def nbytes(self) -> int:
        return -(-self.width * self.rows // 4) * 16

    def steps(self, stride: int) -> list[int]:
        """What r0 moves on by: after a group of two, after a single column, from row to row, after a row."""
        read = 12 + 4 * stride
        below = 8 * self.width
        return [8 * stride - read - below, 4 * stride - 12 - below, 4 * self.width - read]


def _record(
    weights: NDArray[np.int8], stage: Stage, channels: Channels, channel: int, stride: int, sites: _Sites
) -> bytes:
    """A channel's weights [3, 3], code and constants."""
    live = np.zeros_like(weights) if stage.constant else weights
    taps = np.array([live[tap] for tap in _TAPS[stride]], np.int64)
    fitting = [pattern for pattern in _PATTERNS[stride] if _fits(taps, pattern)]
    pattern = min(fitting, key=len, default=None)
    single = next(single for single in _SINGLES if _fits(taps, single))
    nine = [int(w) for w in live.ravel()]
    code = sites.patterns[pattern] << 16 if pattern else 1 << 8
    words = [
        signed(code | nine[8] & 255),
        signed(sites.singles[single] << 16 | sites.forms[stage.form]),
        *forms.constants(stage, channels, channel),
    ]
    return struct.pack(f"<8b{len(words)}i", *nine[:8], *words)


def _fits(taps: NDArray[np.int64], pattern: Sequence[int]) -> bool:
    """Whether no half of T can leave 16 bits between the flushes of a pattern, whatever the input."""
    for chunk in np.split(taps, [tap + 1 for tap in pattern]):
        least = np.minimum(-128 * chunk, 127 * chunk).sum()
        most = np.maximum(-128 * chunk, 127 * chunk).sum()
        if least < -0x8000 or most > 0x7FFF:
            return False
    return True


def _cycles(window: Window, plane: _Plane, stride: int) -> float:
    """Of a channel in the table's form, with two flushes."""
    groups, singles = divmod(window.out_width, 2)
    return plane.out_rows * (groups * (175 + 6 * stride) + singles * 132 + 18) + plane.rows * (
        10.3 * window.in_width + 45
    )
