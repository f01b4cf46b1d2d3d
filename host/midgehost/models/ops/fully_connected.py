"""FULLY_CONNECTED. Source: TFLM `reference/integer_ops/fully_connected.h`, `fully_connected_common.cc`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops import weighted
from midgehost.models.ops.base import Call, Lowering, Op, Place
from midgehost.models.ops.requantise import HELD_SUMS


class FullyConnected(Op):
    """Every input of `depth` values gives `units` outputs; leading axes are a batch."""

    kind = "FULLY_CONNECTED"

    def check(self, node: Node) -> None:
        weights, output = node.input(1), node.output
        if node.option("WeightsFormat", 0) not in (0, "DEFAULT"):
            raise node.unsupported("has shuffled weights", "Export the model with the default weights format.")
        if len(weights.shape) != 2 or not output.shape or output.shape[-1] != weights.shape[0]:
            why = f"has weights of shape {list(weights.shape)} for an output of shape {list(output.shape)}"
            raise node.unsupported(why, "Export the model again.")
        units, depth = weights.shape
        if node.input(0).elements * units != output.elements * depth:
            why = f"gets an input of shape {list(node.input(0).shape)}, its weights take {depth} values at a time"
            raise node.unsupported(why, "Export the model again.")
        weighted.check(node, channel_axis=0)
        self._check_bias_scale(node)

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        units, depth = node.input(1).shape
        x = inputs[0].reshape(-1, depth).astype(np.float64) - node.input(0).zero_point
        sums = (x @ inputs[1].T.astype(np.float64)).astype(np.int64)  # exact: far below 2^53
        return [weighted.stage(node)(sums + weighted.biases(node, units)).reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        weights = node.input(1).array()
        units, depth = weights.shape
        biases = weighted.folded_biases(node, weights.sum(axis=1, dtype=np.int64))
        call = Call(
            Kernel.FULLY_CONNECTED,
            Place(node.input(0).index),
            Place(node.output.index),
            weights=weighted.tile(weights),
            params=[depth, units, *weighted.stage(node).words(biases)],
            scratch_bytes=4 * min(units, HELD_SUMS) + depth,
            rows=node.output.elements,
            macs=self.macs(node),
        )
        return Lowering([call])

    def _check_bias_scale(self, node: Node) -> None:
        """A bias of another scale than the products is refused where it matters, as TFLM does."""
        weights, bias = node.input(1).quant, node.optional_input(2)
        assert weights is not None
        if bias is None or weights.per_channel:
            return
        wanted = node.input(0).scale * weights.scale
        found = bias.scale if bias.quant else 0.0
        if abs(wanted - found) / node.output.scale > 0.02:
            raise node.unsupported(f"has a bias of scale {found:g} for products of {wanted:g}", "Quantise it again.")

    def macs(self, node: Node) -> int:
        return node.output.elements * node.input(1).shape[1]
