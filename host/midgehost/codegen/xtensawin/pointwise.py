"""Convolutions of 1 x 1 with stride 1, and dense layers on a batch: a tile is a run of pixels, widened.

Rows of a call are tiles. The channels must be a multiple of 4, so that every pixel begins at a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from numpy.typing import NDArray

from midgehost.codegen.asm.xtensa import Xtensa
from midgehost.codegen.machine import Form, MachineCall, Routine
from midgehost.codegen.requantise import layer
from midgehost.codegen.xtensawin import dot, pixels
from midgehost.codegen.xtensawin.frame import Frame, Parameters, block_word
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place

_PARAMETERS: Final = ("all_pixels", "tile_pixels", "tile_offset", *pixels.PARAMETERS)
_TILE_BYTES: Final = 9600  # of scratch
_ROW_COST: Final = 200_000  # instructions of a tile


def pointwise_calls(node: Node, weights: NDArray[Any], form: Form, tile_bytes: int | None) -> Sequence[MachineCall]:
    """The calls for weights [filters, depth], depth a multiple of 4."""
    filters = pixels.Filters.of(layer(node), form, weights, widened=True)
    count, depth = node.output.elements // len(weights), weights.shape[1]
    parameters = Parameters(Xtensa(), _PARAMETERS)
    calls: list[MachineCall] = []
    for group in filters.groups(tile_bytes):
        tile = tile_pixels(filters, min(count, max(1, int(_ROW_COST / filters.cost(group, 1, 0)))))
        tiles = -(-count // tile)
        words = {"all_pixels": count, "tile_pixels": tile, "tile_offset": filters.scratch_row_bytes}
        widening = depth * (2.0 if form == "speed" else 3.5)
        calls.append(
            MachineCall(
                pointwise_routine(form, filters.ranged),
                Place(node.input(0).index),
                Place(node.output.index, group.start),
                weights=filters.stream(group),
                params=[*parameters.values(words | filters.parameters(group)), *filters.words(group)],
                scratch_bytes=filters.scratch_row_bytes + tile * filters.rounds * dot.ROUND_BYTES + 4,
                rows=tiles,
                macs=count * depth * len(group),
                cost=count * widening + filters.cost(group, count, tiles) + 30 * tiles,
            )
        )
    return calls


def tile_pixels(filters: pixels.Filters, most: int) -> int:
    """How many pixels a tile has: all tiles of a size, as large as scratch allows."""
    fitting = max(_TILE_BYTES // (filters.rounds * dot.ROUND_BYTES), 1)
    return -(-most // -(-most // fitting))


@cache
def pointwise_routine(form: Form, ranged: bool) -> Routine:
    """Rows are tiles."""
    a = Xtensa()
    frame = Frame(a, ("tiles", "left", "source", *pixels.WORDS))
    kernel = pixels.PixelKernel(a, frame, form, ranged)
    parameters = Parameters(a, _PARAMETERS)
    block, address, t, u, size, left = 15, 14, 13, 12, 11, 10
    frame.enter(block)
    block_word(a, address, block, "params")
    kernel.prepare(parameters, block, address, t, u)
    block_word(a, t, block, "row0")
    block_word(a, u, block, "row1")
    a.sub(u, u, t)
    frame.store(u, "tiles")
    parameters.load(size, address, "tile_pixels")
    frame.store(size, "pixels")
    a.mull(t, t, size)  # the first pixel
    parameters.load(left, address, "all_pixels")
    a.sub(left, left, t)
    frame.store(left, "left")
    frame.load(u, "pixel_bytes")
    a.mull(u, u, t)
    block_word(a, size, block, "out")
    a.add(u, u, size)
    frame.store(u, "out")
    a.mull(t, t, pixels.ROUNDS)
    block_word(a, u, block, "in0")
    a.addx4(u, t, u)
    frame.store(u, "source")
    block_word(a, u, block, "scratch")
    parameters.load(t, address, "tile_offset")
    a.add(u, u, t)
    a.addi(u, u, -4)
    frame.store(u, "tile")

    tile = a.label()
    frame.load(3, "pixels")
    frame.load(4, "left")
    a.min(3, 3, 4)
    frame.store(3, "pixels")
    a.sub(4, 4, 3)
    frame.store(4, "left")
    a.mull(3, 3, pixels.ROUNDS)
    frame.load(4, "source")
    frame.load(5, "tile")
    a.addi(5, 5, 4)
    kernel.widen(5, 4, 3, (6, 7, 8, 9, 10, 11))
    frame.store(4, "source")
    kernel.outputs()
    frame.load(3, "pixels")
    frame.load(4, "pixel_bytes")
    frame.load(5, "out")
    a.mull(3, 3, 4)
    a.add(5, 5, 3)
    frame.store(5, "out")
    frame.load(3, "tiles")
    a.addi(3, 3, -1)
    frame.store(3, "tiles")
    a.bnez(3, tile)
    frame.leave()
    return Routine(f"pointwise_{form}" + "_ranged" * ranged, a.code())
