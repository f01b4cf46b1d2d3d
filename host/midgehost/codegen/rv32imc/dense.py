"""Dense layers: eight outputs (four where tiles are small) at a time, two rows of weights to a word.

A tap is one input value times the words of its weights. In the stream of the fastest form each word is packed as it is
multiplied, two bytes a weight: 13 instructions for 8 multiply-accumulates. In the small form a word holds the weights
of four rows as bytes in offset binary, w + 128. Two masks make two factors of it, each too large by 128 + 65536 * 128 =
OFFSET; what that adds to a chunk's sums is OFFSET times the sum of its inputs, and is taken off again at the flush.

Words j of a group: rows 4j and 4j + 2, rows 4j + 1 and 4j + 3. The stream holds a table of the groups' places, then for
each group: per chunk a header (int32, see `chain`) and its weights; the header of the tail; the tail's parameters of
each row. A call's rows are groups.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# isort: off
from midgehost.codegen.asm.rv32 import (
    A0, A1, A2, A3, A4, A5, A6, RA, S0, S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, SP,
    T0, T1, T2, T3, T4, T5, T6, Rv32,
)  # fmt: skip

# isort: on
from midgehost.codegen.machine import Form, MachineCall, Routine
from midgehost.codegen.rv32imc import packing
from midgehost.codegen.rv32imc.chain import Chain
from midgehost.codegen.rv32imc.conv import window_calls
from midgehost.codegen.rv32imc.frame import Frame
from midgehost.codegen.rv32imc.parameters import Parameters
from midgehost.codegen.rv32imc.tails import KINDS, Kind, Tails, emit_bend, emit_clamp, emit_exact, emit_line
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.ops.window import Window

OFFSET: Final = 0x00800080
_EVEN_BYTES: Final = 0x00FF00FF
_LANES: Final = (0, 1), (2, 3)  # words of T, A, B by half group
_ROWS: Final = (0, 2), (1, 3), (4, 6), (5, 7)  # the rows in the low and the high part of each word

_T: Final = (S0, S1, A0, A1)
_A: Final = (S2, S3, S4, S5)
_B: Final = (S6, S7, S8, A6)
_WEIGHTS: Final = (A2, A3, A4, A5)
_X, _INPUT, _STREAM, _ANCHOR, _BIAS, _NEXT = T0, S11, RA, S10, S9, T6
_MASK, _OFFSET, _INPUTS = T1, T2, T3  # of the small form

_NAMES: Final = "last_group", "low", "high", "pre", "post", "pivot", "zero_point"


_SMALL_MACS: Final = 1024


class _Taps(Chain):
    """Inputs times words that are ready for it."""

    term_bytes = 16
    longest_chunk = 24

    def __init__(self, assembler: Rv32, words: int) -> None:
        super().__init__(assembler, self.longest_chunk)
        self._words = words

    def advance(self, taps: int) -> None:
        self.a.addi(_STREAM, _STREAM, 4 + self.term_bytes * taps)
        self.a.addi(_INPUT, _INPUT, taps)

    def first(self, ahead: int) -> None:
        self.a.lb(_X, _INPUT, -ahead)
        for i in range(self._words):
            self.a.lw(_T[i], _STREAM, 4 * i - self.term_bytes * ahead)
        for i in range(self._words):
            self.a.mul(_T[i], _T[i], _X)

    def tap(self, ahead: int) -> None:
        self.a.lb(_X, _INPUT, -ahead)
        for i in range(self._words):
            self.a.lw(_WEIGHTS[i], _STREAM, 4 * i - self.term_bytes * ahead)
        for i in range(self._words):
            self.a.mul(_WEIGHTS[i], _WEIGHTS[i], _X)
        for i in range(self._words):
            self.a.add(_T[i], _T[i], _WEIGHTS[i])

    def flush(self) -> None:
        for t, low, high in zip(_T[: self._words], _A, _B, strict=False):
            self.a.add(low, low, t)
            self.a.add(t, t, _BIAS)
            self.a.srai(t, t, 16)
            self.a.add(high, high, t)
        self.dispatch()

    def dispatch(self) -> None:
        """Jumps to what the header at the stream's pointer says."""
        self.a.lw(_NEXT, _STREAM)
        self.a.add(_NEXT, _NEXT, _ANCHOR)
        self.a.jr(_NEXT)

    def prepare(self) -> None:
        """Loads what the taps keep in registers."""
        self.a.li(_BIAS, packing.BIAS)

    def terms(self, rows: NDArray[Any]) -> bytes:
        """The stream of a chunk of weights [rows, terms]."""
        wide = rows.astype(np.int64)
        lows, highs = zip(*_ROWS[: self._words], strict=True)
        return (wide[list(lows)] + (wide[list(highs)] << 16)).T.astype("<i4").tobytes()


