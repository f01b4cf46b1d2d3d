"""TANH: gemmlowp's fixed-point tanh; output scale 1/128, zero point 0. Source: `reference/integer_ops/tanh.h`."""

from __future__ import annotations

import numpy as np

from midgehost.models.fixedpoint import tanh
from midgehost.models.graph import Node
from midgehost.models.ops.logistic import INTEGER_BITS, check_input_scale, saturating_input
from midgehost.models.ops.table import TableOp
from midgehost.models.quant import INT8_MAX, INT8_MIN, Ints, rounding_divide_by_pot


class Tanh(TableOp):
    kind = "TANH"

    def check(self, node: Node) -> None:
        super().check(node)
        check_input_scale(node)

    def function(self, node: Node) -> Ints:
        x, low, high = saturating_input(node.input(0))
        value = rounding_divide_by_pot(tanh(x, INTEGER_BITS), 31 - 7)
        return np.where(low, INT8_MIN, np.where(high, INT8_MAX, value))
