"""Loops over runs of memory, to copy, expand or fill them. A count may be 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from midgehost.codegen.asm.thumb import LR, R0, R1, R2, R3, R5, R6, R7, R8, R9
from midgehost.codegen.asm.thumb2 import Thumb2

SOURCE: Final = R0
TARGET: Final = R1
COUNT: Final = R2
FILL: Final = LR


def expand(a: Thumb2, pixels: int) -> None:
    """COUNT words of four int8 at SOURCE to int16 pairs at TARGET, (0, 2) and (1, 3); spoils R3 and R5 to R9.

    For two pixels every other word of the target is left out.
    """
    step = 4 * pixels

    def units(count: int) -> None:
        words = (R3, R5, R6, R7)[:count]
        a.ldm(SOURCE, words)
        for first in range(0, count, 2):
            two = words[first : first + 2]
            for word, odd in zip(two, (R8, R9), strict=False):
                a.sxtb16(odd, word, 8)
            for word in two:
                a.sxtb16(word, word)
            for i, (word, odd) in enumerate(zip(two, (R8, R9), strict=False), first):
                a.str_(word, TARGET, 2 * i * step)
                a.str_w(odd, TARGET, (2 * i + 1) * step)
        a.add_imm_w(TARGET, TARGET, 2 * step * count)

    _run(a, units)


def copy_bytes(a: Thumb2) -> None:
    """COUNT bytes; spoils R3 and R5 to R7."""

    def units(count: int) -> None:
        registers = (R3, R5, R6, R7)[:count]
        for register in registers:
            a.ldrb_post(register, SOURCE, 1)
        for register in registers:
            a.strb_post(register, TARGET, 1)

    _run(a, units)


def fill_pairs(a: Thumb2, pixels: int) -> None:
    """What `expand` makes of COUNT words of the value whose pair is in FILL."""
    step = 4 * pixels

    def unit() -> None:
        a.str_w(FILL, TARGET)
        a.str_w(FILL, TARGET, step)
        a.adds_imm(TARGET, TARGET, 2 * step)

    _ones(a, unit)


def fill_bytes(a: Thumb2) -> None:
    """COUNT bytes of the value in FILL."""
    _ones(a, lambda: a.strb_post(FILL, TARGET, 1))


def _ones(a: Thumb2, unit: Callable[[], None]) -> None:
    a.cbz(COUNT, done := a.fresh("done"))
    again = a.label()
    unit()
    a.subs_imm(COUNT, COUNT, 1)
    a.bcond("ne", again)
    a.label(done)


def _run(a: Thumb2, units: Callable[[int], None]) -> None:
    """COUNT times one unit: four at a time, then two and one. `units` keeps the flags."""
    a.subs_imm(COUNT, COUNT, 4)
    a.bcond("cc", rest := a.fresh("rest"))
    again = a.label()
    units(4)
    a.subs_imm(COUNT, COUNT, 4)
    a.bcond("cs", again)
    a.label(rest)
    a.lsls_imm(COUNT, COUNT, 31)  # carry: two are left, negative: one more
    a.bcond("cc", even := a.fresh("even"))
    units(2)
    a.label(even)
    a.bcond("pl", done := a.fresh("done"))
    units(1)
    a.label(done)
