"""FULLY_CONNECTED on one input, and every convolution that sees its whole input once.

A row of a call is a group of four outputs. The first expands the activations to int16 pairs, in scratch.
"""

from __future__ import annotations

from functools import cache

from midgehost.codegen.armv7emsp.block import STREAM, VALUES, Block, Kind, kind, stage_params
from midgehost.codegen.armv7emsp.copy import COUNT, SOURCE, TARGET, expand
from midgehost.codegen.armv7emsp.frame import IN0, OUT, PARAMS, ROW0, ROW1, SCRATCH, WEIGHTS, Frame
from midgehost.codegen.armv7emsp.packing import Matrix
from midgehost.codegen.armv7emsp.stage import Exact
from midgehost.codegen.asm.thumb import R0, R1, R2, R3, R5, R6, R7, R12
from midgehost.codegen.asm.thumb2 import Thumb2, lsl
from midgehost.codegen.machine import MachineCall, Routine
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place


def fully_connected(node: Node, tile_bytes: int | None) -> list[MachineCall] | None:
    """The calls of a FULLY_CONNECTED, or None."""
    if node.input(0).elements != node.input(1).shape[1]:
        return None
    matrix = Matrix.of(node)
    return None if matrix is None else dense_calls(node, matrix, tile_bytes)


def dense_calls(node: Node, matrix: Matrix, tile_bytes: int | None) -> list[MachineCall] | None:
    """The calls of one product of a matrix and the input, or None where a tile holds no group."""
    groups, quads = matrix.groups(), matrix.quads
    tile = len(groups) if tile_bytes is None else tile_bytes // len(groups[0])
    calls: list[MachineCall] = []
    for first in range(0, len(groups), tile) if tile else ():
        part = groups[first : first + tile]
        calls.append(
            MachineCall(
                dense_routine(kind(matrix.stage), matrix.wide),
                Place(node.input(0).index),
                Place(node.output.index),
                weights=b"".join(part),
                params=[quads, len(part[0]), *stage_params(matrix)],
                scratch_bytes=8 * quads,
                rows=len(part),
                macs=matrix.weights.size * len(part) // len(groups),
                cost=len(part) * _group_cost(matrix) + 80 + 7 * quads,
            )
        )
    return calls or None


def _group_cost(matrix: Matrix) -> float:
    """Estimated cycles."""
    quads = matrix.quads
    return (23 if matrix.wide else 19) * quads + 4 * -(-quads // 4) + (65 if isinstance(matrix.stage, Exact) else 55)


@cache
def dense_routine(stage: Kind, wide: bool) -> Routine:
    """Parameters: quads of a row, bytes of a group, three of the stage."""
    a = Thumb2()
    frame = Frame(a, *VALUES)
    block = Block(a, frame, 1, stage, wide)
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
    return Routine(f"armv7emsp.dense.{stage}{'.wide' if wide else ''}", a.code())
