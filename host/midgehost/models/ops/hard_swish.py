"""HARD_SWISH: x * relu6(x + 3) / 6 in 16-bit fixed point.

Source: `micro/kernels/hard_swish_common.cc`, `reference/hard_swish.h`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from midgehost.models.graph import Node
from midgehost.models.ops.table import QUANTISED, TableOp
from midgehost.models.quant import Ints, quantize_multiplier, rounding_divide_by_pot

_MAX_LEFT_SHIFT: Final = 31  # SaturatingLeftShift computes 1 << (shift - 1) in int32
INT16_MIN: Final = -(1 << 15)
INT16_MAX: Final = (1 << 15) - 1


def _multiplier16(real: float) -> tuple[int, int]:
    """A Q15 mantissa and a shift (DownScaleInt32ToInt16Multiplier)."""
    mantissa, shift = quantize_multiplier(real)
    return min(INT16_MAX, (mantissa + (1 << 15)) >> 16), shift


def _rounding_high_mul16(a: Ints, b: int) -> Ints:
    """round(a * b / 2^15) with the ties of gemmlowp's int16 SaturatingRoundingDoublingHighMul; b is positive."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return np.where(nudged >= 0, nudged >> 15, -((-nudged) >> 15))


def _rounding_divide_by_pot16(x: Ints, exponent: int) -> Ints:
    """gemmlowp's int16 RoundingDivideByPOT. From 2^16 on its mask is -1, and it gives 1 for x >= 0 and -1 for x < 0."""
    return rounding_divide_by_pot(x, exponent) if exponent < 16 else np.where(x >= 0, 1, -1)


def _saturating_left_shift(x: Ints, amount: int) -> Ints:
    return np.clip(x << amount, INT16_MIN, INT16_MAX)


class HardSwish(TableOp):
    kind = "HARD_SWISH"

    def multipliers(self, node: Node) -> tuple[tuple[int, int], tuple[int, int]]:
        """(mantissa, shift) to the output's scale before its last shift, and to the reluish scale 3/32768."""
        hires = node.input(0).scale / 128
        return _multiplier16(hires / node.output.scale), _multiplier16(hires / (3 / 32768))

    def check(self, node: Node) -> None:
        super().check(node)
        (_, out_shift), (_, shift) = self.multipliers(node)
        if out_shift > 0:  # TFLM refuses it too
            raise node.unsupported(
                "has an output scale far finer than its input's", "Quantise with representative data."
            )
        if shift > _MAX_LEFT_SHIFT:
            raise node.unsupported(
                f"has the input scale {node.input(0).scale:g}, of 2.5e7 or more", "Quantise with representative data."
            )

    def function(self, node: Node) -> Ints:
        (out_mantissa, out_shift), (mantissa, shift) = self.multipliers(node)
        hires = (QUANTISED - node.input(0).zero_point) << 7
        preshift = _rounding_high_mul16(hires, out_mantissa)
        reluish = _saturating_left_shift(hires, shift - 1) if shift > 0 else hires
        reluish = _rounding_high_mul16(reluish, mantissa)
        if shift > 0:
            reluish = _saturating_left_shift(reluish, 1)
        elif shift < 0:
            reluish = _rounding_divide_by_pot16(reluish, -shift)
        reluish = (reluish + (1 << 15)) >> 1  # from [-1, 1] to [0, 1]
        product = reluish * preshift
        value = np.where(product >= 0, product >> 15, -((-product) >> 15))  # towards zero
        return _rounding_divide_by_pot16(value, -out_shift) + node.output.zero_point
