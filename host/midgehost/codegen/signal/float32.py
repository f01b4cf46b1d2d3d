"""Single precision without a floating-point unit, inlined into programs of the intermediate representation.

Every operation rounds to nearest, ties to even: the bits are those of IEEE 754, as numpy's float32 or an FPU has them.
Subnormals are the exception: a stored value below 2^-126 becomes 0, as in the RP2040's own float routines, and zeros
are stored without a sign. Nothing overflows, as long as what goes in is bounded: midge's detectors refuse samples
beyond 1e12.

A value in registers is mantissa * 2^(exponent - 150): the exponent as it is stored, without its limits, the mantissa
signed with a magnitude from 2^23 to 2^24, both included. 0 is a mantissa of 0 with an exponent of at most 0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from midgehost.codegen.ir.code import Builder, Reg

BIAS: Final = 127
_UNIT: Final = 1 << 23  # the mantissa of 1
_GUARD: Final = 5  # bits of a sum or product below its mantissa; whatever else is lost sets the lowest
_TOP: Final = 23 + _GUARD


@dataclass(frozen=True)
class Float:
    """A value in two registers."""

    exponent: Reg
    mantissa: Reg

    def assign(self, value: Float) -> None:
        """Changes this variable."""
        self.exponent.set(value.exponent)
        self.mantissa.set(value.mantissa)


def bits(value: float) -> int:
    """How a number is stored."""
    (stored,) = struct.unpack("<i", struct.pack("<f", value))
    return stored


def constant(b: Builder, value: float) -> Float:
    """A number that is not 0 and not negative, rounded to single precision."""
    exponent, fraction = divmod(bits(value), _UNIT)
    assert 0 < exponent < 255
    return Float(b.const(exponent), b.const(fraction + _UNIT))


def unpack(b: Builder, stored: Reg) -> Float:
    """The value that is stored as these bits: no NaN, no infinity."""
    exponent = (stored << 1).shifted_right(24)
    mantissa = b.copy(0)
    with b.when(exponent.differs(0)):
        mantissa.set((stored << 9).shifted_right(9))
        mantissa += b.const(_UNIT)
        with b.when(stored < 0):
            mantissa.set(-mantissa)
    return Float(exponent, mantissa)


def unpack_positive(b: Builder, stored: Reg) -> Float:
    """The same for a value above 0."""
    exponent = stored.shifted_right(23)
    return Float(exponent, stored - ((exponent - 1) << 23))


def pack(b: Builder, x: Float) -> Reg:
    """The bits to store."""
    stored = b.copy(0)
    with b.when(x.exponent > 0):
        stored.set((x.exponent - 1) << 23)
        with b.when(x.mantissa >= 0):
            stored += x.mantissa
        with b.otherwise():
            stored -= x.mantissa
            stored += b.const(1 << 31)
    return stored


def pack_positive(b: Builder, x: Float) -> Reg:
    """The same for a value that is not negative; two of them compare as their bits do."""
    stored = b.copy(0)
    with b.when(x.exponent > 0):
        stored.set((x.exponent - 1) << 23)
        stored += x.mantissa
    return stored


def from_integer(b: Builder, number: Reg) -> Float:
    """An integer from 0 to 2^24."""
    exponent, mantissa = b.copy(0), b.copy(number)
    with b.when(number > 0):
        exponent.set(BIAS + 23)
        least = b.const(_UNIT >> 8)
        with b.loop_while(mantissa < least):
            mantissa <<= 8
            exponent -= 8
        least <<= 8
        with b.loop_while(mantissa < least):
            mantissa <<= 1
            exponent -= 1
    return Float(exponent, mantissa)


def to_integer(b: Builder, x: Float) -> Reg:
    """The integer part of a value that is at least 0 and below 2^23."""
    exponent, number = b.copy(x.exponent), b.copy(x.mantissa)
    carry = number.shifted_right(24)  # a mantissa of 2^24 is one of 2^23, an exponent higher
    exponent += carry
    number.set(number.shifted_right(carry))
    with b.when(exponent >= BIAS):
        number.set(number.shifted_right(BIAS + 23 - exponent))
    with b.otherwise():
        number.set(0)
    return number


def add(b: Builder, x: Float, y: Float) -> Float:
    """x + y."""
    return _sum(b, x, y.exponent, y.mantissa << _GUARD)


def subtract(b: Builder, x: Float, y: Float) -> Float:
    """x - y."""
    return _sum(b, x, y.exponent, -(y.mantissa << _GUARD))


def _sum(b: Builder, x: Float, y_exponent: Reg, y: Reg) -> Float:
    exponent, total = b.register(), b.register()
    wide = x.mantissa << _GUARD
    distance = x.exponent - y_exponent
    with b.when(distance >= 0):
        exponent.set(x.exponent)
        total.set(_aligned(b, y, distance) + wide)
    with b.otherwise():
        exponent.set(y_exponent)
        total.set(_aligned(b, wide, -distance) + y)
    high = _high(total)
    with b.when(high.equals(0)):
        _normalise(b, total, exponent)
    with b.when(high > 1):
        _halve(b, total, exponent)
    return Float(exponent, _rounded(total))


def _aligned(b: Builder, value: Reg, distance: Reg) -> Reg:
    """value >> distance; what is lost sets the lowest bit."""
    b.lower(distance, 31)
    shifted = value >> distance
    with b.when((shifted << distance).differs(value)):
        shifted |= b.const(1)
    return shifted


def _high(total: Reg) -> Reg:
    """The magnitude in units of 2^_TOP: 1 where it is normal. -2^k counts as less than 2^k."""
    return (total ^ (total >> 31)).shifted_right(_TOP)


def _normalise(b: Builder, total: Reg, exponent: Reg) -> None:
    """Moves a sum below 2^_TOP up; none of its bits was lost."""
    magnitude = total ^ (total >> 31)
    done, again = b.fresh_label(), b.fresh_label()
    least = b.const(1 << _TOP - 4)
    with b.when(magnitude < least), b.seldom():
        with b.when(magnitude.equals(0)):
            exponent.set(0)
            b.jump(done)
        with b.loop_while(magnitude < least):
            magnitude <<= 4
            total <<= 4
            exponent -= 4
    least <<= 4
    b.label(again)
    magnitude <<= 1
    total <<= 1
    exponent -= 1
    b.branch(magnitude < least, again)
    b.label(done)


def _halve(b: Builder, total: Reg, exponent: Reg) -> None:
    """Moves a large sum or product down; the lowest bit stays set if it was."""
    lost = (total << 31).shifted_right(31)
    total >>= 1
    total |= lost
    exponent += 1


def _rounded(total: Reg) -> Reg:
    """total / 2^_GUARD, ties to even."""
    odd = (total << 31 - _GUARD).shifted_right(31)
    total += odd
    total += (1 << _GUARD - 1) - 1
    return total >> _GUARD


def multiply(b: Builder, x: Float, y: Float) -> Float:
    """x * y."""
    x_high, x_low = _halves(x.mantissa)
    y_high, y_low = _halves(y.mantissa)
    middle = x_high * y_low
    middle += x_low * y_high
    x_high *= y_high
    x_low *= y_low
    return _joined(b, x.exponent + y.exponent, x_high, middle, x_low)


def multiply_by_byte(b: Builder, x: Float, number: Reg) -> Float:
    """x * number for an integer from 0 to 255, and x not negative."""
    total, exponent, lost = x.mantissa * number, x.exponent + _GUARD, b.copy(0)
    least, most = b.const(1 << _TOP), b.const(4 << _TOP)
    with b.when(total.at_least(most)):
        lost.set(total << 30)
        total.set(total.shifted_right(2))
        exponent += 2
    with b.when(total > 0), b.loop_while(total < least):
        total <<= 1
        exponent -= 1
    return _product(b, exponent, total, lost)


def square(b: Builder, x: Float) -> Float:
    """x * x."""
    high, low = _halves(x.mantissa)
    middle = high * low
    middle <<= 1
    high *= high
    low *= low
    return _joined(b, x.exponent << 1, high, middle, low)


def _halves(mantissa: Reg) -> tuple[Reg, Reg]:
    """The upper bits, signed, and the lower twelve."""
    return mantissa >> 12, (mantissa << 20).shifted_right(20)


def _joined(b: Builder, exponent: Reg, high: Reg, middle: Reg, low: Reg) -> Float:
    """high * 2^24 + middle * 2^12 + low, rounded; the registers are spent."""
    middle += low.shifted_right(12)
    total = high << 6
    total += middle >> 6
    low <<= 20
    low |= middle << 26
    return _product(b, exponent - BIAS, total, low)


def _product(b: Builder, exponent: Reg, total: Reg, lost: Reg) -> Float:
    """A total whose magnitude is in 2^_TOP to 2^(_TOP + 2), or 0, and goes on if `lost` is not 0; rounded, spent."""
    with b.when(lost.differs(0)):
        total |= b.const(1)
    with b.when(_high(total) > 1):
        _halve(b, total, exponent)
    with b.when(total.equals(0)), b.seldom():
        exponent.set(0)
    return Float(exponent, _rounded(total))


def divide(b: Builder, x: Float, y: Float) -> Float:
    """x / y for x not negative and y above 0."""
    return _divided(b, x, y, reciprocal(b, y.mantissa.shifted_right(8)))


def divide_by(b: Builder, x: Float, number: float) -> Float:
    """x / number for x not negative and a number above 0 that the host knows."""
    y = constant(b, number)
    return _divided(b, x, y, b.const((1 << 39) // (bits(number) % _UNIT + _UNIT)))


def _divided(b: Builder, x: Float, y: Float, inverse: Reg) -> Float:
    """Two digits of thirteen bits by an estimate of 2^39 / y; then the rest says how far the last digit is off."""
    first = ((x.mantissa.shifted_right(9)) * inverse).shifted_right(17)
    rest = (x.mantissa << 13) - first * y.mantissa
    second = ((rest >> 11) * inverse) >> 15
    rest <<= 13
    rest -= second * y.mantissa
    quotient = (first << 13) + second
    with b.seldom(), b.loop_while(rest < 0):
        rest += y.mantissa
        quotient -= 1
    with b.seldom(), b.loop_while(rest >= y.mantissa):
        rest -= y.mantissa
        quotient += 1
    exponent = x.exponent - y.exponent
    return _product(b, exponent + (BIAS - 1), quotient << _TOP - 25, rest)


def reciprocal(b: Builder, d: Reg) -> Reg:
    """About 2^31 / d, to 2^-14 of itself, for d from 2^15 to 2^16: a line, and Newton's step twice."""
    unit = b.const(1 << 31)
    inverse = b.const(92521) - (d * b.const(61681)).shifted_right(16)  # 2^15 * (48 - 32 d / 2^16) / 17
    for coarse in (15, 11):
        error = (unit - d * inverse) >> coarse
        inverse += (error * inverse) >> 31 - coarse
    return inverse


