"""LEAKY_RELU: two slopes, rescaled. Source: `micro/kernels/leaky_relu_common.cc`, `reference/leaky_relu.h`."""

from __future__ import annotations

import math

import numpy as np

from midgehost.models.graph import Node
from midgehost.models.ops.relu import scale_ratio
from midgehost.models.ops.table import QUANTISED, TableOp, check_rescaling
from midgehost.models.quant import Ints, multiply_by_quantized_multiplier, quantize_multiplier


class LeakyRelu(TableOp):
    kind = "LEAKY_RELU"

    def slope_ratio(self, node: Node) -> float:
        """The ratio for negative inputs, in doubles."""
        return node.input(0).scale * node.option("Alpha", 0.0) / node.output.scale

    def check(self, node: Node) -> None:
        super().check(node)
        ratio = self.slope_ratio(node)
        check_rescaling(node, scale_ratio(node), ratio)
        mantissa, shift = quantize_multiplier(ratio)
        if mantissa < 0 and shift > math.frexp(ratio)[1]:
            # The mantissa rounds to -2^31. TFLM halves +2^31 only, and then negates the int32: it overflows.
            raise node.unsupported(f"scales its negative inputs by {ratio!r}", "Use another alpha.")

    def function(self, node: Node) -> Ints:
        source, target = node.input(0), node.output
        x = QUANTISED - source.zero_point
        mantissa, shift = quantize_multiplier(self.slope_ratio(node))
        sloped = multiply_by_quantized_multiplier(x, abs(mantissa), shift) * (-1 if mantissa < 0 else 1)
        straight = multiply_by_quantized_multiplier(x, *quantize_multiplier(scale_ratio(node)))
        return target.zero_point + np.where(x >= 0, straight, sloped)
