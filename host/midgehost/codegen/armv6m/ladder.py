"""The inner loop of all packed kernels: two multiply-accumulates a MULS, in chunks, by computed jumps into ladders.

A word holds two values of eight bits as a plain sum, low + 65536 * high: two pixels of an input element, or the weights
of two filters. One MULS by a common factor gives both products, low * f + 65536 * high * f modulo 2^32. Sums T of such
products are exact in both halves while each half stays within 16 bits; a *chunk* of terms is as long as that is sure
for every input, by the weights' worst case. After a chunk T is flushed into sums A (of T) and B (of T >> 16); at the
end of a row the high sum is B and the low one A - (B << 16). Here a term is a pair of such words (at r0) with one
factor (at r1), four multiply-accumulates.

The stream of a row, 32-bit words in the pairs or in the factors, whichever are the weights:
    B0 A0                   what A and B start with: minus all that the chunks start with
    chunk: header, then its weights: pairs or factors a word each; or *bytes*, both words of a pair in one
    header of the tail, and the constants of its form
A header is what T starts with: its low half keeps the low sum positive, its high half is the distance to jump in
halfwords, which also goes into the high sum and is taken out by B0 and A0. Where to jump depends on the number of terms
and on where the chunk before ended: there is an unrolled ladder for even and one for odd numbers.

A pair of bytes has four weights w + 128, of the first word's halves in its bytes 0 and 2, of the second's in 1 and 3.
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
_MASK, _OFFSETS = R6, R7  # of bytes: 0x00FF00FF and 0x00800080
_LONGEST: Final = 27  # terms of a chunk


@dataclass(frozen=True)
class Sites:
    """Addresses in a routine: where headers are read (0 at the beginning of a row, then by ladder), where they lead."""

    octets: bool
    reads: tuple[int, ...]
    ladders: tuple[tuple[int, ...], ...]  # by terms modulo 2, then by bodies of two before the last terms
    tails: dict[str, int]

    def body(self, terms: int) -> int:
        """The entry for a chunk."""
        whole, rest = divmod(terms, 2)
        return self.ladders[rest][whole - 1 + rest]

    def read(self, terms: int) -> int:
        """The site where a header is read after a chunk."""
        return 1 + terms % 2

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
        whole, rest = divmod(terms, 2)
        return 13 + (27 * whole + 14 * rest if self.octets else 16 * whole + 9 * rest)


def emit(k: Kernel, stream: int, octets: bool = False) -> None:
    """A row: the stream at register `stream`, PAIRS or FACTORS, with the others at the other one. Ends in the tail that
    the stream leads to. With `octets` the stream is PAIRS, of bytes.
    """
    k.ldm(stream, [R2, R3])
    for a in (A0, A1):
        k.mov(a, R3)
    for b in (B0, B1):
        k.mov(b, R2)
    if octets:
        for register, byte in ((_MASK, 0xFF), (_OFFSETS, 0x80)):
            k.movs(register, byte)
            k.lsls_imm(R2, register, 16)
            k.adds(register, register, R2)
    terms = _emit_octet_terms if octets else _emit_terms
    _emit_read(k, stream, 0)
    for rest in range(2):
        for i in reversed(range(_bodies(rest))):
            k.label(f"body{rest}_{i + 1}")
            terms(k, 2, last=False)
        k.label(f"body{rest}_0")
        terms(k, rest or 2, last=True)
        _emit_read(k, stream, 1 + rest)


def sites(k: Kernel, tails: Sequence[str], octets: bool = False) -> Sites:
    """Where the code lies, and the labels of tails."""
    return Sites(
        octets,
        tuple(k.address(f"read{i}") for i in range(3)),
        tuple(tuple(k.address(f"body{rest}_{i}") for i in range(_bodies(rest) + 1)) for rest in range(2)),
        {tail: k.address(tail) for tail in tails},
    )


def _bodies(rest: int) -> int:
    """Bodies of a ladder before its last terms."""
    return (_LONGEST - (rest or 2)) // 2


def _emit_read(k: Kernel, stream: int, site: int) -> None:
    """Reads a header and jumps."""
    k.ldm(stream, [R4])
    k.mov(T0, R4)
    k.mov(T1, R4)
    k.asrs_imm(R4, R4, 15)
    k.label(f"read{site}")
    k.add(PC, R4)  # bit 0 is the low half's top bit: it does not count


def _emit_terms(k: Kernel, count: int, last: bool) -> None:
    k.ldm(PAIRS, [R2, R3, R4, R5][: 2 * count])
    k.ldm(FACTORS, [R6, R7][:count])
    for i, pair in enumerate(((R2, R3), (R4, R5))[:count]):
        for word in pair:
            k.muls(word, (R6, R7)[i])
        _emit_sum(k, pair, last and i == count - 1)


def _emit_octet_terms(k: Kernel, count: int, last: bool) -> None:
    k.ldm(FACTORS, [R2, R3][:count])
    for i, factor in enumerate((R2, R3)[:count]):
        k.ldm(PAIRS, [R4])
        k.mov(R5, R4)
        k.lsrs_imm(R4, R4, 8)
        for word in (R5, R4):
            k.ands(word, _MASK)
            k.subs(word, word, _OFFSETS)
            k.muls(word, factor)
        _emit_sum(k, (R5, R4), last and i == count - 1)


def _emit_sum(k: Kernel, pair: tuple[int, int], last: bool) -> None:
    """Adds a pair of products to T. A chunk's last ones are added the other way round and flushed."""
    if not last:
        k.add(T0, pair[0])
        k.add(T1, pair[1])
        return
    for word, t, a, b in zip(pair, (T0, T1), (A0, A1), (B0, B1), strict=True):
        k.add(word, t)
        k.add(a, word)
        k.asrs_imm(word, word, 16)
        k.add(b, word)


def emit_sums(k: Kernel, first: tuple[int, int] = (A0, B0), second: tuple[int, int] = (A1, B1)) -> None:
    """r2 to r5 = the sums of the first word's low and high half, then of the second's, from A and B. Spoils r6."""
    for low, high, (a, b) in ((R2, R3, first), (R4, R5, second)):
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
    return 0, 0, signed(where.jump(0, where.tails["tail_end"]) << 16)


def row(
    lows: NDArray[np.int8],
    highs: NDArray[np.int8],
    words: NDArray[Any],
    chunks: Sequence[int],
    tail: str,
    where: Sites,
) -> Row:
    """The stream of a row up to the tail's constants.

    lows and highs [n, terms] are the weights that the low and the high halves are multiplied with; `words` [terms, ..]
    is what the stream has for each term.
    """
    stream: list[int] = []
    starts = low_starts = read = first = 0
    cycles = float(ROW_CYCLES)
    for terms in chunks:
        chunk = slice(first, first + terms)
        (low, most_low), (high, most_high) = (_worst(some[:, chunk].astype(np.int64)) for some in (lows, highs))
        jump = where.jump(read, where.body(terms))
        start = min(max(0x8000, -low), 0xFFFF - most_low)
        assert low + start >= 0 and most_low + start <= 0xFFFF, "the low sum fits 16 bits"
        assert high + jump >= -0x8000 and most_high + jump <= 0x7FFF, "the high sum fits 16 bits"
        stream.append(jump << 16 | start)
        stream += words[chunk].ravel().tolist()
        starts += jump
        low_starts += start
        cycles += where.cycles(terms)
        read = where.read(terms)
        first += terms
    stream.append(where.jump(read, where.tails[tail]) << 16)
    return Row(tuple(signed(word) for word in (-starts, -(starts << 16) - low_starts, *stream)), cycles)


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
