"""CONCATENATION: one strided copy an input. All int8 inputs share the output's scale, as TFLM demands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.ops.base import Lowering, Op
from midgehost.models.ops.move import require_same_type, strided_copy
from midgehost.models.ops.walk import contiguous_strides


class Concatenation(Op):
    kind = "CONCATENATION"

    def axis(self, node: Node) -> int:
        axis, rank = int(node.option("Axis", 0)), len(node.output.shape)
        if not -rank <= axis < rank:
            raise node.unsupported(f"joins axis {axis} of {rank} dimensions", "Give an axis that exists.")
        return axis % rank

    def check(self, node: Node) -> None:
        require_same_type(node, *node.inputs)
        if node.option("FusedActivationFunction", "NONE") != "NONE":
            raise node.unsupported("has a fused activation", "Apply the activation in an operator of its own.")
        axis = self.axis(node)
        shapes = [list(t.shape) for t in node.inputs]
        total = [0 if i == axis else n for i, n in enumerate(node.input(0).shape)]
        for shape in shapes:
            if len(shape) != len(node.output.shape) or any(i != axis and n != total[i] for i, n in enumerate(shape)):
                raise node.unsupported(f"joins the shapes {shapes}", "Give inputs that differ along the axis only.")
            total[axis] += shape[axis]
        if tuple(total) != node.output.shape:
            raise node.unsupported(f"has the output shape {list(node.output.shape)}", f"Expected {total}.")

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [np.concatenate(list(inputs), axis=self.axis(node))]

    def lower(self, node: Node) -> Lowering:
        axis, target = self.axis(node), node.output
        strides = contiguous_strides(target.shape)
        calls, offset = [], 0
        for tensor in node.inputs:
            shape = tensor.shape
            calls.append(strided_copy(tensor, target, shape, contiguous_strides(shape), strides, target_offset=offset))
            offset += shape[axis] * strides[axis]
        return Lowering(calls)
