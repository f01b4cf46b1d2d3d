"""Loops over runs of memory: four units a turn, then one at a time. A count may be 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from midgehost.codegen.asm.thumb import LR, R0, R1, R2, R3, R5, R6, R7, R8, R9, R10, R11
from midgehost.codegen.asm.thumb2 import Thumb2

SOURCE: Final = R0
TARGET: Final = R1
COUNT: Final = R2
FILL: Final = LR


def expand(a: Thumb2, pixels: int) -> None:
    """COUNT words of four int8 at SOURCE to int16 pairs at TARGET, (0, 2) and (1, 3); spoils R3 and R5 to R11.

    For two pixels every other word of the target is left out.
    """
    step = 4 * pixels

    def units(count: int) -> None:
        words, odd = (R3, R5, R6, R7)[:count], (R8, R9, R10, R11)[:count]
        a.ldm(SOURCE, words)
        for word, other in zip(words, odd, strict=True):
            a.sxtb16(other, word, 8)
        for word in words:
            a.sxtb16(word, word)
        for i, (word, other) in enumerate(zip(words, odd, strict=True)):
            a.str_(word, TARGET, 2 * i * step)
            a.str_w(other, TARGET, (2 * i + 1) * step)
        a.adds_imm(TARGET, TARGET, 2 * step * count)

    _loops(a, units)


def fill_pairs(a: Thumb2, pixels: int) -> None:
    """What `expand` makes of COUNT words of the value whose pair is in FILL."""
    step = 4 * pixels

    def units(count: int) -> None:
        for i in range(2 * count):
            a.str_w(FILL, TARGET, i * step)
        a.adds_imm(TARGET, TARGET, 2 * step * count)

    _loops(a, units, once=(1,))


def copy_bytes(a: Thumb2) -> None:
    """COUNT bytes; spoils R3 and R5 to R7."""

    def units(count: int) -> None:
        registers = (R3, R5, R6, R7)[:count]
        for register in registers:
            a.ldrb_post(register, SOURCE, 1)
        for register in registers:
            a.strb_post(register, TARGET, 1)

    _loops(a, units)


def fill_bytes(a: Thumb2) -> None:
    """COUNT bytes of the value in FILL."""
    _loops(a, lambda _: a.strb_post(FILL, TARGET, 1), once=(1,))


def _loops(a: Thumb2, units: Callable[[int], None], once: tuple[int, ...] = (4, 1)) -> None:
    """`units(n)` moves n units on and leaves COUNT alone."""
    for size in once:
        a.subs_imm(COUNT, COUNT, size)
        a.bcond("cc", done := a.fresh("done"))
        again = a.label()
        units(size)
        a.subs_imm(COUNT, COUNT, size)
        a.bcond("cs", again)
        a.label(done)
        if size > 1:
            a.adds_imm(COUNT, COUNT, size)
