"""One channel's four sums to outputs: the code of each form of the last stage, and its constants.

The sums are in r2 to r5. The first constant is in r7 already, r1 points to the others and ends behind them; r0, r6 to
r10 are spoilt, by the general form r14 too.
"""

from __future__ import annotations

from typing import Final

from midgehost.codegen.armv6m.frame import Kernel
from midgehost.codegen.armv6m.requantise import GENERAL_WORDS, Stage, emit_clamp, general_words
from midgehost.codegen.asm.thumb import R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10
from midgehost.codegen.requantise import TABLE_POST, Channels, ClampFirst, Table

SUMS: Final = (R2, R3, R4, R5)
VARIABLES: Final = ("table", "v0", "v1", "v2", "v3")  # slots: the address of index 0, and room for four values
CYCLES: Final = {"table": 42, "table_bent": 51, "clamp": 66, "clamp_bent": 81, "general": 570}


def emit(k: Kernel, form: str) -> None:
    """A form of `requantise.FORMS`; the general one calls the label "general"."""
    if form == "general":
        _emit_general(k)
    elif form.startswith("table"):
        _emit_table(k, form == "table_bent")
    else:
        _emit_clamp(k, form == "clamp_bent")


def _emit_line(k: Kernel, value: int, fine: int) -> None:
    """value = value * r6 + ((value * fine) >> 12) + r7, flags set. Spoils r0."""
    k.mov(R0, fine)
    k.muls(R0, value)
    k.asrs_imm(R0, R0, 12)
    k.muls(value, R6)
    k.adds(R0, R0, R7)
    k.adds(value, value, R0)


def _emit_table(k: Kernel, bent: bool) -> None:
    """Constants: fine, coarse, addend, and where bent delta."""
    k.mov(R8, R7)
    if bent:
        k.ldm(R1, [R0, R6, R7])
        k.mov(R9, R0)
    else:
        k.ldm(R1, [R6, R7])
    for value in SUMS:
        _emit_line(k, value, R8)
        if bent:
            k.bcond("mi", below := k.fresh())
            k.add(value, R9)
            k.label(below)
        k.asrs_imm(value, value, TABLE_POST)
    k.load(R6, "table")
    for value in SUMS:
        k.ldrb_reg(value, R6, value)


def _emit_clamp(k: Kernel, bent: bool) -> None:
    """Constants: fine, floor, top, coarse, addend, and where bent pivot, delta; then the last shift."""
    k.mov(R8, R7)
    k.ldm(R1, [R6, R7])
    k.mov(R9, R6)
    k.mov(R10, R7)
    for value in SUMS:
        emit_clamp(k, value, R9, R10)
    k.ldm(R1, [R6, R7])
    for value in SUMS:
        _emit_line(k, value, R8)
    if bent:
        k.ldm(R1, [R6, R7])
        for value in SUMS:
            k.cmp(value, R6)
            k.bcond("lt", below := k.fresh())
            k.adds(value, value, R7)
            k.label(below)
    k.ldm(R1, [R6])
    for value in SUMS:
        k.asrs(value, R6)


def _emit_general(k: Kernel) -> None:
    """Constants: one unused, then those of `emit_general`."""
    for i, value in enumerate(SUMS):
        k.store(value, f"v{i}")
    for i in range(4):
        k.load(R0, f"v{i}")
        k.bl("general")
        k.store(R0, f"v{i}")
    for i, value in enumerate(SUMS):
        k.load(value, f"v{i}")
    k.adds_imm(R1, R1, 4 * GENERAL_WORDS)


def constants(stage: Stage, channels: Channels, channel: int) -> list[int]:
    """All constants of a channel, the first included."""
    line = stage.line
    if isinstance(line, Table):
        return [line.fine, *([line.delta] if line.delta else []), line.coarse, line.addend]
    if isinstance(line, ClampFirst):
        bend = [line.pivot, line.delta] if line.delta else []
        return [line.fine, line.floor, line.top, line.coarse, line.addend, *bend, line.post]
    return [0, *general_words(channels, channel)]
