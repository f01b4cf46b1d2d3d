"""FULLY_CONNECTED on one input, and every convolution that sees its whole input once.

A row of a call is a group of four outputs. The first expands the activations to int16 pairs, in scratch.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numpy.typing import NDArray

from midgehost.codegen import requantise
from midgehost.codegen.armv7emsp import packing
from midgehost.codegen.armv7emsp.block import STREAM, VALUES, Block, Kind, kind, stage_params
from midgehost.codegen.armv7emsp.copy import COUNT, SOURCE, TARGET, expand
from midgehost.codegen.armv7emsp.frame import IN0, OUT, PARAMS, ROW0, ROW1, SCRATCH, WEIGHTS, Frame
from midgehost.codegen.armv7emsp.stage import Exact, Stage, exact_stage, line_stage
from midgehost.codegen.asm.thumb import R0, R1, R2, R3, R5, R6, R7, R12
from midgehost.codegen.asm.thumb2 import Thumb2, lsl
from midgehost.codegen.machine import MachineCall, Routine
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place


def fully_connected(node: Node, tile_bytes: int | None) -> list[MachineCall] | None:
    """The calls of a FULLY_CONNECTED, or None."""
    weights = node.input(1).array()
    if node.input(0).elements != weights.shape[1]:
        return None
    channels = requantise.layer(node)
    stage = line_stage(channels) or exact_stage(channels)
    live = packing.live_rows(weights, channels)
    if stage is None or not packing.packable(live):
        return None
    return dense_calls(node, live, stage, tile_bytes)


def dense_calls(node: Node, weights: NDArray[Any], stage: Stage, tile_bytes: int | None) -> list[MachineCall] | None:
    """The calls of one product of a matrix [rows, columns] and the input, or None where a tile holds no group."""
    rows, columns = weights.shape
    groups = packing.groups(weights, stage)
    tile = len(groups) if tile_bytes is None else tile_bytes // len(groups[0])
    if not tile:
        return None
    return [
        MachineCall(
            dense_routine(kind(stage)),
            Place(node.input(0).index),
            Place(node.output.index),
            weights=b"".join(groups[first : first + tile]),
            params=[packing.quads(columns), len(groups[0]), *stage_params(stage)],
            scratch_bytes=8 * packing.quads(columns),
            rows=len(groups[first : first + tile]),
            macs=rows * columns * len(groups[first : first + tile]) // len(groups),
            cost=dense_cost(columns, stage) * len(groups[first : first + tile]) + 80 + 7 * packing.quads(columns),
        )
        for first in range(0, len(groups), tile)
    ]


def dense_cost(columns: int, stage: Stage) -> float:
    """Estimated cycles of a group."""
    turns = -(-packing.quads(columns) // 4)
    return 19 * packing.quads(columns) + 4 * turns + (65 if isinstance(stage, Exact) else 55)


@cache
def dense_routine(stage: Kind) -> Routine:
    """Parameters: quads of a row, bytes of a group, three of the stage."""
    a = Thumb2()
    frame = Frame(a, *VALUES)
    block = Block(a, frame, 1, stage)
    frame.enter()
    a.ldr(R7, R0, PARAMS)
    a.ldr(R5, R0, ROW0)
    a.ldr(R6, R0, ROW1)
    frame.copy(R1, R7, *((8 + 4 * i, f"stage{i}") for i in range(3)))
    frame.copy(R1, R0, (OUT, "out"), (SCRATCH, "x"))
    a.ldr(R3, R0, WEIGHTS)
    a.ldr(R1, R7, 4)
    a.mla(R2, R1, R6, R3)
    frame.store(R2, "stream_end")
    a.mla(STREAM, R1, R5, R3)
    a.ldr(R3, R7)
    frame.load(R1, "x")
    a.add_w(R2, R1, R3, lsl(3))
    frame.store(R2, "x_end")
    a.ldr_w(R12, R0, IN0)
    block.set_entry(R3)
    a.cmp_imm(R5, 0)
    a.bcond("ne", ready := a.fresh("ready"))
    a.mov(SOURCE, R12)
    frame.load(TARGET, "x")
    a.ldr(COUNT, R7)
    expand(a, 1)
    a.label(ready)
    block.emit()
    frame.leave()
    return Routine(f"armv7emsp.dense.{stage}", a.code())
