"""QUANTIZE: int8 to int8 of another scale (a table), or float32 to int8 (computed on the board).

Source: `micro/kernels/quantize_common.cc`, `reference/requantize.h`, `reference/quantize.h`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Place, require_int8, require_same_elements
from midgehost.models.ops.table import QUANTISED, TableOp, rows_of
from midgehost.models.quant import (
    INT8_MAX,
    INT8_MIN,
    Ints,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    tflite_round,
)


class Quantize(TableOp):
    kind = "QUANTIZE"

    def from_float(self, node: Node) -> bool:
        return node.input(0).dtype == "float32"

    def check(self, node: Node) -> None:
        require_int8(node, *([node.output] if self.from_float(node) else [node.input(0), node.output]))
        require_same_elements(node)

    def function(self, node: Node) -> Ints:
        source, target = node.input(0), node.output
        multiplier = quantize_multiplier(source.scale / target.scale)
        return multiply_by_quantized_multiplier(QUANTISED - source.zero_point, *multiplier) + target.zero_point

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        if not self.from_float(node):
            return super().reference(node, inputs)
        quotient = np.clip(inputs[0].astype(np.float32) / np.float32(node.output.scale), -512, 512)
        value = tflite_round(quotient).astype(np.int64) + node.output.zero_point
        return [np.clip(value, INT8_MIN, INT8_MAX).astype(np.int8).reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        if not self.from_float(node):
            return super().lower(node)
        target = node.output
        rows, size = rows_of(target)
        scale_bits = int(np.float32(target.scale).view(np.int32))
        call = Call(
            Kernel.QUANTIZE_FLOAT32,
            in0=Place(node.input(0).index),
            out=Place(target.index),
            params=[size, target.zero_point, scale_bits],
            rows=rows,
        )
        return Lowering([call])
