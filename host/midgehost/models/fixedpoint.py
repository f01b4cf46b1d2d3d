"""gemmlowp's fixed-point functions on int32 raw values: exp, logistic, tanh, and the reciprocal that softmax uses.

A value with k integer bits is raw * 2^(k - 31). Source: gemmlowp `fixedpoint/fixedpoint.h`. Arrays are int64 that hold
int32 values, so that every intermediate is exact.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from midgehost.models.quant import (
    INT32_MAX,
    INT32_MIN,
    Ints,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

_ONE: Final = INT32_MAX  # 1.0 with no integer bits, as near as int32 comes
_F2_ONE: Final = 1 << 29


def multiply_by_pot(x: Ints, exponent: int) -> Ints:
    """x * 2^exponent, saturating to int32 on the left, rounding on the right (SaturatingRoundingMultiplyByPOT)."""
    if exponent <= 0:
        return rounding_divide_by_pot(x, -exponent)
    limit = (1 << (31 - exponent)) - 1
    shifted = x << exponent
    return np.where(x > limit, INT32_MAX, np.where(x < -limit, INT32_MIN, shifted))


def exp_on_negative_values(a: Ints, integer_bits: int) -> Ints:
    """exp(a) with no integer bits for a <= 0 with `integer_bits` integer bits."""
    mul = saturating_rounding_doubling_high_mul
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    below = (a & (quarter - 1)) - quarter  # a modulo 1/4, less 1/4: in [-1/4, 0)
    # Taylor expansion around -1/8
    x = multiply_by_pot(below, integer_bits) + (1 << 28)
    x2 = mul(x, x)
    x3 = mul(x2, x)
    x4 = mul(x2, x2)
    tail = rounding_divide_by_pot(mul(rounding_divide_by_pot(x4, 2) + x3, 715827883) + x2, 1)
    result = 1895147668 + mul(x + tail, 1895147668)
    remainder = below - a
    factors = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)  # exp(-2^e), e = -2..4
    for exponent, factor in enumerate(factors, start=-2):
        if integer_bits > exponent:
            bit = remainder & (1 << (fraction_bits + exponent))
            result = np.where(bit != 0, mul(result, factor), result)
    if integer_bits > 5:
        result = np.where(a < -(1 << (36 - integer_bits)), 0, result)
    return np.where(a == 0, _ONE, result)


def _reciprocal_of_half_one_plus(a: Ints) -> Ints:
    """2 / (1 + a) with two integer bits, for a in [0, 1] with none: three steps of Newton-Raphson."""
    mul = saturating_rounding_doubling_high_mul
    total = a + _ONE
    half_denominator = (total + 1) >> 1  # RoundingHalfSum of non-negative numbers
    x = 1515870810 + mul(half_denominator, -1010580540)
    for _ in range(3):
        x = x + multiply_by_pot(mul(x, _F2_ONE - mul(half_denominator, x)), 2)
    return x


def one_over_one_plus_x(a: Ints) -> Ints:
    """1 / (1 + a), no integer bits, for a in [0, 1] with none."""
    return multiply_by_pot(_reciprocal_of_half_one_plus(a), 1)


def one_minus_x_over_one_plus_x(a: Ints) -> Ints:
    """(1 - a) / (1 + a), no integer bits, for a in [0, 1] with none."""
    return multiply_by_pot(_reciprocal_of_half_one_plus(a) - _F2_ONE, 2)


def logistic(a: Ints, integer_bits: int) -> Ints:
    """1 / (1 + exp(-a)) with no integer bits."""
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits))
    return np.where(a == 0, 1 << 30, np.where(a > 0, positive, _ONE - positive))


def tanh(a: Ints, integer_bits: int) -> Ints:
    """tanh(a) with no integer bits; exp(2a) is taken by reading a with one integer bit more."""
    value = one_minus_x_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits + 1))
    return np.where(a == 0, 0, np.where(a < 0, -value, value))
