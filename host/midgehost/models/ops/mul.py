"""MUL: the product of the offsets, rescaled. Source: tflite-micro `micro/kernels/mul_common.cc`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.binary import Arithmetic, BinaryOp
from midgehost.models.quant import activation_range, multiply_by_quantized_multiplier, quantize_multiplier

_MAX_LEFT_SHIFT = 14  # the product has 17 bits: beyond this its int32 would overflow, in TFLM too


class Mul(BinaryOp):
    kind = "MUL"
    kernel = Kernel.MUL
    mode = 1

    def multiplier(self, node: Node) -> tuple[int, int]:
        return quantize_multiplier(node.input(0).scale * node.input(1).scale / node.output.scale)

    def check(self, node: Node) -> None:
        super().check(node)
        if self.multiplier(node)[1] > _MAX_LEFT_SHIFT:
            raise node.unsupported(
                "has an output scale far finer than its inputs' product", "Quantise with representative data."
            )

    def arithmetic(self, node: Node) -> Arithmetic:
        a, b, output = node.input(0), node.input(1), node.output
        low, high = activation_range(node.option("FusedActivationFunction", "NONE"), output.scale, output.zero_point)
        return Arithmetic(low, high, output.zero_point, *self.multiplier(node), (a.zero_point, b.zero_point))

    def combine(self, node: Node, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        product = (a - node.input(0).zero_point) * (b - node.input(1).zero_point)
        return multiply_by_quantized_multiplier(product, *self.multiplier(node)) + node.output.zero_point
