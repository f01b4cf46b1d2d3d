"""The inner loop for int8 weights as they are: one filter over a tile, flushed after every two terms.

As in `ladder` a product of a weight and two packed pixels is low + 65536 * high, and so is the sum of two of them. Any
two weights fit: the sum is in -32512..32768, over all int8 weights and inputs, so that + 0x7FFF keeps the low half in
0..65535, and the high half, one less, in -32513..32767. A sums the products, B their high halves less 1; B starts
with the number of flushes. There are no headers: a filter takes a byte a weight.

The stream of a row, 32-bit words:
    the distance from where it is read to where the loop, unrolled, is entered
    the weights, four a word, the first in the lowest byte, zeros behind the last
    the distance to the tail, and the constants of its form
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.armv6m.frame import Kernel
from midgehost.codegen.armv6m.ladder import FACTORS, PAIRS, Row, emit_sums
from midgehost.codegen.asm.thumb import LR, PC, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12

_UNROLLED: Final = 4  # words of weights
_END, _ROUND = R8, R11  # of the tile; 0x7FFF - 0x10000
_FIRST, _SECOND = (R9, R10), (R12, LR)  # A and B of each word
PAD: Final = 3  # elements that may be read behind a tile; they are multiplied by zeros


@dataclass(frozen=True)
class Sites:
    """Distances that streams hold, in bytes."""

    entries: tuple[int, ...]  # by words of weights modulo _UNROLLED
    end: int
    tails: dict[str, int]


def emit(k: Kernel) -> None:
    """A row: the stream at FACTORS, the tile at PAIRS. Slots: `tile_end`, behind its last four elements, and `flushes`.
    Ends in the tail that the stream leads to.
    """
    k.load(R2, "tile_end")
    k.mov(_END, R2)
    k.movs(R2, 1)
    k.lsls_imm(R2, R2, 15)
    k.adds_imm(R2, R2, 1)
    k.rsbs(R2, R2)
    k.mov(_ROUND, R2)
    k.movs(R2, 0)
    k.load(R3, "flushes")
    for a, b in (_FIRST, _SECOND):
        k.mov(a, R2)
        k.mov(b, R3)
    k.ldm(FACTORS, [R6])
    k.label("enter")
    k.add(PC, R6)
    for i in range(_UNROLLED):
        k.label(f"words{i}")
        k.ldm(FACTORS, [R7])
        for two in range(2):
            k.ldm(PAIRS, [R2, R3, R4, R5])
            _emit_two(k, two)
    k.cmp(PAIRS, _END)
    k.bcond("eq", done := k.fresh())
    k.b("words0")
    k.label(done)
    k.ldm(FACTORS, [R6, R7])
    k.label("leave")
    k.add(PC, R6)


def emit_pixel_sums(k: Kernel) -> None:
    """r2 to r5 = the sums of the four pixels. Spoils r6."""
    emit_sums(k, _FIRST, _SECOND)


def sites(k: Kernel, tails: list[str]) -> Sites:
    """Where the code lies."""
    enter, leave = k.address("enter") + 4, k.address("leave") + 4
    return Sites(
        tuple(k.address(f"words{-i % _UNROLLED}") - enter for i in range(_UNROLLED)),
        k.address("tail_end") - enter,
        {tail: k.address(tail) - leave for tail in tails},
    )


def _emit_two(k: Kernel, two: int) -> None:
    """Two terms, by the weights in the low or the high half of r7."""
    if two == 0:
        k.sxtb(R6, R7)
    else:
        k.lsls_imm(R6, R7, 8)
        k.asrs_imm(R6, R6, 24)
    for word in (R2, R3):
        k.muls(word, R6)
    if two == 0:
        k.lsls_imm(R6, R7, 16)
        k.asrs_imm(R6, R6, 24)
    else:
        k.asrs_imm(R6, R7, 24)
    for word in (R4, R5):
        k.muls(word, R6)
    for word, product, (a, b) in ((R2, R4, _FIRST), (R3, R5, _SECOND)):
        k.adds(word, word, product)
        k.add(a, word)
        k.add(word, _ROUND)
        k.asrs_imm(word, word, 16)
        k.add(b, word)


ROW_CYCLES: Final = 24  # a row beside its words and its tail
WORD_CYCLES: Final = 46.75


def padded(terms: int) -> int:
    """The elements of a tile that are read."""
    return -(-terms // 4) * 4


def row(weights: NDArray[np.int8], tail: str, where: Sites) -> Row:
    """The stream of a filter [terms] up to the tail's constants."""
    words = np.pad(weights, (0, -len(weights) % 4)).view("<i4").tolist()
    entry = where.entries[len(words) % _UNROLLED]
    return Row((entry, *words, where.tails[tail]), ROW_CYCLES + WORD_CYCLES * len(words))


def end(where: Sites) -> tuple[int, ...]:
    """The words that end a stream."""
    return (where.end,)
