"""TensorFlow Lite Micro's fixed-point arithmetic, exactly, on numpy arrays.

Sources: tflite-micro `tensorflow/lite/kernels/internal/{quantization_util,common}.cc` and gemmlowp `fixedpoint.h`, with
double rounding (TFLM's default): SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

INT8_MIN, INT8_MAX = -128, 127
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1

Ints = NDArray[np.int64]


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(mantissa in Q31, shift) with real = mantissa * 2^(shift - 31); a shift below -31 flushes to zero."""
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    mantissa = math.floor(abs(fraction) * (1 << 31) + 0.5)  # TfLiteRound: half away from zero
    mantissa = mantissa if fraction >= 0 else -mantissa
    if abs(mantissa) == 1 << 31:
        mantissa //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    return mantissa, shift


def saturating_rounding_doubling_high_mul(a: Ints | int, b: Ints | int) -> Ints:
    """round(a * b / 2^31), ties away from zero towards +inf as gemmlowp has it; MIN * MIN saturates."""
    a64, b64 = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    product = a64 * b64
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    result = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))  # C division truncates
    return np.where((a64 == INT32_MIN) & (b64 == INT32_MIN), INT32_MAX, result)


def rounding_divide_by_pot(x: Ints | int, exponent: Ints | int) -> Ints:
    """x / 2^exponent rounded to nearest, ties away from zero. exponent in 0..31."""
    x64, e64 = np.asarray(x, dtype=np.int64), np.asarray(exponent, dtype=np.int64)
    mask = (np.int64(1) << e64) - 1
    remainder = x64 & mask
    threshold = (mask >> 1) + (x64 < 0)
    return (x64 >> e64) + (remainder > threshold)


def multiply_by_quantized_multiplier(x: Ints | int, mantissa: Ints | int, shift: Ints | int) -> Ints:
    """TFLM's MultiplyByQuantizedMultiplier with double rounding; a left shift wraps as its int32 product does."""
    s64 = np.asarray(shift, dtype=np.int64)
    shifted = wrap_int32(np.asarray(x, dtype=np.int64) << np.maximum(s64, 0))
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(shifted, mantissa), np.maximum(-s64, 0))


def wrap_int32(x: Ints) -> Ints:
    """The value that an int32 holds after overflow (two's complement)."""
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def tflite_round(x: Any) -> Any:
    """TfLiteRound: half away from zero, for floats and float arrays. The fraction is exact; x + 0.5 would round."""
    whole = np.trunc(x)
    fraction = x - whole
    return whole + (fraction >= 0.5) - (fraction <= -0.5)


def quantize_value(value: float, scale: float, zero_point: int) -> int:
    """A real number in a tensor's quantised units (float32 division, as TFLM's activation range computes it)."""
    return zero_point + int(tflite_round(np.float32(value) / np.float32(scale)))


def activation_range(fused: str, scale: float, zero_point: int) -> tuple[int, int]:
    """The int8 range that a fused activation leaves: NONE, RELU, RELU_N1_TO_1 or RELU6. Raises KeyError for others."""
    low, high = {"NONE": (None, None), "RELU": (0.0, None), "RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0)}[fused]
    bottom = INT8_MIN if low is None else max(INT8_MIN, quantize_value(low, scale, zero_point))
    top = INT8_MAX if high is None else min(INT8_MAX, quantize_value(high, scale, zero_point))
    return bottom, top
