"""RELU6 as an operator of its own: a clamp in the input's scale. Source: `micro/kernels/activations_common.cc`."""

from __future__ import annotations

import numpy as np

from midgehost.models.graph import Node
from midgehost.models.ops.base import require_representable
from midgehost.models.ops.table import QUANTISED, TableOp
from midgehost.models.quant import INT8_MAX, Ints, quantize_value


class Relu6(TableOp):
    kind = "RELU6"

    def check(self, node: Node) -> None:
        super().check(node)
        require_representable(node, 6.0, node.input(0))

    def function(self, node: Node) -> Ints:
        source = node.input(0)
        six = min(INT8_MAX, quantize_value(6.0, source.scale, source.zero_point))
        return np.where(six < QUANTISED, six, np.where(source.zero_point > QUANTISED, source.zero_point, QUANTISED))
