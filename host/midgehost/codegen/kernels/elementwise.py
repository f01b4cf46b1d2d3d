"""ADD, MUL, MAXIMUM and MINIMUM, a routine each. Parameters: portable/elementwise.py, `add_scaled`: scaled_add.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels.parts import Mantissa, Word, divide_by_power, rows_left, walk, word

_LOW, _HIGH, _ZERO, _MANTISSA, _SHIFT, _ZERO0, _ZERO1, _INNER, DIMENSIONS, _STEP0, _STEP1, WALK = range(1, 13)
_TABLE_BYTES: Final = 1024

Combine = Callable[[Reg, Reg], Reg]  # the addresses of two operands -> the unclamped result


def add(b: Builder) -> None:
    params = word(b, Word.PARAMS)
    table0, table1 = _tables(b, params)
    mantissa, zero = Mantissa(b, b.load32(params, 4 * _MANTISSA)), b.load32(params, 4 * _ZERO)
    right = -1 - b.load32(params, 4 * _SHIFT)

    def combine(a: Reg, c: Reg) -> Reg:
        total = b.load32(table0, b.load8u(a) << 2)
        total += b.load32(table1, b.load8u(c) << 2)
        value = mantissa.product(total)
        divide_by_power(b, value, right)
        value += zero
        return value

    _elementwise(b, params, combine)


def add_scaled(b: Builder) -> None:
    params = word(b, Word.PARAMS)
    table0, table1 = _tables(b, params)
    rounding, bits = b.load32(params, 4 * _ZERO), b.load32(params, 4 * _MANTISSA)

    def combine(a: Reg, c: Reg) -> Reg:
        total = b.load32(table0, b.load8u(a) << 2)
        total += b.load32(table1, b.load8u(c) << 2)
        total += total >> 31
        total += rounding
        total >>= bits
        return total

    _elementwise(b, params, combine)


def _tables(b: Builder, params: Reg) -> tuple[Reg, Reg]:
    table0 = params + b.load32(params, 4 * DIMENSIONS) * 12
    table0 += 4 * WALK
    return table0, table0 + _TABLE_BYTES


def mul(b: Builder) -> None:
    params = word(b, Word.PARAMS)
    zero0, zero1 = b.load32(params, 4 * _ZERO0), b.load32(params, 4 * _ZERO1)
    mantissa, zero = Mantissa(b, b.load32(params, 4 * _MANTISSA)), b.load32(params, 4 * _ZERO)
    shift = b.load32(params, 4 * _SHIFT)
    right = -1 - shift
    b.raise_to(shift, 0)

    def combine(a: Reg, c: Reg) -> Reg:
        product = b.load8s(a) - zero0
        product *= b.load8s(c) - zero1
        product <<= shift
        value = mantissa.product(product)
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
        walk(b, row, params + 4 * WALK, b.load32(params, 4 * DIMENSIONS), [a, c])
        with b.repeat(inner):
            value = combine(a, c)
            b.clamp(value, low, high)
            b.store8(value, out)
            a += step0
            c += step1
            out += 1
        row += 1
    b.finish()
