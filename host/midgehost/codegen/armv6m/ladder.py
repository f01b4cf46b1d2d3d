"""The inner loop of all packed kernels: two multiply-accumulates a MULS, in chunks, by computed jumps into ladders.

A word holds two values of eight bits as a plain sum, low + 65536 * high: two pixels of an input element, or the weights
of two filters. One MULS by a common factor gives both products, low * f + 65536 * high * f modulo 2^32. Sums T of such
products are exact in both halves while each half stays within 16 bits; a *chunk* of terms is as long as that is sure
for every input, by the weights' worst case. After a chunk T is flushed into sums A (of T) and B (of T >> 16); at the
end of a row the high sum is B and the low one A - (B << 16). Here a term is a pair of such words (at r0) with one
factor (at r1), four multiply-accumulates.

The stream of a row, 32-bit words in the pairs or in the factors, whichever are the weights:
    B0 A0                   what A and B start with: minus all that the chunks start with
    chunk: header, then its weights: pairs; or factors, *wide* a word each, *narrow* four int8 a word, lowest byte first
    header of the tail, and the constants of its form
A header is what T starts with: its low half keeps the low sum positive, its high half is the distance to jump in
halfwords, which also goes into the high sum and is taken out by B0 and A0. Where to jump depends on the number of terms
and on where the chunk before ended: there is one unrolled ladder for each number of terms modulo 4 (narrow) or 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.armv6m.frame import Kernel, signed
from midgehost.codegen.asm.thumb import LR, PC, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12
from midgehost.models.quant import Ints

T0, T1, A0, A1, B0, B1 = R8, R9, R10, R11, R12, LR
PAIRS, FACTORS = R0, R1
_LONGEST: Final = 27  # terms of a chunk


@dataclass(frozen=True)
class Sites:
    """Addresses in a routine: where headers are read (0 at the beginning of a row, then by ladder), where they lead."""

    narrow: bool
    reads: tuple[int, ...]
    ladders: tuple[tuple[int, ...], ...]  # by terms modulo the width, then by full bodies before the last terms
    tails: dict[str, int]

    def body(self, terms: int) -> int:
        """The entry for a chunk."""
        whole, rest = divmod(terms, len(self.ladders))
        return self.ladders[rest][whole - 1 if rest == 0 else whole]

    def read(self, terms: int) -> int:
        """The site where a header is read after a chunk."""
        return 1 + terms % len(self.ladders)

    def jump(self, read: int, target: int) -> int:
        """The high half of a header that is read at site `read`."""
        return (target - self.reads[read] - 4) // 2

    @cached_property
    def reach(self) -> tuple[Ints, Ints]:
        """The least and the greatest jump to a chunk of so many terms, from 1 on."""
        jumps = [
            [self.jump(read, self.body(terms)) for read in range(len(self.reads))] for terms in range(1, _LONGEST + 1)
        ]
        return np.array([min(some) for some in jumps]), np.array([max(some) for some in jumps])

    def cycles(self, terms: int) -> int:
        """What a chunk takes."""
        whole, rest = divmod(terms, len(self.ladders))
        return 14 + 34 * whole + (-2, 8, 16, 25)[rest] if self.narrow else 13 + 16 * whole + 9 * rest


def emit(k: Kernel, stream: int, narrow: bool = False) -> None:
    """A row: the stream at register `stream`, PAIRS or FACTORS, with the others at the other one (`narrow` if the
    factors are). Ends in the tail that the stream leads to.
    """
    k.ldm(stream, [R2, R3])
    for a in (A0, A1):
        k.mov(a, R3)
    for b in (B0, B1):
        k.mov(b, R2)
    width = 4 if narrow else 2
    _emit_read(k, stream, 0, narrow)
    for rest in range(width):
        for i in reversed(range(_bodies(rest, width))):
            k.label(f"body{rest}_{i + 1}")
            _emit_terms(k, width, narrow, last=False)
        k.label(f"body{rest}_0")
        _emit_terms(k, rest or width, narrow, last=True)
        _emit_read(k, stream, 1 + rest, narrow)


def sites(k: Kernel, narrow: bool, tails: Sequence[str]) -> Sites:
    """Where the code lies, and the labels of tails."""
    width = 4 if narrow else 2
    return Sites(
        narrow,
        tuple(k.address(f"read{i}") for i in range(width + 1)),
        tuple(tuple(k.address(f"body{rest}_{i}") for i in range(_bodies(rest, width) + 1)) for rest in range(width)),
        {tail: k.address(tail) for tail in tails},
    )


def _bodies(rest: int, width: int) -> int:
    """Full bodies of a ladder before its last terms."""
    return (_LONGEST - (rest or width)) // width


def _emit_read(k: Kernel, stream: int, site: int, narrow: bool) -> None:
    """Reads a header to r6, narrow also the word behind it to r7, and jumps."""
    k.ldm(stream, [R6, R7] if narrow else [R6])
    k.mov(T0, R6)
    k.mov(T1, R6)
    k.asrs_imm(R6, R6, 15)
    k.label(f"read{site}")
    k.add(PC, R6)  # bit 0 is the low half's top bit: it does not count


def _emit_terms(k: Kernel, count: int, narrow: bool, last: bool) -> None:
    """`count` terms; narrow, their factors are in r7, and the next ones are loaded there."""
    for i in range(count):
        if i % 2 == 0:
            some = min(2, count - i)
            k.ldm(PAIRS, [R2, R3, R4, R5][: 2 * some])
            if not narrow:
                k.ldm(FACTORS, [R6, R7][:some])
        factor = (R6, R6, R6, R7)[i] if narrow else (R6, R7)[i]
        if narrow and i == 0:
            k.sxtb(R6, R7)
        elif narrow:
            if i < 3:
                k.lsls_imm(R6, R7, 24 - 8 * i)
            k.asrs_imm(factor, factor, 24)
        _emit_products(k, (R2, R3) if i % 2 == 0 else (R4, R5), factor, last and i == count - 1)
    if narrow and not last:
        k.ldm(FACTORS, [R7])


def _emit_products(k: Kernel, pair: tuple[int, int], factor: int, last: bool) -> None:
    """A pair by its factor. A chunk's last products are added the other way round and flushed."""
    for word in pair:
        k.muls(word, factor)
    if not last:
        k.add(T0, pair[0])
        k.add(T1, pair[1])
        return
    for word, t, a, b in zip(pair, (T0, T1), (A0, A1), (B0, B1), strict=True):
        k.add(word, t)
        k.add(a, word)
        k.asrs_imm(word, word, 16)
        k.add(b, word)


