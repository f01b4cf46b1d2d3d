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


def widen(a: Thumb2) -> None:
    """COUNT int8 at SOURCE to halves, for two pixels: TARGET moves by 2 and 6 in turn. Spoils R3 and R5 to R7."""

    def units(count: int) -> None:
        registers = (R3, R5, R6, R7)[:count]
        for register in registers:
            a.ldrsb_post(register, SOURCE, 1)
        for place, register in zip((0, 2, 8, 10), registers, strict=False):
            a.strh(register, TARGET, place)
        a.add_imm_w(TARGET, TARGET, (2, 8, 0, 16)[count - 1])

    a.cbz(COUNT, nothing := a.fresh("nothing"))
    a.tst_imm_w(TARGET, 2)
    a.bcond("eq", even := a.fresh("even"))
    a.ldrsb_post(R3, SOURCE, 1)
    a.strh_post(R3, TARGET, 6)
    a.subs_imm(COUNT, COUNT, 1)
    a.label(even)
    _run(a, units)
    a.label(nothing)


def fill_pairs(a: Thumb2) -> None:
    """What `expand` makes, for two pixels, of COUNT words of the value whose pair is in FILL."""

    def unit() -> None:
        a.str_post(FILL, TARGET, 8)
        a.str_post(FILL, TARGET, 8)

    _ones(a, unit)


def fill_halves(a: Thumb2) -> None:
    """What `widen` makes of COUNT times the value in FILL."""

    def unit() -> None:
        a.strh_post(FILL, TARGET, 2)
        a.tst_imm_w(TARGET, 2)
        a.it("eq")
        a.add_imm_w(TARGET, TARGET, 4)

    _ones(a, unit)


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
