"""Convolutions: tiles of six pixels, packed two to a word, times two filters at a time.

A tap is two weights (bytes of the stream) times three words: 12 multiply-accumulates in 17 instructions. The stream
holds, for each group of filters, records of two neighbouring filters f and f + 1:

    f, or -1 behind the last; per chunk a header (int16, see `chain`) and its weights in turn; the header of the tail;
    from the next multiple of 4 on the tail's parameters of f, then of f + 1.

A call's rows are (tile, group) pairs, all groups of a tile after one another: the first one packs the tile into the
scratch, the others find it there.
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
from midgehost.codegen.rv32imc import gather, packing
from midgehost.codegen.rv32imc.chain import Chain
from midgehost.codegen.rv32imc.frame import Frame
from midgehost.codegen.rv32imc.gather import TERM_BYTES, TILE, WORDS, Gather
from midgehost.codegen.rv32imc.parameters import Parameters
from midgehost.codegen.rv32imc.tails import KINDS, Kind, Tails, emit_bend, emit_clamp, emit_exact, emit_line
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.ops.convolution import kernel_window
from midgehost.models.ops.window import Window

FILTERS: Final = 2
LONGEST: Final = 12  # taps of a chunk
_ROW_COST: Final = 60_000  # instructions that a row should not exceed by much
_MOST_SCRATCH: Final = 32 << 10
_END: Final = -1  # in place of a filter: no more records

# Sums T, accumulators A and B, by filter and word; everything else that a tap uses.
_T: Final = ((S0, S1, A0), (A1, A2, A3))
_A: Final = ((S2, S3, S4), (S5, S6, S7))
_B: Final = ((S8, A6, A7), (T3, T4, T5))
_WEIGHTS: Final = (A4, A5)
_X: Final = (T0, T1, T2)
_PRODUCT, _TERMS, _STREAM, _ANCHOR, _BIAS = T6, S11, RA, S10, S9

_NAMES: Final = (
    "groups", "last_tile", "filters", "low", "high", "pre", "post", "pivot", "zero_point", "staged", "staging",
    *gather.NAMES,
)  # fmt: skip


class _Taps(Chain):
    """Two weights times three words."""

    def advance(self, taps: int) -> None:
        self.a.addi(_STREAM, _STREAM, 2 + FILTERS * taps)
        self.a.addi(_TERMS, _TERMS, TERM_BYTES * taps)

    def first(self, ahead: int) -> None:
        self._load(ahead)
        for i, x in enumerate(_X):
            for weight, sums in zip(_WEIGHTS, _T, strict=True):
                self.a.mul(sums[i], x, weight)

    def tap(self, ahead: int) -> None:
        self._load(ahead)
        for i, x in enumerate(_X):
            self.a.mul(_PRODUCT, x, _WEIGHTS[0])
            self.a.mul(x, x, _WEIGHTS[1])
            self.a.add(_T[0][i], _T[0][i], _PRODUCT)
            self.a.add(_T[1][i], _T[1][i], x)

    def _load(self, ahead: int) -> None:
        for f, weight in enumerate(_WEIGHTS):
            self.a.lb(weight, _STREAM, f - FILTERS * ahead)
        for i, x in enumerate(_X):
            self.a.lw(x, _TERMS, 4 * i - TERM_BYTES * ahead)

    def flush(self) -> None:
        for sums, lows, highs in zip(_T, _A, _B, strict=True):
            for t, low, high in zip(sums, lows, highs, strict=True):
                self.a.add(low, low, t)
                self.a.add(t, t, _BIAS)
                self.a.srai(t, t, 16)
                self.a.add(high, high, t)
        self.dispatch()

    def dispatch(self) -> None:
        """Jumps to what the header at the stream's pointer says."""
        self.a.lh(_PRODUCT, _STREAM)
        self.a.add(_PRODUCT, _PRODUCT, _ANCHOR)
        self.a.jr(_PRODUCT)