class _ByteTaps(_Taps):
    """Inputs times bytes, four rows to a word."""

    longest_chunk = 16

    def __init__(self, assembler: Rv32, words: int) -> None:
        super().__init__(assembler, words)
        self.term_bytes = 2 * words

    def first(self, ahead: int) -> None:
        self.a.lb(_INPUTS, _INPUT, -ahead)
        for half in range(self._words // 2):
            even, odd = (_T[lane] for lane in _LANES[half])
            self.a.lw(odd, _STREAM, 4 * half - self.term_bytes * ahead)
            self.a.and_(even, odd, _MASK)
            self.a.srli(odd, odd, 8)
            self.a.mul(even, even, _INPUTS)
            self.a.and_(odd, odd, _MASK)
            self.a.mul(odd, odd, _INPUTS)

    def tap(self, ahead: int) -> None:
        self.a.lb(_X, _INPUT, -ahead)
        halves = range(self._words // 2)
        for half in halves:
            self.a.lw(_WEIGHTS[2 * half], _STREAM, 4 * half - self.term_bytes * ahead)
        self.a.add(_INPUTS, _INPUTS, _X)
        for half in halves:
            odd, even = _WEIGHTS[2 * half : 2 * half + 2]
            self.a.and_(even, odd, _MASK)
            self.a.srli(odd, odd, 8)
            self.a.mul(even, even, _X)
            self.a.and_(odd, odd, _MASK)
            self.a.mul(odd, odd, _X)
            for lane, product in zip(_LANES[half], (even, odd), strict=True):
                self.a.add(_T[lane], _T[lane], product)

    def flush(self) -> None:
        self.a.mul(_INPUTS, _INPUTS, _OFFSET)
        for t in _T[: self._words]:
            self.a.sub(t, t, _INPUTS)
        super().flush()

    def prepare(self) -> None:
        super().prepare()
        self.a.li(_MASK, _EVEN_BYTES)
        self.a.li(_OFFSET, OFFSET)

    def terms(self, rows: NDArray[Any]) -> bytes:
        return (rows.view(np.uint8) ^ 0x80).T.tobytes()


class _Program:
    """The routine of dense layers with weights in this form and groups of so many words."""

    def __init__(self, form: Form, words: int) -> None:
        self.a = a = Rv32()
        self.rows = 2 * words
        self._words = words
        raw = [f"raw{i}" for i in range(self.rows)]
        self._frame = Frame(a, ["at", "low", "high", "pre", "post", "pivot", "zero_point", *raw])
        self.parameters = Parameters(a, _NAMES)
        self.chain = (_Taps if form == "speed" else _ByteTaps)(a, words)
        self.tails = {kind: a.fresh(kind) for kind in KINDS}
        self._group, self._next_group = a.fresh("group"), a.fresh("next_group")
        self._emit()
        self.routine = Routine(f"dense_{form}_{self.rows}", a.code())

    def _emit(self) -> None:
        a, p, frame = self.a, self.parameters, self._frame
        frame.enter()
        frame.load(A0, "params")
        for name in ("low", "high", "pre", "post", "pivot", "zero_point"):
            p.load(T0, A0, name)
            frame.store(T0, name)
        self.chain.load_anchor(_ANCHOR)
        self.chain.prepare()
        a.label(self._group)
        self._begin_group()
        self.chain.emit()
        a.label(self.tails["straight"])
        self._lines(bent=False)
        a.label(self.tails["bent"])
        self._lines(bent=True)
        a.label(self.tails["exact"])
        self._exact()
        a.label(self._next_group)
        frame.load(A0, "row0")
        a.addi(A0, A0, 1)
        frame.store(A0, "row0")
        a.j(self._group)

    def _begin_group(self) -> None:
        a, p, frame = self.a, self.parameters, self._frame
        more, inside = a.fresh("more"), a.fresh("inside")
        frame.load(A0, "row0")
        frame.load(A1, "row1")
        a.blt(A0, A1, more)
        frame.leave()
        a.label(more)
        frame.load(_STREAM, "weights")
        a.slli(A1, A0, 2)
        a.add(A1, A1, _STREAM)
        a.lw(A1, A1)
        a.add(_STREAM, _STREAM, A1)
        a.slli(A0, A0, self.rows.bit_length() - 1)
        frame.load(A2, "params")
        p.load(A1, A2, "last_group")
        a.bge(A1, A0, inside)
        a.mv(A0, A1)
        a.label(inside)
        frame.load(A1, "out")
        a.add(A0, A0, A1)
        frame.store(A0, "at")
        frame.load(_INPUT, "in0")
        for register in _A[: self._words] + _B[: self._words]:
            a.li(register, 0)
        self.chain.dispatch()

    def _sums(self) -> list[tuple[int, int]]:
        """After the sums are separated: (row of the group, register of its raw sum)."""
        lows = [(rows[0], a) for rows, a in zip(_ROWS[: self._words], _A, strict=False)]
        return lows + [(rows[1], b) for rows, b in zip(_ROWS[: self._words], _B, strict=False)]

    def _separate(self) -> None:
        for low, high in zip(_A[: self._words], _B, strict=False):
            self.a.slli(_NEXT, high, 16)
            self.a.sub(low, low, _NEXT)

    def _lines(self, bent: bool) -> None:
        a, frame = self.a, self._frame
        self._separate()
        low, high, pre, post, at, pivot, multiplier, addend, delta = A2, A3, T4, T5, A4, A5, S0, S1, A0
        words = 3 if bent else 2
        for register, name in ((low, "low"), (high, "high"), (pre, "pre"), (post, "post"), (at, "at")):
            frame.load(register, name)
        if bent:
            frame.load(pivot, "pivot")
        for row, raw in self._sums():
            place = 4 + 4 * words * row
            a.lw(multiplier, _STREAM, place)
            a.lw(addend, _STREAM, place + 4)
            if bent:
                a.lw(delta, _STREAM, place + 8)
            emit_line(a, raw, (pre, post), (multiplier, addend))
            if bent:
                emit_bend(a, raw, pivot, delta)
            a.sra(raw, raw, post)
            emit_clamp(a, raw, low, high)
            a.sb(raw, at, row)
        a.j(self._next_group)

    def _exact(self) -> None:
        a, frame = self.a, self._frame
        self._separate()
        for row, raw in self._sums():
            frame.store(raw, f"raw{row}")
        low, high, zero_point, at, raws, end, value = A2, A3, A4, S0, S2, S3, A0
        for register, name in ((low, "low"), (high, "high"), (zero_point, "zero_point"), (at, "at")):
            frame.load(register, name)
        a.addi(raws, SP, frame.offset("raw0"))
        a.addi(end, raws, 4 * self.rows)
        a.mv(A1, T1)  # the small form's registers, which emit_exact uses
        a.mv(A5, T2)
        a.addi(_STREAM, _STREAM, 4)
        row = a.label()
        a.lw(value, raws)
        emit_exact(a, value, _STREAM)
        a.add(value, value, zero_point)
        emit_clamp(a, value, low, high)
        a.sb(value, at)
        a.addi(at, at, 1)
        a.addi(_STREAM, _STREAM, 16)
        a.addi(raws, raws, 4)
        a.bne(raws, end, row)
        a.mv(T1, A1)
        a.mv(T2, A5)
        a.j(self._next_group)


@cache
def _program(form: Form, words: int) -> _Program:
    return _Program(form, words)


@dataclass(frozen=True)
class _Group:
    data: bytes
    cost: float


def fully_connected(node: Node, form: Form, tile_bytes: int | None) -> list[MachineCall] | None:
    """The calls of a dense layer; None where it is too small to be worth a routine, or no group fits a tile.

    A batch of input vectors is a convolution over pixels.
    """
    units, depth = node.input(1).shape
    batch = node.output.elements // units
    if units * depth < _SMALL_MACS:
        return None
    if batch > 1:
        window = Window(1, batch, 1, batch, 1, 1, 1, 1, 1, 1, 0, 0)
        return window_calls(node, window, depth, node.input(1).array(), tile_bytes)
    for words in (4,) if form == "speed" else (4, 2):
        calls = _calls(node, _program(form, words), tile_bytes)
        if calls is not None:
            return calls
    return None


def _calls(node: Node, program: _Program, tile_bytes: int | None) -> list[MachineCall] | None:
    weights, tails = node.input(1).array(), Tails.of(node)
    units, depth = weights.shape
    live = np.where([[tails.constant(row)] for row in range(units)], 0, weights).astype(np.int8)
    firsts = [min(row, max(0, units - program.rows)) for row in range(0, units, program.rows)]
    groups = [_group(program, tails, live, first) for first in firsts]
    calls: list[MachineCall] = []
    for begin, end in _split(groups, tile_bytes):
        if begin == end:
            return None
        some = groups[begin:end]
        stream = b""
        table = b""
        for group in some:
            table += struct.pack("<i", 4 * len(some) + len(stream))
            stream += group.data
        first, last = firsts[begin], firsts[end - 1]
        calls.append(
            MachineCall(
                program.routine,
                Place(node.input(0).index),
                Place(node.output.index, first),
                weights=table + stream,
                params=program.parameters.values({"last_group": last - first, **tails.layer_words}),
                rows=len(some),
                macs=depth * min(units, program.rows * len(some)),
                cost=sum(group.cost for group in some),
            )
        )
    return calls


def _group(program: _Program, tails: Tails, weights: NDArray[Any], first: int) -> _Group:
    rows = range(first, min(first + program.rows, len(weights)))
    some = np.zeros((program.rows, weights.shape[1]), np.int8)
    some[: len(rows)] = weights[rows.start : rows.stop]
    used = np.flatnonzero(some.any(axis=0))
    some = some[:, : int(used[-1]) + 1 if len(used) else 0]
    kind = tails.kind(rows)
    lengths = packing.chunks(some, program.chain.longest)
    headers = program.chain.headers()
    data = b""
    at = 0
    for length in lengths:
        data += struct.pack("<i", headers[length - 1]) + program.chain.terms(some[:, at : at + length])
        at += length
    data += struct.pack("<i", program.chain.header(program.tails[kind]))
    for row in range(program.rows):
        words = tails.words(rows[min(row, len(rows) - 1)], kind)
        data += struct.pack(f"<{len(words)}i", *words)
    return _Group(data, _cost(lengths, program, kind))


def _cost(lengths: Iterable[int], program: _Program, kind: Kind) -> float:
    """Instructions of a group."""
    words = program.rows // 2
    if program.chain.term_bytes == 4 * words:
        tap, chunk = 1 + 3 * words, 3 * words + 6
    else:
        tap, chunk = 2 + 4 * words, 3 * words + 7
    tail = {"straight": 11, "bent": 14, "exact": 40}[kind]
    return 40 + sum(tap * length + chunk for length in lengths) + (tail + 1) * program.rows


def _split(groups: list[_Group], tile_bytes: int | None) -> list[tuple[int, int]]:
    """Ranges of groups by call, so that each call's stream fits; an empty range where one group does not."""
    parts: list[tuple[int, int]] = []
    begin = size = 0
    for i, group in enumerate(groups):
        needed = len(group.data) + 4
        if tile_bytes is not None and size + needed > tile_bytes:
            if needed > tile_bytes:
                return [(i, i)]
            parts.append((begin, i))
            begin, size = i, 0
        size += needed
    return [*parts, (begin, len(groups))]
