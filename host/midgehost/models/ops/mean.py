"""MEAN over any axes: the sum less the zero points, rescaled by scale ratio / count.

Source: TFLM `reference/reduce.h`, `QuantizedMeanOrSum`: the multiplier takes the division by the count in, and is not
normalised again.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Op, Place, require_int8
from midgehost.models.ops.move import constant_ints
from midgehost.models.ops.requantise import Requantise
from midgehost.models.ops.walk import Dimension, contiguous_strides, merge
from midgehost.models.ops.weighted import check_scales
from midgehost.models.quant import quantize_multiplier


class Mean(Op):
    kind = "MEAN"

    def axes(self, node: Node) -> tuple[int, ...]:
        rank = len(node.input(0).shape)
        axes = constant_ints(node, 1, "axes")
        if not all(-rank <= axis < rank for axis in axes):
            raise node.unsupported(f"averages axes {axes} of {rank} dimensions", "Name axes that exist.")
        return tuple(sorted({axis % rank for axis in axes}))

    def count(self, node: Node) -> int:
        return prod(node.input(0).shape[axis] for axis in self.axes(node))

    def check(self, node: Node) -> None:
        source, target = node.input(0), node.output
        require_int8(node, source, target)
        axes = self.axes(node)
        kept = [n for axis, n in enumerate(source.shape) if axis not in axes]
        if [n for n in target.shape if n != 1] != [n for n in kept if n != 1]:
            raise node.unsupported(
                f"averages axes {list(axes)} of {list(source.shape)} to {list(target.shape)}", "Export the model again."
            )
        check_scales(node, source.scale / target.scale)

    def stage(self, node: Node) -> Requantise:
        source, target = node.input(0), node.output
        mantissa, shift = quantize_multiplier(source.scale / target.scale)
        count = self.count(node)
        bits = min(count.bit_length() - 1, 32, 31 + shift)
        return Requantise([(mantissa << bits) // count], [shift - bits], target.zero_point)

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        totals = inputs[0].sum(axis=self.axes(node), dtype=np.int64) - node.input(0).zero_point * self.count(node)
        return [self.stage(node)(totals).reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        source = node.input(0)
        axes, strides = self.axes(node), contiguous_strides(source.shape)
        dimensions = [Dimension(n, (s,)) for n, s in zip(source.shape, strides, strict=True)]
        kept = merge(d for axis, d in enumerate(dimensions) if axis not in axes)
        averaged = merge(d for axis, d in enumerate(dimensions) if axis in axes)
        bias = np.array([-source.zero_point * self.count(node)], np.int64)
        call = Call(
            Kernel.MEAN,
            in0=Place(source.index),
            out=Place(node.output.index),
            params=[self.count(node), *_words(kept), *_words(averaged), *self.stage(node).words(bias)],
            scratch_bytes=4,
            rows=node.output.elements,
        )
        return Lowering([call])


def _words(dimensions: Sequence[Dimension]) -> list[int]:
    return [len(dimensions), *(word for d in dimensions for word in (d.size, *d.strides))]
