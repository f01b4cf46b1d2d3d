"""PAD: the output filled with the zero point, the input copied into its middle.

Source: `micro/kernels/pad_common.cc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Op, Place, require_int8
from midgehost.models.ops.move import constant_ints, strided_copy
from midgehost.models.ops.table import rows_of
from midgehost.models.ops.walk import contiguous_strides


class Pad(Op):
    kind = "PAD"

    def value(self, node: Node) -> int:
        """The quantised value of the border."""
        return node.output.zero_point

    def paddings(self, node: Node) -> list[tuple[int, int]]:
        """(before, after) of every dimension."""
        flat = constant_ints(node, 1, "paddings")
        return list(zip(flat[0::2], flat[1::2], strict=False))

    def check(self, node: Node) -> None:
        source, target = node.input(0), node.output
        require_int8(node, source, target)
        paddings = self.paddings(node)
        if len(paddings) != len(source.shape):
            why = f"has paddings for {len(paddings)} of {len(source.shape)} dimensions"
            raise node.unsupported(why, "Give two paddings for every dimension.")
        expected = tuple(n + before + after for n, (before, after) in zip(source.shape, paddings, strict=True))
        if min((min(p) for p in paddings), default=0) < 0 or expected != target.shape or len(target.shape) > 5:
            raise node.unsupported(
                f"pads {list(source.shape)} by {paddings} to {list(target.shape)}",
                "Give non-negative paddings for every dimension, at most five.",
            )

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [np.pad(inputs[0], self.paddings(node), constant_values=self.value(node))]

    def lower(self, node: Node) -> Lowering:
        source, target = node.input(0), node.output
        rows, size = rows_of(target)
        fill = Call(Kernel.FILL, in0=None, out=Place(target.index), params=[self.value(node) & 255, size], rows=rows)
        strides = contiguous_strides(target.shape)
        start = sum(before * stride for (before, _), stride in zip(self.paddings(node), strides, strict=True))
        copy = strided_copy(
            source, target, source.shape, contiguous_strides(source.shape), strides, target_offset=start
        )
        return Lowering([fill, copy])