def emit_sums(k: Kernel) -> None:
    """r2 to r5 = the sums of the pair's low and high half, then of the second word's. Spoils r6."""
    for low, high, a, b in ((R2, R3, A0, B0), (R4, R5, A1, B1)):
        k.mov(high, b)
        k.lsls_imm(R6, high, 16)
        k.mov(low, a)
        k.subs(low, low, R6)


@dataclass(frozen=True)
class Row:
    """A row as the ladders read it, and the cycles it takes."""

    words: tuple[int, ...]
    cycles: float


ROW_CYCLES: Final = 15  # a row beside its chunks and its tail


def end(where: Sites) -> tuple[int, ...]:
    """The words that end a stream: a row without chunks that leads to "tail_end"."""
    words = 0, 0, signed(where.jump(0, where.tails["tail_end"]) << 16), 0
    return words if where.narrow else words[:3]


def row(
    lows: NDArray[np.int8],
    highs: NDArray[np.int8],
    weights: NDArray[Any],
    chunks: Sequence[int],
    tail: str,
    where: Sites,
) -> Row:
    """The stream of a row up to the tail's constants.

    lows and highs [n, terms] are the weights that the low and the high halves are multiplied with, at most; `weights`
    is what the stream has for each term: int8 [terms], or int32 [terms, 2] pairs.
    """
    words: list[int] = []
    starts = low_starts = read = first = 0
    cycles = float(ROW_CYCLES)
    for terms in chunks:
        chunk = slice(first, first + terms)
        (low, most_low), (high, most_high) = (_worst(some[:, chunk].astype(np.int64)) for some in (lows, highs))
        jump = where.jump(read, where.body(terms))
        start = min(max(0x8000, -low), 0xFFFF - most_low)
        assert low + start >= 0 and most_low + start <= 0xFFFF, "the low sum fits 16 bits"
        assert high + jump >= -0x8000 and most_high + jump <= 0x7FFF, "the high sum fits 16 bits"
        words.append(jump << 16 | start)
        if where.narrow:
            words += np.pad(weights[chunk], (0, -terms % 4)).astype("i1").view("<i4").tolist()
        else:
            words += weights[chunk].ravel().tolist()
        starts += jump
        low_starts += start
        cycles += where.cycles(terms)
        read = where.read(terms)
        first += terms
    words.append(where.jump(read, where.tails[tail]) << 16)
    return Row(tuple(signed(word) for word in (-starts, -(starts << 16) - low_starts, *words)), cycles)


def chunks(lows: NDArray[np.int8], highs: NDArray[np.int8], where: Sites) -> list[list[int]]:
    """The lengths of each row's chunks: those that take the fewest cycles of all that are certain to fit.

    lows and highs [rows, n, terms] are as in `row`. The low sums must fit 16 bits from a common start, the high ones
    from any jump to a chunk of this length.
    """
    (low, most_low), (high, most_high) = (
        [np.pad(end.cumsum(axis=2), ((0, 0), (0, 0), (1, 0))) for end in _ends(some.astype(np.int64))]
        for some in (lows, highs)
    )
    count, (back, ahead) = lows.shape[2], where.reach
    cost = np.array([where.cycles(terms) for terms in range(1, _LONGEST + 1)])
    best = np.zeros((len(lows), count + 1), np.int64)
    length = np.zeros((len(lows), count + 1), np.int64)
    for at in range(1, count + 1):
        some = min(at, _LONGEST)
        before = slice(at - 1, at - some - 1 if at > some else None, -1)  # where chunks of 1, 2, .. terms begin
        spans = [end[:, :, at : at + 1] - end[:, :, before] for end in (low, most_low, high, most_high)]
        fits = spans[1].max(axis=1) - spans[0].min(axis=1) <= 0xFFFF
        fits &= spans[2].min(axis=1) + back[:some] >= -0x8000
        fits &= spans[3].max(axis=1) + ahead[:some] <= 0x7FFF
        total = np.where(fits, best[:, before] + cost[:some], 1 << 40)
        length[:, at] = total.argmin(axis=1) + 1
        best[:, at] = total.min(axis=1)
    return [_walk_back(row, count) for row in length]


def _walk_back(lengths: Ints, at: int) -> list[int]:
    found: list[int] = []
    while at:
        found.append(int(lengths[at]))
        at -= found[-1]
    return found[::-1]


def _worst(weights: Ints) -> tuple[int, int]:
    """The least and the greatest sum of any of the rows [n, terms]."""
    low, high = _ends(weights)
    return int(low.sum(axis=1).min()), int(high.sum(axis=1).max())


def _ends(weights: Ints) -> tuple[Ints, Ints]:
    """What each term adds at least and at most, for x in -128 to 127."""
    return np.minimum(-128 * weights, 127 * weights), np.maximum(-128 * weights, 127 * weights)
