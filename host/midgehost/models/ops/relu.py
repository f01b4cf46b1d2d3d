"""RELU as an operator of its own, with rescaling. Source: `micro/kernels/activations_common.cc`."""

from __future__ import annotations

import numpy as np

from midgehost.models.graph import Node
from midgehost.models.ops.table import QUANTISED, TableOp, check_rescaling
from midgehost.models.quant import Ints, multiply_by_quantized_multiplier, quantize_multiplier


def scale_ratio(node: Node) -> float:
    """Input scale / output scale (a quotient of doubles, see sub.py)."""
    return node.input(0).scale / node.output.scale


class Relu(TableOp):
    kind = "RELU"

    def check(self, node: Node) -> None:
        super().check(node)
        check_rescaling(node, scale_ratio(node))

    def function(self, node: Node) -> Ints:
        zero = node.output.zero_point
        multiplier = quantize_multiplier(scale_ratio(node))
        value = zero + multiply_by_quantized_multiplier(QUANTISED - node.input(0).zero_point, *multiplier)
        return np.maximum(value, zero)
