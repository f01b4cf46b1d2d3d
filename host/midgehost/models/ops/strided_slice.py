"""STRIDED_SLICE: a strided copy, of at most four dimensions as in TFLM. Source: `internal/strided_slice_logic.h`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.ops.base import Lowering, Op
from midgehost.models.ops.move import constant_ints, require_same_type, strided_copy
from midgehost.models.ops.walk import contiguous_strides


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


class StridedSlice(Op):
    kind = "STRIDED_SLICE"

    def ranges(self, node: Node) -> list[range]:
        """The indices taken along each input dimension (masks applied)."""
        begin, end, step = (constant_ints(node, i, name) for i, name in ((1, "begin"), (2, "end"), (3, "strides")))
        begin_mask, end_mask, shrink = (node.option(k, 0) for k in ("BeginMask", "EndMask", "ShrinkAxisMask"))
        taken: list[range] = []
        for i, (size, b, e, s) in enumerate(zip(node.input(0).shape, begin, end, step, strict=True)):
            low, high = (0, size) if s > 0 else (-1, size - 1)  # where an index may stand
            b, e = (v + size if v < 0 else v for v in (b, e))
            start = (low if s > 0 else high) if begin_mask >> i & 1 else _clamp(b, low, high)
            stop = (high if s > 0 else low) if end_mask >> i & 1 else _clamp(e, low, high)
            taken.append(range(start, start + 1) if shrink >> i & 1 else range(start, stop, s))
        return taken

    def check(self, node: Node) -> None:
        source, target = node.input(0), node.output
        require_same_type(node, source)
        rank = len(source.shape)
        if rank > 4:
            raise node.unsupported(f"slices {rank} dimensions", "Slice at most four.")
        if node.option("EllipsisMask", 0) or node.option("NewAxisMask", 0):
            raise node.unsupported("uses an ellipsis or a new axis", "Write the slice out for every dimension.")
        lengths = [len(constant_ints(node, i, "begin, end and strides")) for i in (1, 2, 3)]
        if lengths != [rank] * 3 or 0 in constant_ints(node, 3, "strides"):
            raise node.unsupported(f"does not slice all {rank} dimensions", "Give begin, end and a stride for each.")
        taken = self.ranges(node)
        shrink = node.option("ShrinkAxisMask", 0)
        if any(shrink >> i & 1 and s < 0 for i, s in enumerate(constant_ints(node, 3, "strides"))):
            # TFLM ends the axis at begin + 1, which a negative stride never reaches: it writes nothing.
            raise node.unsupported("removes a dimension with a negative stride", "Give it the stride 1.")
        shape = tuple(len(r) for i, r in enumerate(taken) if not shrink >> i & 1)
        if shape != target.shape or any(r and not 0 <= r[0] < n for r, n in zip(taken, source.shape, strict=True)):
            raise node.unsupported(
                f"takes {list(shape)} of {list(source.shape)}, its output is {list(target.shape)}",
                "Make the output's shape agree.",
            )

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [inputs[0][np.ix_(*self.ranges(node))].reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        source, target = node.input(0), node.output
        taken = self.ranges(node)
        shape = [len(r) for r in taken]
        strides = contiguous_strides(source.shape)
        start = sum(r.start * s for r, s in zip(taken, strides, strict=True))
        read = [r.step * s for r, s in zip(taken, strides, strict=True)]
        return Lowering([strided_copy(source, target, shape, read, contiguous_strides(shape), start)])
