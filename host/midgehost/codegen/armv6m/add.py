"""ADD and SUB of two tensors of one shape: a table of int32 for each input, their sum shifted down and clamped.

The tables hold each input's share of the output in fixed point, 20 bits behind the point, less the least output. For
every pair of inputs the sum's whole part must be the true output, or both beyond the same end of the range: a constant
in the first table is chosen so, or there is no fast kernel.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.armv6m.frame import Kernel
from midgehost.codegen.asm.thumb import R0, R1, R2, R3, R4, R5, R6, R7, R8
from midgehost.codegen.machine import MachineCall, Routine
from midgehost.models.graph import Node
from midgehost.models.ops import registry
from midgehost.models.ops.add import Add
from midgehost.models.ops.base import Place
from midgehost.models.quant import Ints

_POINT: Final = 20
_ROW: Final = 256  # elements
_UNROLLED: Final = 8


def calls(node: Node) -> list[MachineCall] | None:
    """The call, or None for other shapes, a constant, or arithmetic that no table fits."""
    first, second, output = node.input(0), node.input(1), node.output
    if first.is_constant or second.is_constant or not first.shape == second.shape == output.shape:
        return None
    op = registry()[node.kind]
    assert isinstance(op, Add)
    arithmetic = op.arithmetic(node)
    tables = _tables(op, node)
    if tables is None:
        return None
    return [
        MachineCall(
            routine(arithmetic.low, arithmetic.high),
            Place(first.index),
            Place(output.index),
            in1=Place(second.index),
            weights=np.roll(tables, 128, axis=1).astype("<i4").tobytes(),
            params=[-(-output.elements // _UNROLLED) * _UNROLLED],
            rows=-(-output.elements // _ROW),
            cost=20.2 * output.elements + 100,
        )
    ]


@cache
def routine(low: int, high: int) -> Routine:
    """The routine for a range of outputs; a row of the call is 256 elements."""
    k = Kernel(("elements",), ("in0", "in1", "out", "weights", "row0", "row1"), ())
    k.begin()
    k.load(R4, "row0")
    k.lsls_imm(R4, R4, 8)
    k.load(R5, "row1")
    k.lsls_imm(R5, R5, 8)
    k.load(R6, "elements")
    k.cmp(R5, R6)
    k.bcond("ls", "whole")
    k.mov(R5, R6)
    k.label("whole")
    for register, slot in ((R0, "in0"), (R1, "in1"), (R2, "out")):
        k.load(register, slot)
        k.adds(register, register, R4)
    k.subs(R5, R5, R4)
    k.adds(R5, R5, R2)
    k.mov(R8, R5)  # where the outputs end
    k.load(R3, "weights")
    k.movs(R4, 1)
    k.lsls_imm(R4, R4, 10)
    k.adds(R4, R4, R3)
    k.movs(R7, high - low)
    loop = k.label()
    for i in range(_UNROLLED):
        k.ldrb(R5, R0, i)
        k.lsls_imm(R5, R5, 2)
        k.ldr_reg(R5, R3, R5)
        k.ldrb(R6, R1, i)
        k.lsls_imm(R6, R6, 2)
        k.ldr_reg(R6, R4, R6)
        k.adds(R5, R5, R6)
        k.asrs_imm(R5, R5, _POINT)
        k.cmp(R5, R7)
        k.bcond("ls", inside := k.fresh())
        k.asrs_imm(R6, R5, 31)
        k.mov(R5, R7)
        k.bics(R5, R6)  # 0 below, the range above
        k.label(inside)
        k.add_int(R5, low)
        k.strb(R5, R2, i)
    for pointer in (R0, R1, R2):
        k.adds_imm(pointer, pointer, _UNROLLED)
    k.cmp(R2, R8)
    k.bcond_far("ne", loop)
    k.finish()
    return Routine(f"add_{low}_{high}", k.code())


def _tables(op: Add, node: Node) -> NDArray[np.int64] | None:
    """[2, 256] by input, from -128 on. None where no constant gives the true output for every pair of inputs."""
    arithmetic = op.arithmetic(node)
    rescaled = op.tables(node)
    scale = arithmetic.mantissa * 2.0 ** (arithmetic.shift - 31 + _POINT)
    tables = np.stack([np.floor(table * scale + 0.5).astype(np.int64) for table in rescaled])
    sums = tables[0][:, None] + tables[1]
    every = np.arange(-128, 128)
    unclamped: Ints = op.combine(node, every[:, None], every[None, :])
    steps = np.clip(unclamped, arithmetic.low, arithmetic.high) - arithmetic.low
    span = arithmetic.high - arithmetic.low
    # step <= (sum + constant) / 2^20 < step + 1, one-sided at the ends of the range
    least = ((steps << _POINT) - sums)[steps > 0].max(initial=-(1 << 40))
    most = ((steps + 1 << _POINT) - 1 - sums)[steps < span].min(initial=1 << 40)
    if least > most:
        return None
    tables[0] += int(np.clip((least + most) // 2, least, most))
    sums = tables[0][:, None] + tables[1]
    if max(abs(tables).max(), abs(sums).max()) >= 1 << 31:
        return None
    assert (np.clip(sums >> _POINT, 0, span) == steps).all(), "the tables give the true outputs"
    return tables
