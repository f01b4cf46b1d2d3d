"""One filter over four output pixels: what follows the ladders in convolutions, and the packing of a filter.

The pairs are the tile, x = (pixel 0 + 65536 * pixel 1, pixel 2 + 65536 * pixel 3) of an input element; the factors are
the stream of weights. One filter's constants serve all four pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.armv6m import forms, ladder
from midgehost.codegen.armv6m.frame import Kernel
from midgehost.codegen.armv6m.ladder import FACTORS, PAIRS, Row, Sites, emit_sums
from midgehost.codegen.armv6m.requantise import FORMS, Stage, emit_general
from midgehost.codegen.asm.thumb import R0, R2, R3, R4, R5, R6, R7
from midgehost.codegen.requantise import Channels

VARIABLES: Final = ("tile", "output", *forms.VARIABLES)


def emit(k: Kernel, wide: bool) -> None:
    """Code at label "row": runs the stream at r1 on the tile at slot `tile` until its end, then goes on at label
    "stream_end".

    Slots beside VARIABLES: `filters` (bytes between the outputs of neighbouring pixels).
    """
    _emit_tails(k, wide)
    k.label("row")
    k.load(PAIRS, "tile")
    ladder.emit(k, FACTORS, narrow=not wide)


def sites(k: Kernel, wide: bool) -> Sites:
    """Where the code lies."""
    return ladder.sites(k, not wide, [*(f"tail_{form}" for form in FORMS), "tail_end"])


def _emit_tails(k: Kernel, wide: bool) -> None:
    for form in FORMS:
        k.label(f"tail_{form}")
        if wide:
            k.ldm(FACTORS, [R7])
        emit_sums(k)
        forms.emit(k, form)
        _emit_store(k)
    k.label("tail_end")
    k.b("stream_end")
    emit_general(k, "general")


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


# Packing

_TAIL_CYCLES: Final = 29  # beside the form


def rows(weights: NDArray[np.int8], stages: Sequence[Stage], channels: Channels, where: Sites) -> list[Row]:
    """The stream of each filter; weights [filters, terms] in the order of the tile's elements."""
    lengths = ladder.chunks(weights[:, None], weights[:, None], where)
    made: list[Row] = []
    for i, (stage, filter_) in enumerate(zip(stages, weights, strict=True)):
        chunks = [] if stage.constant else lengths[i]
        row = ladder.row(filter_[None], filter_[None], filter_, chunks, f"tail_{stage.form}", where)
        words = (*row.words, *forms.constants(stage, channels, i))
        made.append(Row(words, row.cycles + _TAIL_CYCLES + forms.CYCLES[stage.form]))
    return made
