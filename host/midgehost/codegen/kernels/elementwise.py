"""ADD, MUL, MAXIMUM and MINIMUM, a routine each. Parameters: portable/elementwise.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels.parts import Word, divide_by_power, doubling_high_product, rows_left, walk, word

_LOW, _HIGH, _ZERO, _MANTISSA, _SHIFT, _ZERO0, _ZERO1, _INNER, _DIMENSIONS, _STEP0, _STEP1, _WALK = range(1, 13)
_TABLE_BYTES: Final = 1024

Combine = Callable[[Reg, Reg], Reg]  # the addresses of two operands -> the unclamped result


def add(b: Builder) -> None:
    params = word(b, Word.PARAMS)
    table0 = params + 4 * _WALK + b.load32(params, 4 * _DIMENSIONS) * 12
    table1 = table0 + _TABLE_BYTES
    mantissa, zero = b.load32(params, 4 * _MANTISSA), b.load32(params, 4 * _ZERO)
    right = -1 - b.load32(params, 4 * _SHIFT)

    def combine(a: Reg, c: Reg) -> Reg:
        total = b.load32(table0, b.load8u(a) << 2)
        total += b.load32(table1, b.load8u(c) << 2)
        value = doubling_high_product(b, total, mantissa)
        divide_by_power(b, value, right)
        value += zero
        return value

    _elementwise(b, params, combine)


def mul(b: Builder) -> None:
    params = word(b, Word.PARAMS)
    zero0, zero1 = b.load32(params, 4 * _ZERO0), b.load32(params, 4 * _ZERO1)
    mantissa, zero = b.load32(params, 4 * _MANTISSA), b.load32(params, 4 * _ZERO)
    shift = b.load32(params, 4 * _SHIFT)
    right = -1 - shift
    b.raise_to(shift, 0)

    def combine(a: Reg, c: Reg) -> Reg:
        product = b.load8s(a) - zero0
        product *= b.load8s(c) - zero1
        product <<= shift
        value = doubling_high_product(b, product, mantissa)
        divide_by_power(b, value, right)
        value += zero
        return value

    _elementwise(b, params, combine)


def maximum(b: Builder) -> None:
    def combine(a: Reg, c: Reg) -> Reg:
        value = b.load8s(a)
        b.raise_to(value, b.load8s(c))
        return value

    _elementwise(b, word(b, Word.PARAMS), combine)


def minimum(b: Builder) -> None:
    def combine(a: Reg, c: Reg) -> Reg:
        value = b.load8s(a)
        b.lower(value, b.load8s(c))
        return value

    _elementwise(b, word(b, Word.PARAMS), combine)


def _elementwise(b: Builder, params: Reg, combine: Combine) -> None:
    second = word(b, Word.IN1)
    with b.when(second.equals(0)):
        second.set(word(b, Word.WEIGHTS))
    low, high = b.load32(params, 4 * _LOW), b.load32(params, 4 * _HIGH)
    inner, step0, step1 = (b.load32(params, 4 * at) for at in (_INNER, _STEP0, _STEP1))
    row = word(b, Word.ROW0)
    out = word(b, Word.OUT) + row * inner
    with b.repeat_if_any(rows_left(b)):
        a, c = word(b, Word.IN0), b.copy(second)
        walk(b, row, params + 4 * _WALK, b.load32(params, 4 * _DIMENSIONS), [a, c])
        with b.repeat(inner):
            value = combine(a, c)
            b.clamp(value, low, high)
            b.store8(value, out)
            a += step0
            c += step1
            out += 1
        row += 1
    b.finish()
