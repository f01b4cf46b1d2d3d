"""ADD and SUB of two tensors of one shape: y = c + (m0 * x0 >> 16) + (m1 * x1 >> 16), output = y >> s, saturated.

The three roundings of TFLM come to the same for nearly all scales; whether they do for these is tried out on the host
with all 65,536 pairs of inputs. Activations are halves x * 256, so a multiplier has 31 bits (SMLAWB, SMLAWT).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from midgehost.codegen.armv7emsp.frame import IN0, IN1, OUT, PARAMS, ROW0, ROW1, Frame
from midgehost.codegen.asm.thumb import LR, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12
from midgehost.codegen.asm.thumb2 import Thumb2, asr, lsl
from midgehost.codegen.machine import MachineCall, Routine
from midgehost.models.graph import Node
from midgehost.models.ops import registry
from midgehost.models.ops.base import Place
from midgehost.models.ops.binary import BinaryOp
from midgehost.models.quant import INT8_MAX, INT8_MIN, INT32_MAX

_ROW_WORDS: Final = 64
_SHIFTS: Final = (20, 21, 22, 19, 18, 17, 16, 15, 14, 13, 12)  # tried in this order: layers share a routine
_X_BITS: Final = 8


@dataclass(frozen=True)
class Plane:
    """The multipliers, the constant and the shift that give the true output for every pair of inputs."""

    multipliers: tuple[int, int]
    constant: int
    shift: int


def fit(node: Node) -> Plane | None:
    """The plane of an ADD or SUB, None where there is none or outputs have less than the range of int8."""
    op = registry()[node.kind]
    assert isinstance(op, BinaryOp)
    arithmetic = op.arithmetic(node)
    if (arithmetic.low, arithmetic.high) != (INT8_MIN, INT8_MAX):
        return None
    values = np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64)
    wanted = np.clip(op.combine(node, values[:, None], values[None, :]), INT8_MIN, INT8_MAX)
    gains = [node.input(i).scale / node.output.scale for i in (0, 1)]
    if node.kind == "SUB":
        gains[1] = -gains[1]
    for shift in _SHIFTS:
        multipliers = [round(gain * 2.0 ** (16 - _X_BITS + shift)) for gain in gains]
        if max(map(abs, multipliers)) > INT32_MAX:
            continue
        terms = [(m * (values << _X_BITS)) >> 16 for m in multipliers]
        sums = terms[0][:, None] + terms[1][None, :]
        least = ((wanted << shift) - sums)[wanted > INT8_MIN].max(initial=-(1 << 40))
        most = (((wanted + 1) << shift) - 1 - sums)[wanted < INT8_MAX].min(initial=1 << 40)
        constant = int(least + most) // 2
        if least <= most and max(abs(sums + constant).max(), abs(terms[0] + constant).max()) <= INT32_MAX:
            return Plane((multipliers[0], multipliers[1]), constant, shift)
    return None


def add(node: Node, tile_bytes: int | None) -> list[MachineCall] | None:
    """The call of an ADD or SUB, or None."""
    first, second, output = node.input(0), node.input(1), node.output
    if first.is_constant or second.is_constant or not first.shape == second.shape == output.shape:
        return None
    plane = fit(node)
    if plane is None:
        return None
    words = -(-output.elements // 4)
    rows = -(-words // _ROW_WORDS)
    call = MachineCall(
        add_routine(plane.shift),
        Place(first.index),
        Place(output.index),
        in1=Place(second.index),
        params=[*plane.multipliers, plane.constant, words],
        rows=rows,
        cost=30 * words + 60,
    )
    return [call]


@cache
def add_routine(shift: int) -> Routine:
    """A row is 64 words of four elements. Parameters: both multipliers, the constant, the words of a tensor."""
    a = Thumb2()
    frame = Frame(a)
    frame.enter()
    a.ldr(R7, R0, PARAMS)
    a.ldr(R1, R0, ROW0)
    a.ldr(R2, R0, ROW1)
    a.ldr(R4, R0, IN0)
    a.ldr(R5, R0, IN1)
    a.ldr(R6, R0, OUT)
    a.ldr_w(R9, R7, 0)
    a.ldr_w(R10, R7, 4)
    a.ldr_w(R11, R7, 8)
    a.ldr(R7, R7, 12)
    for register in (R1, R2):
        a.lsls_imm(register, register, _ROW_WORDS.bit_length() - 1)
    a.cmp(R2, R7)
    a.it("hi")
    a.mov(R2, R7)
    a.subs(R7, R2, R1)
    for register in (R4, R5, R6):
        a.add_w(register, register, R1, lsl(2))
    a.mov_imm_w(R8, 0xFF00FF00)
    again = a.label()
    a.ldr_post(R0, R4, 4)
    a.ldr_post(R1, R5, 4)
    for word, even in ((R0, R2), (R1, R3)):
        a.and_w(even, R8, word, lsl(_X_BITS))
        a.and_w(word, word, R8)
    outputs = (R12, LR, R2, R0)
    for output, multiply, x0, x1 in (
        (R12, a.smlawb, R2, R3), (LR, a.smlawb, R0, R1), (R2, a.smlawt, R2, R3), (R0, a.smlawt, R0, R1)
    ):  # fmt: skip
        multiply(output, R9, x0, R11)
        multiply(output, R10, x1, output)
    for output in outputs:
        a.ssat(output, 8, output, asr(shift))
    for i, output in enumerate(outputs):
        a.strb_w(output, R6, i)
    a.adds_imm(R6, R6, 4)
    a.subs_imm(R7, R7, 1)
    a.bcond("ne", again)
    frame.leave()
    return Routine(f"armv7emsp.add.{shift}", a.code())
