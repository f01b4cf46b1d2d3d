"""Element-by-element operators on two int8 tensors, with numpy's broadcasting in up to six dimensions, as in TFLM."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Op, Place, require_int8
from midgehost.models.ops.walk import broadcast_strides, plan_walk
from midgehost.models.ops.weighted import check_activation
from midgehost.models.quant import INT8_MAX, INT8_MIN


@dataclass(frozen=True)
class Arithmetic:
    """What the elementwise kernel needs beside the operands (firmware/midge/kernels/portable/elementwise.py)."""

    low: int = INT8_MIN
    high: int = INT8_MAX
    zero_point: int = 0
    mantissa: int = 0
    shift: int = 0
    input_zero_points: tuple[int, int] = (0, 0)
    tables: tuple[Sequence[int], Sequence[int]] = ((), ())

    def swapped(self) -> Arithmetic:
        """The same operator with its operands exchanged."""
        return replace(self, input_zero_points=self.input_zero_points[::-1], tables=self.tables[::-1])


class BinaryOp(Op):
    """An operator on two tensors. A constant operand is packed with the weights."""

    kernel: ClassVar[Kernel]
    mode: ClassVar[int]

    @abstractmethod
    def arithmetic(self, node: Node) -> Arithmetic: ...

    @abstractmethod
    def combine(self, node: Node, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        """The unclamped result for broadcast int64 operands."""

    def check(self, node: Node) -> None:
        a, b = node.input(0), node.input(1)
        require_int8(node, a, b, node.output)
        check_activation(node)
        if a.is_constant and b.is_constant:
            raise node.unsupported("has two constant inputs", "Fold the constants before converting.")
        try:
            shape = np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            shape = None
        if shape != node.output.shape or len(node.output.shape) > 6:
            raise node.unsupported(
                f"cannot broadcast {list(a.shape)} and {list(b.shape)} to {list(node.output.shape)}",
                "Use shapes that broadcast, with at most six dimensions.",
            )

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        a, b = np.broadcast_arrays(inputs[0].astype(np.int64), inputs[1].astype(np.int64))
        arithmetic = self.arithmetic(node)
        result = np.clip(self.combine(node, a, b), arithmetic.low, arithmetic.high)
        return [result.astype(np.int8).reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        first, second = node.input(0), node.input(1)
        arithmetic = self.arithmetic(node)
        positions = [0, 1]
        if first.is_constant:
            first, second, arithmetic = second, first, arithmetic.swapped()
            positions = [1, 0]
        target = node.output
        walk = plan_walk(
            target.shape, broadcast_strides(first.shape, target.shape), broadcast_strides(second.shape, target.shape)
        )
        call = Call(
            self.kernel,
            in0=Place(first.index),
            in1=None if second.is_constant else Place(second.index),
            out=Place(target.index),
            weights=second.data or b"",
            params=[
                self.mode,
                arithmetic.low,
                arithmetic.high,
                arithmetic.zero_point,
                arithmetic.mantissa,
                arithmetic.shift,
                *arithmetic.input_zero_points,
                *walk.words,
                *arithmetic.tables[0],
                *arithmetic.tables[1],
            ],
            rows=walk.rows,
        )
        operands = zip(positions, (first, second), strict=True)
        return Lowering([call], inplace=[i for i, t in operands if not t.is_constant and t.shape == target.shape])
