"""DEPTHWISE_CONV_2D. Source: TFLM `reference/integer_ops/depthwise_conv.h`, `depthwise_conv_common.cc`."""

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


class DepthwiseConv2D(Op):
    """Weights [1, height, width, channels * multiplier]: `multiplier` filters for each input channel."""

    kind = "DEPTHWISE_CONV_2D"

    def check(self, node: Node) -> None:
        Window.check(node)
        weights, channels = node.input(1).shape, node.input(0).shape[3]
        if len(weights) != 4 or weights[0] != 1 or weights[3] % channels:
            why = f"has weights of shape {list(weights)} for {channels} channels"
            raise node.unsupported(why, "Export the model again.")
        if node.option("DepthMultiplier", weights[3] // channels) != weights[3] // channels:
            why = f"has the depth multiplier {node.option('DepthMultiplier')}, its weights {weights[3] // channels}"
            raise node.unsupported(why, "Export the model again.")
        weighted.check(node, channel_axis=3)
        kernel_window(node).check_output(node, weights[3])

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        zero = node.input(0).zero_point
        _, height, width, filters = node.input(1).shape
        patches = kernel_window(node).patches(inputs[0].astype(np.int64), zero) - zero
        kernels = inputs[1].astype(np.int64).reshape(height, width, patches.shape[5], -1)
        sums = np.einsum("nyxhwc,hwcm->nyxcm", patches, kernels).reshape(-1, filters)
        return [weighted.stage(node)(sums + weighted.biases(node, filters)).reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        filters = node.input(1).shape[3]
        multiplier = filters // node.input(0).shape[3]
        biases = weighted.biases(node, filters)
        return Lowering([convolution_call(Kernel.DEPTHWISE_CONV_2D, node, multiplier, biases, self.macs(node))])

    def macs(self, node: Node) -> int:
        return node.output.elements * prod(node.input(1).shape[1:3])
