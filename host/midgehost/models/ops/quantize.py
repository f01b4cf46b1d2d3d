"""QUANTIZE: int8 to int8 of another scale (a table), or float32 to int8 (computed on the board).

Source: `micro/kernels/quantize_common.cc`, `reference/requantize.h`, `reference/quantize.h`.

The one place where midge is defined and TFLM is not: a float that is 2^31 output steps or more from zero (infinity too)
saturates here, while TFLM casts it to int32, which C leaves undefined. NaN, which has no int8, is an error: ValueError
from the reference, status 4 from the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Place, require_int8, require_same_elements
from midgehost.models.ops.relu import scale_ratio
from midgehost.models.ops.table import QUANTISED, TableOp, check_rescaling, rows_of
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
        if not self.from_float(node):
            check_rescaling(node, scale_ratio(node))

    def function(self, node: Node) -> Ints:
        source, target = node.input(0), node.output
        multiplier = quantize_multiplier(scale_ratio(node))
        return multiply_by_quantized_multiplier(QUANTISED - source.zero_point, *multiplier) + target.zero_point

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        if not self.from_float(node):
            return super().reference(node, inputs)
        if np.isnan(inputs[0]).any():
            raise ValueError(f"operator {node.index} ({node.kind}): an input is not a number")
        with np.errstate(over="ignore"):  # infinity, which saturates
            quotient = inputs[0].astype(np.float32) / np.float32(node.output.scale)
        quotient = np.clip(quotient, -512, 512)
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
