"""One filter over four output pixels: what follows the ladders in convolutions, and the packing of a filter.

The pairs are the tile, x = (pixel 0 + 65536 * pixel 1, pixel 2 + 65536 * pixel 3) of an input element; the factors are
the stream of weights. One filter's constants serve all four pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.armv6m import ladder
from midgehost.codegen.armv6m.frame import Kernel
from midgehost.codegen.armv6m.ladder import FACTORS, PAIRS, Row, Sites, emit_sums
from midgehost.codegen.armv6m.requantise import FORMS, GENERAL_WORDS, Stage, emit_clamp, emit_general, general_words
from midgehost.codegen.asm.thumb import R0, R2, R3, R4, R5, R6, R7, R8, R9, R10
from midgehost.codegen.requantise import TABLE_POST, Channels, ClampFirst, Table

VARIABLES: Final = ("tile", "output", "v0", "v1", "v2", "v3")


def emit(k: Kernel, wide: bool) -> None:
    """Code at label "row": runs the stream at r1 on the tile at slot `tile` until its end, then goes on at label
    "stream_end".

    Slots beside VARIABLES: `table` (address of index 0), `filters` (bytes between the outputs of neighbouring pixels).
    """
    _emit_tails(k, wide)
    k.label("row")
    k.load(PAIRS, "tile")
    ladder.emit(k, FACTORS, narrow=not wide)


def sites(k: Kernel, wide: bool) -> Sites:
    """Where the code lies."""
    return ladder.sites(k, not wide, [*(f"tail_{form}" for form in FORMS), "tail_end"])


# Tails. r7 holds the first constant already. Sums of pixels 0 to 3 go to r2 to r5.

_SUMS: Final = (R2, R3, R4, R5)


def _emit_tails(k: Kernel, wide: bool) -> None:
    forms = {
        "table": lambda: _emit_table_tail(k, bent=False),
        "table_bent": lambda: _emit_table_tail(k, bent=True),
        "clamp": lambda: _emit_clamp_tail(k, bent=False),
        "clamp_bent": lambda: _emit_clamp_tail(k, bent=True),
        "general": lambda: _emit_general_tail(k),
    }
    for form in FORMS:
        k.label(f"tail_{form}")
        if wide:
            k.ldm(FACTORS, [R7])
        forms[form]()
        _emit_store(k)
    k.label("tail_end")
    k.b("stream_end")
    emit_general(k, "general")


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
    emit_sums(k)
    k.mov(R8, R7)
    if bent:
        k.ldm(FACTORS, [R0, R6, R7])
        k.mov(R9, R0)
    else:
        k.ldm(FACTORS, [R6, R7])
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
    emit_sums(k)
    k.mov(R8, R7)
    k.ldm(FACTORS, [R6, R7])
    k.mov(R9, R6)
    k.mov(R10, R7)
    for value in _SUMS:
        emit_clamp(k, value, R9, R10)
    k.ldm(FACTORS, [R6, R7])
    for value in _SUMS:
        _emit_line(k, value, R8)
    if bent:
        k.ldm(FACTORS, [R6, R7])
        for value in _SUMS:
            k.cmp(value, R6)
            k.bcond("lt", below := k.fresh())
            k.adds(value, value, R7)
            k.label(below)
    k.ldm(FACTORS, [R6])
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
    emit_sums(k)
    for i, value in enumerate(_SUMS):
        k.store(value, f"v{i}")
    for i in range(4):
        k.load(R0, f"v{i}")
        k.bl("general")
        k.store(R0, f"v{i}")
    for i, value in enumerate(_SUMS):
        k.load(value, f"v{i}")
    k.adds_imm(FACTORS, FACTORS, 4 * GENERAL_WORDS)


# Packing

_TAIL_CYCLES: Final = {"table": 71, "table_bent": 80, "clamp": 95, "clamp_bent": 110, "general": 600}


def rows(weights: NDArray[np.int8], stages: Sequence[Stage], channels: Channels, where: Sites) -> list[Row]:
    """The stream of each filter; weights [filters, terms] in the order of the tile's elements."""
    lengths = ladder.chunks(weights[:, None], weights[:, None], where)
    made: list[Row] = []
    for i, (stage, filter_) in enumerate(zip(stages, weights, strict=True)):
        chunks = [] if stage.constant else lengths[i]
        row = ladder.row(filter_[None], filter_[None], filter_, chunks, f"tail_{stage.form}", where)
        words = (*row.words, *_constants(stage, channels, i))
        made.append(Row(words, row.cycles + _TAIL_CYCLES[stage.form]))
    return made


def _constants(stage: Stage, channels: Channels, channel: int) -> list[int]:
    line = stage.line
    if isinstance(line, Table):
        return [line.fine, *([line.delta] if line.delta else []), line.coarse, line.addend]
    if isinstance(line, ClampFirst):
        bend = [line.pivot, line.delta] if line.delta else []
        return [line.fine, line.floor, line.top, line.coarse, line.addend, *bend, line.post]
    return [0, *general_words(channels, channel)]