def square_root(b: Builder, x: Float) -> Float:
    """The square root of x, which is not negative.

    Of the radicand R, the mantissa moved up by 27 or 28 bits so that an even power of 2 is left, two digits of
    thirteen bits by an estimate of 1 / root; then the rest says how far the last digit is off.
    """
    carry = x.mantissa.shifted_right(24)
    exponent = x.exponent + carry
    high = (x.mantissa.shifted_right(carry)) << 7  # R / 2^20
    with b.when((exponent << 31).equals(0)):
        high <<= 1
    inverse = reciprocal_root(b, high.shifted_right(16))
    first = (high.shifted_right(16) * inverse).shifted_right(18)
    rest = high - ((first * first) << 6)
    root = first << 13
    root += ((rest >> 6) * inverse) >> 16
    rest = (high << 20) - root * root
    twice = root << 1
    with b.seldom(), b.loop_while(rest < 0):
        twice -= 2
        rest += twice
        rest += 1
    with b.seldom(), b.loop_while(rest > twice):
        rest -= twice
        rest -= 1
        twice += 2
    exponent += BIAS
    return _product(b, exponent >> 1, twice << _TOP - 26, rest)


def reciprocal_root(b: Builder, x: Reg) -> Reg:
    """About 2^23 / sqrt(x), to 2^-12 of itself and below 2^16, for x from 2^14 to 2^16: a line, and Newton's step
    twice."""
    inverse = b.const(69468) - (x * b.const(39321)).shifted_right(16)
    for _ in range(2):
        near_one = (((inverse * inverse).shifted_right(16)) * x).shifted_right(15)
        inverse.set((inverse * (b.const(3 << 15) - near_one).shifted_right(1)).shifted_right(15))
    return inverse
