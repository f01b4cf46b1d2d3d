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
from midgehost.models.ops.base import Call, Lowering, Op, Place
from midgehost.models.ops.requantise import HELD_SUMS
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
        _window(node).check_output(node, filters)

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        filters, height, width, depth = node.input(1).shape
        window = _window(node)
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
        filters, height, width, depth = weights.shape
        biases = weighted.folded_biases(node, weights.sum(axis=(1, 2, 3), dtype=np.int64))
        held = held_pixels(node, filters)
        call = Call(
            Kernel.CONV_2D,
            Place(node.input(0).index),
            Place(node.output.index),
            weights=weighted.tile(weights),
            params=[
                *_window(node).words(),
                node.input(0).shape[3],
                filters,
                depth,
                weighted.unsigned(node.input(0).zero_point),
                held,
                *weighted.stage(node).words(biases),
            ],
            scratch_bytes=4 * held * filters + height * width * depth,
            rows=prod(node.output.shape[:2]),
            macs=self.macs(node),
        )
        return Lowering([call])

    def macs(self, node: Node) -> int:
        return node.output.elements * prod(node.input(1).shape[1:])


def held_pixels(node: Node, channels: int) -> int:
    """Output pixels of a row whose sums are held before they are rescaled together."""
    return min(node.output.shape[2], -(-HELD_SUMS // channels))


def _window(node: Node) -> Window:
    return Window.of(node, *node.input(1).shape[1:3])
