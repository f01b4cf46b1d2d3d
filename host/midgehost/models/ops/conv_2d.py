"""CONV_2D, grouped where the depths say so. Source: TFLM `reference/integer_ops/conv.h`, `conv_common.cc`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops import weighted
from midgehost.models.ops.base import Lowering, Op
from midgehost.models.ops.convolution import convolution_call, kernel_window
from midgehost.models.ops.window import Window


class Conv2D(Op):
    """Filters [filters, height, width, depth]; input channels divided by depth is the number of groups."""

    kind = "CONV_2D"

    def check(self, node: Node) -> None:
        Window.check(node)
        weights = node.input(1).shape
        if len(weights) != 4:
            raise node.unsupported(f"has weights of shape {list(weights)}", "Export the model again.")
        channels, (filters, _, _, depth) = node.input(0).shape[3], weights
        if channels % depth or filters % (channels // depth):
            why = f"has {filters} filters of depth {depth} for {channels} channels"
            raise node.unsupported(why, "Groups must divide both the channels and the filters.")
        weighted.check(node, channel_axis=0)
        kernel_window(node).check_output(node, filters)

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        filters, height, width, depth = node.input(1).shape
        window = kernel_window(node)
        zero = node.input(0).zero_point
        patches = window.patches(inputs[0].astype(np.float64), zero) - zero
        groups = patches.shape[5] // depth
        kernels = inputs[1].astype(np.float64).reshape(groups, filters // groups, height * width * depth)
        sums = [
            patches[..., g * depth : (g + 1) * depth].reshape(-1, height * width * depth) @ kernels[g].T
            for g in range(groups)
        ]
        total = np.concatenate(sums, axis=1).astype(np.int64)  # exact: far below 2^53
        return [weighted.stage(node)(total + weighted.biases(node, filters)).reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        weights = node.input(1).array()
        biases = weighted.folded_biases(node, weights.sum(axis=(1, 2, 3), dtype=np.int64))
        seen_bytes = prod(weights.shape[1:])
        return Lowering([convolution_call(Kernel.CONV_2D, node, weights.shape[3], biases, self.macs(node), seen_bytes)])

    def macs(self, node: Node) -> int:
        return node.output.elements * prod(node.input(1).shape[1:])