class _Program:
    """The routine of all convolutions."""

    def __init__(self) -> None:
        self.a = a = Rv32()
        raw = [f"raw{i}" for i in range(TILE * FILTERS)]
        self._frame = Frame(a, ["place", "at", "filters", "low", "high", "pre", "post", "pivot", "zero_point", *raw])
        self.parameters = Parameters(a, _NAMES)
        self.gather = Gather(a, self._frame, self.parameters)
        self.chain = _Taps(a, LONGEST)
        self.tails = {kind: a.fresh(kind) for kind in KINDS}
        self._row, self._record, self._group_end = a.fresh("row"), a.fresh("record"), a.fresh("group_end")
        self._emit()
        self.routine = Routine("conv", a.code())

    def _emit(self) -> None:
        a, p, frame = self.a, self.parameters, self._frame
        frame.enter()
        frame.load(S0, "params")
        for name in ("filters", "low", "high", "pre", "post", "pivot", "zero_point"):
            p.load(T0, S0, name)
            frame.store(T0, name)
        a.label(self._row)
        self._begin_row()
        a.label(self._record)
        self._begin_record()
        self.chain.emit()
        a.label(self.tails["straight"])
        self._lines(bent=False)
        a.label(self.tails["bent"])
        self._lines(bent=True)
        a.label(self.tails["exact"])
        self._exact()
        a.label(self._group_end)
        self._end_row()
        self.gather.emit_subroutines()

    def _begin_row(self) -> None:
        """Finds tile and group of row0; packs the tile before its first group."""
        a, p, frame = self.a, self.parameters, self._frame
        packed, more = a.fresh("packed"), a.fresh("more")
        frame.load(A0, "row0")
        frame.load(A1, "row1")
        a.blt(A0, A1, more)
        frame.leave()
        a.label(more)
        frame.load(A5, "params")
        p.load(A1, A5, "groups")
        a.divu(A2, A0, A1)
        a.remu(A3, A0, A1)
        frame.load(A4, "weights")
        a.slli(T0, A3, 2)
        a.add(T0, T0, A4)
        a.lw(T0, T0)
        a.add(A4, A4, T0)
        frame.store(A4, "at")  # the group's first record
        a.li(T0, TILE)
        a.mul(A2, A2, T0)
        p.load(T0, A5, "last_tile")
        a.bge(T0, A2, skip := a.fresh("skip"))
        a.mv(A2, T0)
        a.label(skip)  # A2: the tile's first pixel
        p.load(T0, A5, "filters")
        a.mul(T0, T0, A2)
        frame.load(A0, "out")
        a.add(A0, A0, T0)
        p.load(T0, A5, "staged")
        a.beqz(T0, direct := a.fresh("direct"))
        p.load(T0, A5, "staging")
        frame.load(A0, "scratch")
        a.add(A0, A0, T0)
        a.label(direct)
        frame.store(A0, "place")
        a.bnez(A3, packed, far=True)
        self.gather.emit(A2, A5)
        a.label(packed)
        frame.load(_STREAM, "at")
        self.chain.load_anchor(_ANCHOR)
        a.li(_BIAS, packing.BIAS)

    def _begin_record(self) -> None:
        a, frame = self.a, self._frame
        a.lw(T0, _STREAM)
        frame.load(T1, "place")
        a.bltz(T0, self._group_end, far=True)
        a.add(T0, T0, T1)
        frame.store(T0, "at")
        frame.load(_TERMS, "scratch")
        for register in _flat(_A + _B):
            a.li(register, 0)
        a.addi(_STREAM, _STREAM, 4)
        self.chain.dispatch()

    def _separate(self) -> None:
        """A becomes the sums of the low pixels: B holds those of the high ones."""
        for low, high in zip(_flat(_A), _flat(_B), strict=True):
            self.a.slli(_PRODUCT, high, 16)
            self.a.sub(low, low, _PRODUCT)
        self.a.addi(_STREAM, _STREAM, 5)  # behind the header, at a multiple of 4
        self.a.andi(_STREAM, _STREAM, -4)

    def _lines(self, bent: bool) -> None:
        a, frame = self.a, self._frame
        self._separate()
        words = 3 if bent else 2
        lines = ((S0, S1), (A0, A1))
        deltas, pivot = (T2, T6), S11
        low, high, pre, post, at, step = A2, A3, A4, A5, T0, T1
        for f, line in enumerate(lines):
            for i, register in enumerate((*line, deltas[f])[:words]):
                a.lw(register, _STREAM, 4 * (words * f + i))
        for register, name in ((low, "low"), (high, "high"), (pre, "pre"), (post, "post")):
            frame.load(register, name)
        if bent:
            frame.load(pivot, "pivot")
        frame.load(at, "at")
        frame.load(step, "filters")
        a.addi(_STREAM, _STREAM, 4 * words * FILTERS)
        for pixel, sums in enumerate(_pixels()):
            if pixel:
                a.add(at, at, step)
            for f, raw in enumerate(sums):
                emit_line(a, raw, (pre, post), lines[f])
                if bent:
                    emit_bend(a, raw, pivot, deltas[f])
                a.sra(raw, raw, post)
                emit_clamp(a, raw, low, high)
                a.sb(raw, at, f)
        a.j(self._record)

    def _exact(self) -> None:
        a, frame = self.a, self._frame
        self._separate()
        for pixel, sums in enumerate(_pixels()):
            for f, raw in enumerate(sums):
                frame.store(raw, f"raw{FILTERS * pixel + f}")
        low, high, zero_point, at, step, raws, end, value, words = A2, A3, A4, S0, S1, S2, S3, A0, A1
        for register, name in ((low, "low"), (high, "high"), (zero_point, "zero_point"), (at, "at"), (step, "filters")):
            frame.load(register, name)
        a.addi(raws, SP, frame.offset("raw0"))
        a.addi(end, raws, 4 * FILTERS * TILE)
        pixel = a.label()
        for f in range(FILTERS):
            a.lw(value, raws, 4 * f)
            a.addi(words, _STREAM, 16 * f)
            emit_exact(a, value, words)
            a.add(value, value, zero_point)
            emit_clamp(a, value, low, high)
            a.sb(value, at, f)
        a.add(at, at, step)
        a.addi(raws, raws, 4 * FILTERS)
        a.bne(raws, end, pixel)
        a.addi(_STREAM, _STREAM, 16 * FILTERS)
        a.j(self._record)

    def _end_row(self) -> None:
        """Copies a staged tile (there are fewer than six pixels) to the output."""
        a, p, frame = self.a, self.parameters, self._frame
        done = a.fresh("done")
        frame.load(A0, "params")
        p.load(A1, A0, "staged")
        a.beqz(A1, done)
        frame.load(A2, "place")
        frame.load(A3, "out")
        a.add(A1, A1, A2)
        copy = a.label()
        a.lb(T0, A2)
        a.addi(A2, A2, 1)
        a.sb(T0, A3)
        a.addi(A3, A3, 1)
        a.bne(A2, A1, copy)
        a.label(done)
        frame.load(A0, "row0")
        a.addi(A0, A0, 1)
        frame.store(A0, "row0")
        a.j(self._row)


