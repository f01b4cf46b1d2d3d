"""Unary operators on int8: 256 inputs, so the whole function is a table that the host computes exactly."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node, Tensor
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Op, Place, require_int8, require_same_elements
from midgehost.models.ops.walk import contiguous_strides, plan_walk
from midgehost.models.quant import INT8_MAX, INT8_MIN, Ints, quantize_multiplier

_MAX_LEFT_SHIFT: Final = 23
QUANTISED = np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64)  # every int8 value, ascending


def rows_of(tensor: Tensor) -> tuple[int, int]:
    """(rows, elements a row) in which a contiguous tensor is walked."""
    walk = plan_walk(tensor.shape, contiguous_strides(tensor.shape))
    return walk.rows, walk.inner.size


def check_rescaling(node: Node, *ratios: float) -> None:
    """Raises UnsupportedOption unless an input times any of these ratios, plus a zero point, fits in an int32.

    An input is at most 255 from its zero point, and 255 << 23 is 2^23 below 2^31; a shift more overflows, which C
    leaves undefined. So ratios are below 2^23: far beyond those at which one step of the input saturates the output.
    """
    for ratio in ratios:
        if not math.isfinite(ratio) or quantize_multiplier(ratio)[1] > _MAX_LEFT_SHIFT:
            raise node.unsupported(f"scales its input by {ratio:g}", "Quantise with representative data.")


def by_byte(table: NDArray[Any]) -> bytes:
    """A table over -128..127 reordered so that the input's raw byte (0..255) indexes it."""
    return np.roll(table, -128).tobytes()


class TableOp(Op):
    """An operator whose every output is a function of one int8 input."""

    def check(self, node: Node) -> None:
        require_int8(node, node.input(0), node.output)
        require_same_elements(node)

    @abstractmethod
    def function(self, node: Node) -> Ints:
        """Output values, before the clamp to int8, for the inputs -128..127."""

    def table(self, node: Node) -> NDArray[np.int8]:
        return np.clip(self.function(node), INT8_MIN, INT8_MAX).astype(np.int8)

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [self.table(node)[inputs[0].astype(np.int16) - INT8_MIN].reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        rows, size = rows_of(node.output)
        source, target = node.input(0), node.output
        call = Call(
            Kernel.LOOKUP_INT8,
            in0=Place(source.index),
            out=Place(target.index),
            weights=by_byte(self.table(node)),
            params=[size],
            rows=rows,
        )
        return Lowering([call], inplace=[0])
