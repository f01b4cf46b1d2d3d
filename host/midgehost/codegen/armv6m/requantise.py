"""How a channel's sums become outputs on M0+: its form, and the code of what forms share.

Forms in order of speed: a line with a table of clamped outputs, a line on a clamped sum (both proved in
`codegen.requantise`; `bent` where ties go away from a zero point in the middle), and TFLM's arithmetic step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midgehost.codegen.armv6m.frame import Kernel, signed
from midgehost.codegen.asm.thumb import LR, R0, R1, R2, R3, R4, R5, R6, R7
from midgehost.codegen.requantise import (
    CLAMP_FIRST_POSTS,
    TABLE_POST,
    Channels,
    ClampFirst,
    Table,
    fit_clamp_first,
    fit_table,
)
from midgehost.models.quant import wrap_int32

FORMS = ("table", "table_bent", "clamp", "clamp_bent", "general")


@dataclass(frozen=True)
class Stage:
    """The last stage of a channel. `line` is None for the general form; `constant` channels need no sum at all."""

    form: str  # of FORMS
    line: Table | ClampFirst | None
    constant: bool


def stages(channels: Channels, tables: bool) -> list[Stage]:
    """The fastest form of each channel; without `tables` none that needs one."""
    table = fit_table(channels) if tables else [None] * len(channels)
    found: list[Stage | None] = [None] * len(channels)
    for i, constant in enumerate(channels.constants):
        if constant is not None:
            found[i] = Stage("table" if tables else "clamp", _constant(channels, constant, tables), True)
        elif (line := table[i]) is not None:
            found[i] = Stage("table_bent" if line.delta else "table", line, False)
    if None in found:
        clamp = fit_clamp_first(channels)
        for i, line in enumerate(clamp):
            if found[i] is None and line is not None:
                found[i] = Stage("clamp_bent" if line.delta else "clamp", line, False)
    return [stage or Stage("general", None, False) for stage in found]


def _constant(channels: Channels, value: int, table: bool) -> Table | ClampFirst:
    """A line of slope 0."""
    if table:
        index = value - channels.zero_point
        return Table(0, index << TABLE_POST, 0, 0, 12, TABLE_POST, first=index, last=index)
    post = CLAMP_FIRST_POSTS[0]
    return ClampFirst(0, value << post, 0, 0, 12, post, floor=0, top=0)


def general_words(channels: Channels, channel: int) -> list[int]:
    """What `emit_general` reads: bias, mantissa, left shift, right shift, zero point, low, high."""
    shift = int(channels.shifts[channel])
    bias = int(wrap_int32(channels.biases[channel]))
    return [
        bias,
        int(channels.mantissas[channel]),
        max(shift, 0),
        max(-shift, 0),
        channels.zero_point,
        channels.low,
        channels.high,
    ]


GENERAL_WORDS = 7


def emit_general(k: Kernel, label: str) -> None:
    """A subroutine: r0, a raw sum, becomes the output by the constants at r1. Keeps r1; spoils r2 to r7."""
    k.label(label)
    k.ldm(R1, [R2, R3, R4])
    k.adds(R0, R0, R2)
    k.lsls(R0, R4)
    # r0 * r3, of 64 bits: high word in r5, low word in r4
    k.asrs_imm(R5, R0, 16)
    k.uxth(R0, R0)
    k.lsrs_imm(R6, R3, 16)
    k.uxth(R3, R3)
    k.mov(R4, R0)
    k.muls(R4, R3)  # low * low
    k.muls(R3, R5)  # high * low
    k.muls(R5, R6)  # high * high
    k.muls(R6, R0)  # low * high
    k.lsrs_imm(R7, R4, 16)
    k.adds(R3, R3, R7)
    k.asrs_imm(R7, R3, 16)
    k.adds(R5, R5, R7)
    k.uxth(R3, R3)
    k.adds(R6, R6, R3)
    k.lsrs_imm(R7, R6, 16)
    k.adds(R5, R5, R7)
    k.uxth(R4, R4)
    k.lsls_imm(R6, R6, 16)
    k.adds(R4, R4, R6)
    # (product + 2^30) >> 31
    k.movs(R7, 1)
    k.lsls_imm(R7, R7, 30)
    k.movs(R6, 0)
    k.adds(R4, R4, R7)
    k.adcs(R5, R6)
    k.lsls_imm(R5, R5, 1)
    k.lsrs_imm(R4, R4, 31)
    k.adds(R0, R5, R4)
    # divided by a power of two, ties away from zero
    k.ldm(R1, [R2, R3, R4, R5])  # right shift, zero point, low, high
    k.movs(R6, 1)
    k.lsls(R6, R2)
    k.subs_imm(R6, R6, 1)
    k.mov(R7, R0)
    k.ands(R7, R6)  # the remainder
    k.lsrs_imm(R6, R6, 1)
    k.cmp_imm(R0, 0)
    k.bcond("ge", positive := k.fresh())
    k.adds_imm(R6, R6, 1)
    k.label(positive)
    k.asrs(R0, R2)
    k.cmp(R7, R6)
    k.bcond("ls", down := k.fresh())  # both are below 2^31
    k.adds_imm(R0, R0, 1)
    k.label(down)
    k.adds(R0, R0, R3)
    emit_clamp(k, R0, R4, R5)
    k.subs_imm(R1, R1, 4 * GENERAL_WORDS)
    k.bx(LR)


def emit_clamp(k: Kernel, value: int, low: int, high: int) -> None:
    """value = min(max(value, low), high); low and high may be high registers."""
    k.cmp(value, low)
    k.bcond("ge", above := k.fresh())
    k.mov(value, low)
    k.label(above)
    k.cmp(value, high)
    k.bcond("le", below := k.fresh())
    k.mov(value, high)
    k.label(below)


def table_range(stages: Sequence[Stage]) -> tuple[int, int]:
    """The least and the greatest index into the table that these channels use; (0, -1) where none does."""
    lines = [stage.line for stage in stages if isinstance(stage.line, Table)]
    if not lines:
        return 0, -1
    return min(line.first for line in lines), max(line.last for line in lines)


@dataclass(frozen=True)
class TablePlan:
    """The table of clamped outputs in scratch, and the parameters that build it; all zero where none is used.

    The bytes of indices up to that of `low`, then one of each output, then those above: what is outermost is as long
    as the channels reach, in blocks of 16.
    """

    base: int  # offset of index 0
    low_blocks: int
    low_word: int
    ramp: int
    high_blocks: int
    high_word: int
    nbytes: int

    @classmethod
    def of(cls, channels: Channels, stages: Sequence[Stage]) -> TablePlan:
        first, last = table_range(stages)
        if last < first:
            return cls(0, 0, 0, 0, 0, 0, 0)
        lowest, highest = channels.low - channels.zero_point, channels.high - channels.zero_point
        low_blocks = -(-max(0, lowest - first) // 16)
        ramp = highest - lowest + 1
        high_blocks = -(-(max(0, last - highest) + ramp % 4) // 16)
        return cls(
            16 * low_blocks - lowest,
            low_blocks,
            signed((channels.low & 255) * 0x01010101),
            ramp,
            high_blocks,
            signed((channels.high & 255) * 0x01010101),
            16 * low_blocks + (max(ramp, ramp // 4 * 4 + 16 * high_blocks) + 15) // 16 * 16,
        )

    @property
    def params(self) -> list[int]:
        """In the order of TABLE_PARAMS."""
        return [self.base, self.low_blocks, self.low_word, self.ramp, self.high_blocks, self.high_word]

    @property
    def cost(self) -> int:
        """Cycles to build it."""
        return 40 + 8 * (self.low_blocks + self.high_blocks) + 6 * self.ramp


TABLE_PARAMS = ("table_base", "low_blocks", "low_word", "ramp", "high_blocks", "high_word")


def emit_table(k: Kernel) -> None:
    """Builds the table at r0; spoils r0 to r7. Parameters: TABLE_PARAMS."""

    def blocks(count: str, word: str) -> None:
        k.load(R1, count)
        for register in (R2, R3, R4, R5):
            k.load(register, word)
        k.cmp_imm(R1, 0)
        k.bcond("eq", end := k.fresh())
        loop = k.label()
        k.stm(R0, [R2, R3, R4, R5])
        k.subs_imm(R1, R1, 1)
        k.bcond("ne", loop)
        k.label(end)

    blocks("low_blocks", "low_word")
    k.load(R6, "ramp")
    k.cmp_imm(R6, 0)
    k.bcond("eq", end := k.fresh())
    k.mov(R7, R0)
    k.adds(R6, R6, R0)  # where the ramp ends
    k.load(R1, "ramp")
    k.lsrs_imm(R1, R1, 2)
    k.lsls_imm(R1, R1, 2)
    k.adds(R0, R0, R1)
    blocks("high_blocks", "high_word")
    k.load(R1, "low_word")
    loop = k.label()
    k.strb(R1, R7)
    k.adds_imm(R1, R1, 1)
    k.adds_imm(R7, R7, 1)
    k.cmp(R7, R6)
    k.bcond("ne", loop)
    k.label(end)
