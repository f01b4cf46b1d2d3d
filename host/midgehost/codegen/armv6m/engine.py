"""One filter over four output pixels: what follows the ladders in convolutions, and the packing of a filter.

The pairs are the tile, x = (pixel 0 + 65536 * pixel 1, pixel 2 + 65536 * pixel 3) of an input element; the factors are
the stream of weights. One filter's constants serve all four pixels. For speed weights are words, in chunks (`ladder`);
the small form has bytes (`pairwise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.armv6m import forms, ladder, pairwise
from midgehost.codegen.armv6m.frame import Kernel
from midgehost.codegen.armv6m.ladder import FACTORS, PAIRS, Row
from midgehost.codegen.armv6m.requantise import FORMS, Stage, emit_general
from midgehost.codegen.asm.thumb import R0, R2, R3, R4, R5, R6, R7
from midgehost.codegen.machine import Form
from midgehost.codegen.requantise import Channels

Sites = ladder.Sites | pairwise.Sites  # of the fast form, or of the small one
VARIABLES: Final = ("tile", "tile_end", "output", *forms.VARIABLES)


def emit(k: Kernel, form: Form) -> None:
    """Code at label "row": runs the stream at r1 on the tile at slot `tile` until its end, then goes on at label
    "stream_end".

    Slots beside VARIABLES: `filters` (bytes between the outputs of neighbouring pixels), `flushes` (see `pairwise`).
    """
    for name in FORMS:
        k.label(f"tail_{name}")
        if form == "speed":
            k.ldm(FACTORS, [R7])
            ladder.emit_sums(k)
        else:
            pairwise.emit_pixel_sums(k)
        forms.emit(k, name)
        _emit_store(k)
    k.label("tail_end")
    k.b("stream_end")
    emit_general(k, "general")
    k.label("row")
    k.load(PAIRS, "tile")
    if form == "speed":
        ladder.emit(k, FACTORS)
    else:
        pairwise.emit(k)


def sites(k: Kernel, form: Form) -> Sites:
    """Where the code lies."""
    tails = [f"tail_{name}" for name in FORMS]
    return ladder.sites(k, [*tails, "tail_end"]) if form == "speed" else pairwise.sites(k, tails)


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
    lengths = ladder.chunks(weights[:, None], weights[:, None], where) if isinstance(where, ladder.Sites) else []
    made: list[Row] = []
    for i, (stage, filter_) in enumerate(zip(stages, weights, strict=True)):
        tail = f"tail_{stage.form}"
        if isinstance(where, ladder.Sites):
            chunks = [] if stage.constant else lengths[i]
            row = ladder.row(filter_[None], filter_[None], filter_, chunks, tail, where)
        else:
            row = pairwise.row(filter_, tail, where)
        words = (*row.words, *forms.constants(stage, channels, i))
        made.append(Row(words, row.cycles + _TAIL_CYCLES + forms.CYCLES[stage.form]))
    return made


def end(where: Sites) -> tuple[int, ...]:
    """The words that end a stream."""
    return ladder.end(where) if isinstance(where, ladder.Sites) else pairwise.end(where)
