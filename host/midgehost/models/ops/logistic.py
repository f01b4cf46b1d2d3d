"""LOGISTIC: gemmlowp's fixed-point logistic; output scale 1/256, zero point -128.

Source: `micro/kernels/logistic_common.cc`, `reference/integer_ops/logistic.h`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from midgehost.models.fixedpoint import logistic
from midgehost.models.graph import Node, Tensor
from midgehost.models.ops.table import QUANTISED, TableOp
from midgehost.models.quant import (
    INT8_MAX,
    INT8_MIN,
    Ints,
    multiply_by_quantized_multiplier,
    rounding_divide_by_pot,
    tflite_round,
)

INTEGER_BITS = 4
_MAX_LEFT_SHIFT = 62


def check_input_scale(node: Node) -> None:
    """Raises UnsupportedOption unless 2^-28 <= input scale < 2^35.

    TFLM's CalculateInputRadius divides by the int64 1 << shift, where scale * 2^27 = fraction * 2^shift and fraction is
    in [1/2, 1): C defines that for shifts of 0..62 only.
    """
    scale = node.input(0).scale
    if not 0 <= _fraction_and_shift(scale)[1] <= _MAX_LEFT_SHIFT:
        raise node.unsupported(
            f"has the input scale {scale:g}, outside 2^-28 to 2^35", "Quantise with representative data."
        )


def _fraction_and_shift(scale: float) -> tuple[float, int]:
    return math.frexp(scale * (1 << (31 - INTEGER_BITS)))


def saturating_input(tensor: Tensor) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """(fixed-point input with four integer bits, where it is too low, where it is too high) for -128..127."""
    fraction, shift = _fraction_and_shift(tensor.scale)
    mantissa = int(tflite_round(np.float64(fraction * (1 << 31))))
    radius = math.floor(((1 << INTEGER_BITS) - 1) * (1 << (31 - INTEGER_BITS)) / 2.0**shift)
    offset = QUANTISED - tensor.zero_point
    low, high = offset <= -radius, offset >= radius
    inside = np.where(low | high, 0, offset)
    return multiply_by_quantized_multiplier(inside, mantissa, shift), low, high


class Logistic(TableOp):
    kind = "LOGISTIC"

    def check(self, node: Node) -> None:
        super().check(node)
        check_input_scale(node)
        if node.output.zero_point != INT8_MIN:
            raise node.unsupported(
                f"has the output zero point {node.output.zero_point}",
                "Quantise its output to scale 1/256, zero point -128.",
            )

    def function(self, node: Node) -> Ints:
        x, low, high = saturating_input(node.input(0))
        value = rounding_divide_by_pot(logistic(x, INTEGER_BITS), 31 - 8) + INT8_MIN
        return np.where(low, INT8_MIN, np.where(high, INT8_MAX, value))
