"""MAXIMUM: on the quantised values, as all three tensors share one scale. Source: `micro/kernels/maximum_minimum.h`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.binary import Arithmetic, BinaryOp


class Maximum(BinaryOp):
    kind = "MAXIMUM"
    kernel = Kernel.MAXIMUM
    mode = 2

    def arithmetic(self, node: Node) -> Arithmetic:
        return Arithmetic()

    def combine(self, node: Node, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.maximum(a, b)
