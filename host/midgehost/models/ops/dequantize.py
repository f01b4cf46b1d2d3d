"""DEQUANTIZE: int8 to float32, a table of 256 floats. Source: `reference/dequantize.h`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Op, Place, require_int8, require_same_elements
from midgehost.models.ops.table import QUANTISED, by_byte, rows_of


class Dequantize(Op):
    kind = "DEQUANTIZE"

    def check(self, node: Node) -> None:
        require_int8(node, node.input(0))
        require_same_elements(node)
        if node.output.dtype != "float32":
            raise node.unsupported(f"gives {node.output.dtype}", "Dequantise to float32.")

    def table(self, node: Node) -> NDArray[np.float32]:
        source = node.input(0)
        with np.errstate(over="ignore"):  # a scale near float32's end gives infinity, as in C
            return (np.float64(source.scale) * (QUANTISED - source.zero_point)).astype(np.float32)

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [self.table(node)[inputs[0].astype(np.int16) + 128].reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        rows, size = rows_of(node.output)
        call = Call(
            Kernel.LOOKUP_FLOAT32,
            in0=Place(node.input(0).index),
            out=Place(node.output.index),
            weights=by_byte(self.table(node)),
            params=[size],
            rows=rows,
        )
        return Lowering([call])
