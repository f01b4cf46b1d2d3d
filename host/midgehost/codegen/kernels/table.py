"""Lookups by an input byte, and QUANTIZE_FLOAT32. Parameters: portable/table.py.

Floats are quantised by integer arithmetic on their bits, the same on every machine: a quotient of 25 bits by long
division, rounded to a float32's 24 as IEEE 754 has it (to nearest, ties to even), then to an integer (halves away from
zero).
"""

from __future__ import annotations

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels.parts import Word, rows_left, word

_UNROLLED = 4
_NOT_A_NUMBER = 4  # the status
_FIELD = 0xFF  # of the exponent


def _first_element(b: Builder) -> tuple[Reg, Reg]:
    """The slice's first element and the number of its elements."""
    size = b.load32(word(b, Word.PARAMS))
    return word(b, Word.ROW0) * size, rows_left(b) * size


def lookup_int8(b: Builder) -> None:
    first, count = _first_element(b)
    at, into, table = word(b, Word.IN0) + first, word(b, Word.OUT) + first, word(b, Word.WEIGHTS)
    with b.repeat_if_any(count >> 2):
        for i in range(_UNROLLED):
            b.store8(b.load8u(table, b.load8u(at, i)), into, i)
        at += _UNROLLED
        into += _UNROLLED
    with b.repeat_if_any(count & b.const(_UNROLLED - 1)):
        b.store8(b.load8u(table, b.load8u(at)), into)
        at += 1
        into += 1
    b.finish()


def lookup_float32(b: Builder) -> None:
    first, count = _first_element(b)
    at, into, table = word(b, Word.IN0) + first, word(b, Word.OUT) + (first << 2), word(b, Word.WEIGHTS)
    with b.repeat_if_any(count):
        b.store32(b.load32(table, b.load8u(at) << 2), into)
        at += 1
        into += 4
    b.finish()


def quantize_float32(b: Builder) -> None:
    params = word(b, Word.PARAMS)
    first, count = _first_element(b)
    at, into = word(b, Word.IN0) + (first << 2), word(b, Word.OUT) + first
    zero = b.load32(params, 4)
    divisor, scale_exponent = b.register(), b.register()
    _split(b, b.load32(params, 8), divisor, scale_exponent)
    low, high = b.const(-128), b.const(127)
    with b.repeat_if_any(count):
        bits = b.load32(at)
        rest, exponent = b.register(), b.register()
        _split(b, bits, rest, exponent)
        value = b.copy(0)
        with b.when(exponent.equals(_FIELD)):
            with b.when((bits << 9).differs(0)):
                b.finish(_NOT_A_NUMBER)
            value.set(512)  # infinity
        with b.otherwise(), b.when(rest.differs(0)):
            exponent -= scale_exponent
            with b.when(rest.below(divisor)):
                rest <<= 1
                exponent -= 1
            with b.when(exponent >= 9):
                value.set(512)
            with b.otherwise(), b.when(exponent >= -2):
                _divide(b, rest, divisor, value)
                # value / 2^23 * 2^exponent to nearest
                value.set(value.shifted_right(22 - exponent))
                value += 1
                value >>= 1
        sign = bits >> 31
        value ^= sign
        value -= sign
        value += zero
        b.clamp(value, low, high)
        b.store8(value, into)
        at += 4
        into += 1
    b.finish()


def _split(b: Builder, bits: Reg, fraction: Reg, exponent: Reg) -> None:
    """|x| = fraction * 2^(exponent - 150) with 2^23 <= fraction < 2^24, or fraction 0; exponent 255: not finite."""
    one = b.const(1 << 23)
    exponent.set((bits << 1).shifted_right(24))
    fraction.set((bits << 9).shifted_right(9))
    with b.when(exponent.differs(0)):
        fraction |= one
    with b.otherwise():
        exponent.set(1)
        with b.when(fraction.differs(0)), b.forever() as loop:
            loop.exit_if(fraction.at_least(one))
            fraction <<= 1
            exponent -= 1


def _divide(b: Builder, rest: Reg, divisor: Reg, quotient: Reg) -> None:
    """quotient = rest / divisor * 2^23 for a ratio of 1 to 2, to nearest, ties to even; `rest` is spent."""
    quotient.set(0)
    with b.repeat(25):
        quotient <<= 1
        with b.when(rest.at_least(divisor)):
            rest -= divisor
            quotient += 1
        rest <<= 1
    half = quotient & b.const(1)
    quotient.set(quotient.shifted_right(1))
    with b.when(half.differs(0)), b.when((rest | (quotient & half)).differs(0)):
        quotient += 1