def _flat(registers: Sequence[Sequence[int]]) -> list[int]:
    return [register for some in registers for register in some]


def _pixels() -> list[tuple[int, ...]]:
    """Where the raw sums of each pixel are, by filter."""
    return [tuple(some[f][i] for f in range(FILTERS)) for some in (_A, _B) for i in range(WORDS)]


@cache
def _program() -> _Program:
    return _Program()


@dataclass(frozen=True)
class _Record:
    data: bytes
    cost: float  # instructions a tile


def conv_2d(node: Node, form: Form, tile_bytes: int | None) -> list[MachineCall] | None:
    """The calls of a convolution; None for batches, groups, dilation, a single filter. Both forms are the same."""
    source, weights = node.input(0), node.input(1).array()
    window = kernel_window(node)
    if source.shape[0] != 1 or weights.shape[3] != source.shape[3]:
        return None
    if (window.dilation_height, window.dilation_width) != (1, 1):
        return None
    return window_calls(node, window, source.shape[3], weights.reshape(len(weights), -1), tile_bytes)


def window_calls(
    node: Node, window: Window, channels: int, weights: NDArray[Any], tile_bytes: int | None
) -> list[MachineCall] | None:
    """The calls for `weights` [filters, terms]; None where there is no room. A term is a byte of the window's rows."""
    filters, terms = weights.shape
    pixels = window.out_height * window.out_width
    if filters < FILTERS:
        return None
    program, tails = _program(), Tails.of(node)
    bordered = (
        window.pad_height > 0
        or window.pad_width > 0
        or (window.out_height - 1) * window.stride_height + window.height > window.in_height
        or (window.out_width - 1) * window.stride_width + window.width > window.in_width
    )
    patches = TERM_BYTES * terms
    staging = -(-(patches + (2 * terms if bordered else 0)) // 4) * 4
    scratch = staging + (TILE * filters if pixels < TILE else 0)
    if scratch > _MOST_SCRATCH:
        return None
    live = np.where([[tails.constant(f)] for f in range(filters)], 0, weights)
    records = [_record(program, tails, live, f) for f in _firsts(filters)]
    calls: list[MachineCall] = []
    for some in _split(records, tile_bytes):
        if not some:
            return None
        stream, costs = _stream(some)
        tiles = -(-pixels // TILE)
        words = {
            "groups": len(costs),
            "last_tile": max(0, pixels - TILE),
            "filters": filters,
            "staged": pixels * filters if pixels < TILE else 0,
            "staging": staging,
            **tails.layer_words,
            **program.gather.words(window, channels, pixels, node.input(0).zero_point, patches),
        }
        packing_cost = _packing_cost(window, terms, bordered)
        calls.append(
            MachineCall(
                program.routine,
                Place(node.input(0).index),
                Place(node.output.index),
                weights=stream,
                params=program.parameters.values(words),
                scratch_bytes=scratch,
                rows=tiles * len(costs),
                macs=pixels * terms * min(filters, FILTERS * len(some)),
                cost=tiles * (sum(costs) + packing_cost),
            )
        )
    return calls


def _firsts(filters: int) -> list[int]:
    """The first filter of each record; an odd last one is computed twice."""
    return [min(f, filters - FILTERS) for f in range(0, filters, FILTERS)]


def _record(program: _Program, tails: Tails, weights: NDArray[Any], first: int) -> _Record:
    rows = range(first, first + FILTERS)
    some = weights[first : first + FILTERS]
    used = np.flatnonzero(some.any(axis=0))
    some = some[:, : int(used[-1]) + 1 if len(used) else 0]
    kind = tails.kind(rows)
    lengths = packing.chunks(some, LONGEST)
    headers = program.chain.headers()
    data = struct.pack("<i", first)
    at = 0
    for length in lengths:
        data += struct.pack("<h", headers[length - 1]) + some[:, at : at + length].T.tobytes()
        at += length
    data += struct.pack("<h", program.chain.header(program.tails[kind]))
    data = data.ljust(-(-len(data) // 4) * 4, b"\0")
    for row in rows:
        words = tails.words(row, kind)
        data += struct.pack(f"<{len(words)}i", *words)
    return _Record(data, _cost(lengths, kind))


def _cost(lengths: Sequence[int], kind: Kind) -> float:
    """Instructions of a record for one tile."""
    taps = sum(17 * length + 24 for length in lengths)
    return 34 + taps + {"straight": 121, "bent": 140, "exact": 470}[kind]


def _packing_cost(window: Window, terms: int, bordered: bool) -> float:
    """Instructions to pack a tile."""
    located = 160 if gather.is_flat(window) else 300
    packed = WORDS * (5.5 * terms + 16 * window.height)
    return located + packed + (TILE * 5 * terms * _border_share(window) if bordered else 0)


def _border_share(window: Window) -> float:
    """The share of windows that reach over the edge."""
    inside = 1.0
    for size, outputs, reach, stride, pad in (
        (window.in_height, window.out_height, window.height, window.stride_height, window.pad_height),
        (window.in_width, window.out_width, window.width, window.stride_width, window.pad_width),
    ):
        starts = np.arange(outputs) * stride - pad
        inside *= float(np.mean((starts >= 0) & (starts + reach <= size)))
    return 1.0 - inside


def _split(records: Sequence[_Record], tile_bytes: int | None) -> list[list[_Record]]:
    """Records by call, so that each call's stream fits; an empty list where one record does not."""
    parts: list[list[_Record]] = [[]]
    size = 0
    for record in records:
        # at worst each record is a group: a word of the table and an end mark
        needed = len(record.data) + 8
        if tile_bytes is not None and size + needed > tile_bytes:
            if needed > tile_bytes:
                return [[]]
            parts.append([])
            size = 0
        parts[-1].append(record)
        size += needed
    return parts


def _stream(records: Sequence[_Record]) -> tuple[bytes, list[float]]:
    """The stream of a call, a table of its groups first, and the cost of each group."""
    groups: list[list[_Record]] = [[]]
    for record in records:
        if groups[-1] and sum(r.cost for r in groups[-1]) + record.cost > _ROW_COST:
            groups.append([])
        groups[-1].append(record)
    table, body = b"", b""
    for group in groups:
        table += struct.pack("<i", 4 * len(groups) + len(body))
        body += b"".join(record.data for record in group) + struct.pack("<i", _END)
    return table + body, [sum(record.cost for record in group) for group in groups]
