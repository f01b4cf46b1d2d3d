"""What every channel of an activation can be, whatever the model's input is: interval arithmetic, operator by operator.

A channel is an index along a tensor's last axis. A channel whose range is a single value is a constant: a filter of
zeros makes one, and so does a bias that no input outweighs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Graph, Node, Tensor
from midgehost.models.ops import weighted
from midgehost.models.ops.add import Add
from midgehost.models.ops.convolution import kernel_window
from midgehost.models.quant import INT8_MAX, INT8_MIN, Ints, activation_range

SHAPE_ONLY = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


@dataclass(frozen=True)
class Range:
    """The least and the greatest value of each channel: int64 arrays."""

    lows: Ints
    highs: Ints

    @classmethod
    def any(cls, tensor: Tensor) -> Range:
        """All that an int8 can be."""
        count = channels(tensor)
        return cls(np.full(count, INT8_MIN, np.int64), np.full(count, INT8_MAX, np.int64))

    @property
    def constant(self) -> NDArray[np.bool_]:
        return self.lows == self.highs


def channels(tensor: Tensor) -> int:
    """The size of the last axis."""
    return tensor.shape[-1] if tensor.shape else 1


@dataclass(frozen=True)
class Filters:
    """The weights of a dense or convolution layer: [filters, taps, channels read], int64."""

    node: Node
    weights: Ints
    multiplier: int  # filters per input channel where a filter reads but one; 0 where every filter reads all

    @classmethod
    def of(cls, node: Node) -> Filters | None:
        """Those of an operator; None for other operators, for groups and for a dense layer that cuts channels apart."""
        if node.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            return None
        weights, count = node.input(1).array().astype(np.int64), channels(node.input(0))
        if node.kind == "DEPTHWISE_CONV_2D":
            filters = weights.shape[3]
            return cls(node, weights.reshape(-1, filters).T[:, :, None], filters // count)
        if weights.shape[-1] % count or (node.kind == "CONV_2D" and weights.shape[-1] != count):
            return None
        return cls(node, weights.reshape(len(weights), -1, count), 0)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value per input channel, as it meets the weights."""
        return np.repeat(values, self.multiplier)[:, None, None] if self.multiplier else values

    @property
    def padded(self) -> bool:
        """Whether a window may see padding, which counts as the zero point."""
        if self.node.kind == "FULLY_CONNECTED":
            return False
        w = kernel_window(self.node)
        below = (w.out_height - 1) * w.stride_height + (w.height - 1) * w.dilation_height + 1 - w.pad_height
        right = (w.out_width - 1) * w.stride_width + (w.width - 1) * w.dilation_width + 1 - w.pad_width
        return max(w.pad_height, w.pad_width, below - w.in_height, right - w.in_width) > 0

    @property
    def biases(self) -> Ints:
        return weighted.biases(self.node, len(self.weights))

    def sums(self, source: Range) -> tuple[Ints, Ints]:
        """The least and the greatest sum of w * (x - zero point) for inputs in this range."""
        zero = self.node.input(0).zero_point
        lows, highs = source.lows - zero, source.highs - zero
        if self.padded:
            lows, highs = np.minimum(lows, 0), np.maximum(highs, 0)
        return bounds(self.weights, self.spread(lows), self.spread(highs))


def bounds(weights: NDArray[Any], low: Any = INT8_MIN, high: Any = INT8_MAX) -> tuple[Ints, Ints]:
    """The exact least and greatest sum(w * x) of each filter, for x in low..high.

    `weights` [filters, ...]; low and high are numbers, or arrays that broadcast to the weights (a range per element).
    """
    wide = weights.astype(np.int64)
    ends = wide * low, wide * high
    axes = tuple(range(1, wide.ndim))
    return np.minimum(*ends).sum(axis=axes), np.maximum(*ends).sum(axis=axes)


def ranges(graph: Graph) -> dict[int, Range]:
    """The range of every int8 activation, by tensor. The graph must have passed `checks.check`."""
    found = {index: Range.any(graph.tensors[index]) for index in graph.inputs}
    for node in graph.nodes:
        sources = [found.get(tensor.index) or Range.any(tensor) for tensor in node.inputs]
        for tensor in node.outputs:
            found[tensor.index] = Range.any(tensor)
        if node.output.dtype == "int8":
            found[node.output.index] = _output_range(node, sources)
    return found


def _output_range(node: Node, sources: Sequence[Range]) -> Range:
    filters = Filters.of(node)
    if filters is not None:
        lows, highs = filters.sums(sources[0])
        return Range(*weighted.stage(node).span(lows + filters.biases, highs + filters.biases))
    if node.kind in POOLS:
        target = node.output
        low, high = activation_range(node.option("FusedActivationFunction", "NONE"), target.scale, target.zero_point)
        return Range(np.clip(sources[0].lows, low, high), np.clip(sources[0].highs, low, high))
    if node.kind in SHAPE_ONLY:
        return _reshaped(sources[0], channels(node.output))
    if node.kind == "ADD" and adds_channels(node):
        op, (a, b) = Add(), sources
        arithmetic = op.arithmetic(node)
        ends = (op.combine(node, a.lows, b.lows), op.combine(node, a.highs, b.highs))
        return Range(*(np.clip(end, arithmetic.low, arithmetic.high) for end in ends))
    return Range.any(node.output)


def adds_channels(node: Node) -> bool:
    """Whether both operands are activations of the output's shape."""
    return all(not tensor.is_constant and tensor.shape == node.output.shape for tensor in node.inputs)


def _reshaped(source: Range, count: int) -> Range:
    """The range where the last axis gets another size: channels repeat, or share a place, or lose themselves."""
    before = len(source.lows)
    if count % before == 0:
        return Range(np.tile(source.lows, count // before), np.tile(source.highs, count // before))
    width = count if before % count == 0 else 1
    low, high = source.lows.reshape(-1, width).min(axis=0), source.highs.reshape(-1, width).max(axis=0)
    return Range(np.resize(low, count), np.resize(high, count))
