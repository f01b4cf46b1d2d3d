"""The inner loop of convolutions: one filter over four output pixels, two multiply-accumulates a multiply.

A word of the tile holds two pixels of an input element as a plain sum, x = low + 65536 * high, and an element has two
words, for four pixels. One MULS by an int8 weight w gives w * low + 65536 * w * high modulo 2^32. Sums T of such
products are exact in both halves while the low half stays within 16 bits and the high half too; a *chunk* of terms is
as long as that is certain for every input, by the weights' worst case. After a chunk the halves are flushed into sums
A (of T) and B (of T >> 16); at the end of a row the high pixel's sum is B and the low pixel's A - (B << 16).

The stream of a row of weights, 32-bit words:
    B0 A0                   what A and B start with: minus all that the chunks start with
    chunk: header, then its weights, four int8 a word, the first in the lowest byte
    header of the tail, and the constants of its form
A header is what T starts with: its low half keeps the low sum positive, its high half is the distance to jump in
halfwords, which also goes into the high sum and is taken out by B0 and A0. Where to jump depends on the number of terms
and on where the chunk before ended: there is one unrolled ladder for each number of terms modulo 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.armv6m.frame import Kernel
from midgehost.codegen.armv6m.requantise import FORMS, Stage, emit_general, general_words, signed
from midgehost.codegen.asm.thumb import LR, PC, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12
from midgehost.codegen.requantise import TABLE_POST, Channels, ClampFirst, Table

T01, T23, A01, A23, B01, B23 = R8, R9, R10, R11, R12, LR
_X, _W = R0, R1  # the tile and the stream
_FULL: Final = 6  # full bodies of four terms in a ladder: chunks of up to 27 terms
LONGEST: Final = 4 * _FULL + 3

VARIABLES: Final = ("tile", "output", "v0", "v1", "v2", "v3")


@dataclass(frozen=True)
class Sites:
    """Addresses in a routine: where headers are read (0 at the beginning of a row, then by ladder), where they lead."""

    reads: tuple[int, ...]
    ladders: tuple[tuple[int, ...], ...]  # by terms % 4, then by full bodies
    tails: dict[str, int]  # by form, and "end"

    def body(self, terms: int) -> int:
        """The entry for a chunk."""
        whole, rest = divmod(terms, 4)
        return self.ladders[rest][whole - 1 if rest == 0 else whole]

    def jump(self, read: int, target: int) -> int:
        """The high half of a header that is read at site `read`."""
        return (target - self.reads[read] - 4) // 2


def emit(k: Kernel) -> None:
    """Code at label "row": runs the stream at r1 on the tile at slot `tile` until its end, then goes on at label
    "stream_end" with r1 behind the stream.

    Slots beside VARIABLES: `table` (address of index 0), `filters` (bytes between the outputs of neighbouring pixels).
    """
    _emit_tails(k)
    k.label("row")
    k.ldm(_W, [R2, R3])
    k.mov(A01, R3)
    k.mov(A23, R3)
    k.mov(B01, R2)
    k.mov(B23, R2)
    k.load(_X, "tile")
    _emit_read(k, 0)
    for rest in range(4):
        _emit_ladder(k, rest)


def sites(k: Kernel) -> Sites:
    """Where the code lies."""
    return Sites(
        tuple(k.address(f"read{i}") for i in range(5)),
        tuple(
            tuple(k.address(f"body{rest}_{i}") for i in range(_FULL + (rest > 0)))
            for rest in range(4)
        ),
        {form: k.address(f"tail_{form}") for form in (*FORMS, "end")},
    )


def _emit_read(k: Kernel, site: int) -> None:
    """Reads a header and the word behind it, and jumps."""
    k.ldm(_W, [R6, R7])
    k.mov(T01, R6)
    k.mov(T23, R6)
    k.asrs_imm(R6, R6, 15)
    k.label(f"read{site}")
    k.add(PC, R6)


def _emit_ladder(k: Kernel, rest: int) -> None:
    """Full bodies, each with its word of weights loaded before, then `rest` terms more (0: one full body more)."""
    full = _FULL if rest else _FULL - 1
    for i in range(full):
        k.label(f"body{rest}_{full - i}")
        _emit_terms(k, 4, last=False)
        k.ldm(_W, [R7])
    k.label(f"body{rest}_0")
    _emit_terms(k, rest or 4, last=True)
    _emit_read(k, 1 + rest)


def _emit_terms(k: Kernel, count: int, last: bool) -> None:
    """`count` terms by the weights in r7. The last term of a chunk is added the other way round and flushed."""
    for i in range(count):
        if i % 2 == 0:
            k.ldm(_X, [R2, R3, R4, R5] if i + 1 < count else [R2, R3])
        first, second = (R2, R3) if i % 2 == 0 else (R4, R5)
        weight = R6
        if i == 0:
            k.sxtb(R6, R7)
        elif i == 3:
            weight = R7
            k.asrs_imm(R7, R7, 24)
        else:
            k.lsls_imm(R6, R7, 24 - 8 * i)
            k.asrs_imm(R6, R6, 24)
        k.muls(first, weight)
        k.muls(second, weight)
        if last and i == count - 1:
            for x, t, a, b in ((first, T01, A01, B01), (second, T23, A23, B23)):
                k.add(x, t)
                k.add(a, x)
                k.asrs_imm(x, x, 16)
                k.add(b, x)
        else:
            k.add(T01, first)
            k.add(T23, second)


# Tails. r7 holds the first constant already. Sums of pixels 0 to 3 go to r2 to r5.

_SUMS: Final = (R2, R3, R4, R5)


def _emit_tails(k: Kernel) -> None:
    for bent in (False, True):
        k.label("tail_table_bent" if bent else "tail_table")
        _emit_table_tail(k, bent)
        _emit_store(k)
    for bent in (False, True):
        k.label("tail_clamp_bent" if bent else "tail_clamp")
        _emit_clamp_tail(k, bent)
        _emit_store(k)
    k.label("tail_general")
    _emit_general_tail(k)
    k.label("tail_end")
    k.b("stream_end")
    emit_general(k, "general")


def _emit_sums(k: Kernel) -> None:
    for low, high, a, b in ((R2, R3, A01, B01), (R4, R5, A23, B23)):
        k.mov(high, b)
        k.lsls_imm(R6, high, 16)
        k.mov(low, a)
        k.subs(low, low, R6)


def _emit_line(k: Kernel, value: int, fine: int) -> None:
    """value = value * r6 + ((value * fine) >> 12) + r7, flags set. Spoils r0."""
    k.mov(R0, fine)
    k.muls(R0, value)
    k.asrs_imm(R0, R0, 12)
    k.muls(value, R6)
    k.adds(R0, R0, R7)
    k.adds(value, value, R0)


def _emit_table_tail(k: Kernel, bent: bool) -> None:
    """Constants: fine, coarse, addend, and where bent delta."""
    _emit_sums(k)
    k.mov(R8, R7)
    if bent:
        k.ldm(_W, [R0, R6, R7])
        k.mov(R9, R0)
    else:
        k.ldm(_W, [R6, R7])
    for value in _SUMS:
        _emit_line(k, value, R8)
        if bent:
            k.bcond("mi", below := k.fresh())
            k.add(value, R9)
            k.label(below)
        k.asrs_imm(value, value, TABLE_POST)
    k.load(R6, "table")
    for value in _SUMS:
        k.ldrb_reg(value, R6, value)


def _emit_clamp_tail(k: Kernel, bent: bool) -> None:
    """Constants: fine, floor, top, coarse, addend, and where bent pivot, delta; then the last shift."""
    _emit_sums(k)
    k.mov(R8, R7)
    k.ldm(_W, [R6, R7])
    k.mov(R9, R6)
    k.mov(R10, R7)
    for value in _SUMS:
        for bound, condition in ((R9, "ge"), (R10, "le")):
            k.cmp(value, bound)
            k.bcond(condition, inside := k.fresh())
            k.mov(value, bound)
            k.label(inside)
    k.ldm(_W, [R6, R7])
    for value in _SUMS:
        _emit_line(k, value, R8)
    if bent:
        k.ldm(_W, [R6, R7])
        for value in _SUMS:
            k.cmp(value, R6)
            k.bcond("lt", below := k.fresh())
            k.adds(value, value, R7)
            k.label(below)
    k.ldm(_W, [R6])
    for value in _SUMS:
        k.asrs(value, R6)


def _emit_store(k: Kernel) -> None:
    """Four outputs, `filters` bytes apart; on to the next row."""
    k.load(R0, "output")
    k.load(R6, "filters")
    k.lsls_imm(R7, R6, 1)
    k.adds(R7, R7, R0)
    k.strb(R2, R0)
    k.strb_reg(R3, R0, R6)
    k.strb(R4, R7)
    k.strb_reg(R5, R7, R6)
    k.adds_imm(R0, R0, 1)
    k.store(R0, "output")
    k.b("row")


def _emit_general_tail(k: Kernel) -> None:
    """Constants: one unused, then those of `emit_general`."""
    _emit_sums(k)
    for i, value in enumerate(_SUMS):
        k.store(value, f"v{i}")
    for i in range(4):
        k.load(R0, f"v{i}")
        k.bl("general")
        k.store(R0, f"v{i}")
    for i, value in enumerate(_SUMS):
        k.load(value, f"v{i}")
    k.adds_imm(_W, _W, 28)
    _emit_store(k)


# Packing

_BODY, _FLUSH, _ROW = 34, 12, 37  # cycles: four terms, a chunk beside its terms, a row beside its chunks and tail
_TAIL: Final = {"table": 47, "table_bent": 57, "clamp": 72, "clamp_bent": 88, "general": 400}


@dataclass(frozen=True)
class Row:
    """A row of weights as the engine reads it, and the cycles it takes."""

    words: tuple[int, ...]
    cycles: float


def row(weights: NDArray[np.int8], stage: Stage, channels: Channels, channel: int, where: Sites) -> Row:
    """The stream of one filter; weights in the order of the tile's elements."""
    words: list[int] = []
    starts = lows = 0
    cycles = float(_ROW + _TAIL[stage.form])
    read = 0
    for terms, start, offset in [] if stage.constant else _chunks(weights, where):
        jump = where.jump(read, where.body(terms))
        words.append(jump << 16 | offset)
        chunk = weights[start : start + terms].astype(np.int8).tobytes()
        words += np.frombuffer(chunk.ljust(-(-terms // 4) * 4, b"\0"), "<u4").tolist()
        starts += jump
        lows += offset
        read = 1 + terms % 4
        cycles += _FLUSH + terms * _BODY / 4 + terms % 2 / 2
    words.append(where.jump(read, where.tails[stage.form]) << 16 | 0x8000)
    words += _constants(stage, channels, channel)
    head = [-starts, -(starts << 16) - lows]
    return Row(tuple(signed(word) for word in (*head, *words)), cycles)


def end(where: Sites) -> tuple[int, ...]:
    """The words that end a stream: a row without chunks that leads to the end."""
    return (0, 0, signed(where.jump(0, where.tails["end"]) << 16), 0)


def _constants(stage: Stage, channels: Channels, channel: int) -> list[int]:
    line = stage.line
    if isinstance(line, Table):
        return [line.fine, *([line.delta] if line.delta else []), line.coarse, line.addend]
    if isinstance(line, ClampFirst):
        bend = [line.pivot, line.delta] if line.delta else []
        return [line.fine, line.floor, line.top, line.coarse, line.addend, *bend, line.post]
    return [0, *general_words(channels, channel)]


def _chunks(weights: NDArray[np.int8], where: Sites) -> Sequence[tuple[int, int, int]]:
    """(terms, first term, low half of the header) of each chunk, each as long as its halves are certain to fit."""
    wide = weights.astype(np.int64)
    least = np.concatenate([[0], np.minimum(-128 * wide, 127 * wide).cumsum()])
    most = np.concatenate([[0], np.maximum(-128 * wide, 127 * wide).cumsum()])
    found: list[tuple[int, int, int]] = []
    start = read = 0
    while start < len(weights):
        for terms in range(min(LONGEST, len(weights) - start), 0, -1):
            low, high = int(least[start + terms] - least[start]), int(most[start + terms] - most[start])
            jump = where.jump(read, where.body(terms))
            if high - low <= 0xFFFF and jump + low >= -0x8000 and jump + high <= 0x7FFF:
                break
        else:
            raise AssertionError("a single term always fits")
        found.append((terms, start, min(max(0x8000, -low), 0xFFFF - high)))
        read = 1 + terms % 4
        start += terms
    return found
