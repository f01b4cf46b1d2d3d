"""SOFTMAX over the last axis. Parameters and method: portable/softmax.py. Scratch: the row's exps."""

from __future__ import annotations

from typing import Final

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels.parts import Mantissa, Word, divide_by_power, rows_left, word

_UNIT: Final = 1 << 29  # 1 with two integer bits
_FIRST, _SLOPE = 1515870810, -1010580540  # 48/17 and -32/17, with two integer bits


def softmax(b: Builder) -> None:
    params = word(b, Word.PARAMS)
    depth = b.load32(params)
    skipped = word(b, Word.ROW0) * depth
    at, out = word(b, Word.IN0) + skipped, word(b, Word.OUT) + skipped
    exps = word(b, Word.SCRATCH)
    low, high = b.const(-128), b.const(127)
    with b.repeat_if_any(rows_left(b)):
        largest, x = b.copy(-128), b.copy(at)
        with b.repeat(depth):
            b.raise_to(largest, b.load8s(x))
            x += 1
        total, into, one = b.copy(0), b.copy(exps), b.const(1)
        with b.repeat(depth):
            exp = b.load32(params + ((largest - b.load8s(at)) << 2), 4)
            b.store32(exp, into)
            total += exp >> 12
            total += (exp >> 11) & one
            at += 1
            into += 4
        reciprocal, right = _reciprocal(b, total)
        mantissa = Mantissa(b, reciprocal)
        x.set(exps)
        with b.repeat(depth):
            value = mantissa.product(b.load32(x))
            divide_by_power(b, value, right)
            value += low
            b.clamp(value, low, high)
            b.store8(value, out)
            x += 4
            out += 1
    b.finish()


def _reciprocal(b: Builder, total: Reg) -> tuple[Reg, Reg]:
    """The mantissa of 1 / total, and the shift to the right less one that leaves 8 output bits."""
    unit, top = b.const(_UNIT), b.const(2 * _UNIT)
    right = b.copy(33)
    with b.forever() as loop:
        loop.exit_if(total.at_least(top))
        total <<= 1
        right -= 1
    mantissa = Mantissa(b, total).product(b.const(_SLOPE))
    mantissa += b.const(_FIRST)
    with b.repeat(3):
        estimate = Mantissa(b, mantissa)
        error = unit - estimate.product(total)
        mantissa += estimate.product(error) << 2
    with b.when(mantissa.at_least(top)):
        mantissa.set((1 << 31) - 1)
    with b.otherwise():
        mantissa <<= 1
    with b.when(right > 30):  # no output reaches half a step
        mantissa.set(0)
        right.set(0)
    return mantissa, right
