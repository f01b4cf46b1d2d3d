"""LEAKY_RELU: two slopes, rescaled. Source: `micro/kernels/leaky_relu_common.cc`, `reference/leaky_relu.h`."""

from __future__ import annotations

import numpy as np

from midgehost.models.graph import Node
from midgehost.models.ops.relu import rescale_ratio
from midgehost.models.ops.table import QUANTISED, TableOp
from midgehost.models.quant import Ints, multiply_by_quantized_multiplier, quantize_multiplier


class LeakyRelu(TableOp):
    kind = "LEAKY_RELU"

    def function(self, node: Node) -> Ints:
        source, target = node.input(0), node.output
        x = QUANTISED - source.zero_point
        mantissa, shift = quantize_multiplier(source.scale * node.option("Alpha", 0.0) / target.scale)
        sloped = multiply_by_quantized_multiplier(x, abs(mantissa), shift) * (-1 if mantissa < 0 else 1)
        straight = multiply_by_quantized_multiplier(x, *rescale_ratio(node))
        return target.zero_point + np.where(x >= 0, straight, sloped)
