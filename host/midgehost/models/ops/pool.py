"""Pooling over a window: what AVERAGE_POOL_2D and MAX_POOL_2D share. Source: TFLM `reference/integer_ops/pooling.h`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Op, Place, require_int8
from midgehost.models.ops.weighted import check_activation
from midgehost.models.ops.window import Window
from midgehost.models.quant import activation_range

_SAME_SCALE: Final = 1e-6  # what PoolingPrepare tolerates


class PoolOp(Op):
    """A pool: every channel by itself, padding left out."""

    kernel: ClassVar[Kernel]

    @abstractmethod
    def reduce(self, patches: NDArray[np.float64]) -> NDArray[np.float64]:
        """[batch, y, x, height, width, channels] with NaN outside the image -> [batch, y, x, channels]."""

    def check(self, node: Node) -> None:
        Window.check(node)
        source, target = node.input(0), node.output
        require_int8(node, source, target)
        if source.zero_point != target.zero_point or abs(source.scale - target.scale) > _SAME_SCALE:
            raise node.unsupported(
                "changes scale or zero point from input to output", "Export the model again: a pool keeps both."
            )
        check_activation(node)
        if min(node.option("FilterHeight", 0), node.option("FilterWidth", 0)) < 1:
            raise node.unsupported("has an empty window", "Export the model again.")
        _window(node).check_output(node, node.input(0).shape[3])

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        image = inputs[0].astype(np.float64)
        pooled = self.reduce(_window(node).patches(image, np.nan))
        low, high = _range(node)
        return [np.clip(pooled, low, high).astype(np.int8)]

    def lower(self, node: Node) -> Lowering:
        call = Call(
            self.kernel,
            in0=Place(node.input(0).index),
            out=Place(node.output.index),
            params=[*_window(node).words(), node.input(0).shape[3], *_range(node)],
            rows=prod(node.output.shape[:2]),
        )
        return Lowering([call])


def _window(node: Node) -> Window:
    return Window.of(node, node.option("FilterHeight"), node.option("FilterWidth"))


def _range(node: Node) -> tuple[int, int]:
    output = node.output
    return activation_range(node.option("FusedActivationFunction", "NONE"), output.scale, output.zero_point)
