"""RELU as an operator of its own, with rescaling. Source: `micro/kernels/activations_common.cc`."""

from __future__ import annotations

import numpy as np

from midgehost.models.graph import Node
from midgehost.models.ops.table import QUANTISED, TableOp
from midgehost.models.quant import Ints, multiply_by_quantized_multiplier, quantize_multiplier


def rescale_ratio(node: Node) -> tuple[int, int]:
    """Mantissa and shift of input scale / output scale (a quotient of doubles, see sub.py)."""
    return quantize_multiplier(node.input(0).scale / node.output.scale)


class Relu(TableOp):
    kind = "RELU"

    def function(self, node: Node) -> Ints:
        zero = node.output.zero_point
        value = zero + multiply_by_quantized_multiplier(QUANTISED - node.input(0).zero_point, *rescale_ratio(node))
        return np.maximum(value, zero)
