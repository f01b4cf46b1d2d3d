"""TRANSPOSE: a strided copy in the output's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.ops.base import Lowering, Op
from midgehost.models.ops.move import constant_ints, require_same_type, strided_copy
from midgehost.models.ops.walk import contiguous_strides


class Transpose(Op):
    kind = "TRANSPOSE"

    def permutation(self, node: Node) -> list[int]:
        return constant_ints(node, 1, "permutation")

    def check(self, node: Node) -> None:
        source, target = node.input(0), node.output
        require_same_type(node, source)
        order = self.permutation(node)
        if sorted(order) != list(range(len(source.shape))) or len(order) > 5:
            raise node.unsupported(
                f"permutes {len(source.shape)} dimensions by {order}", "Name each of at most five dimensions once."
            )
        if tuple(source.shape[i] for i in order) != target.shape:
            raise node.unsupported(
                f"turns {list(source.shape)} by {order} into {list(target.shape)}", "Make the output's shape agree."
            )

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [np.ascontiguousarray(inputs[0].transpose(self.permutation(node)))]

    def lower(self, node: Node) -> Lowering:
        source, target = node.input(0), node.output
        strides = contiguous_strides(source.shape)
        read = [strides[i] for i in self.permutation(node)]
        return Lowering([strided_copy(source, target, target.shape, read, contiguous_strides(target.shape))])
