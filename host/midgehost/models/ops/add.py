"""ADD: both inputs rescaled to a common scale with 20 bits more, added, rescaled to the output's scale.

Source: tflite-micro `micro/kernels/add_common.cc`, `reference/integer_ops/add.h`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node, Tensor
from midgehost.models.kernels import Kernel
from midgehost.models.ops.binary import Arithmetic, BinaryOp
from midgehost.models.ops.table import QUANTISED
from midgehost.models.quant import Ints, activation_range, multiply_by_quantized_multiplier, quantize_multiplier

_LEFT_SHIFT = 20


class Add(BinaryOp):
    kind = "ADD"
    kernel = Kernel.ADD
    mode = 0
    sign = 1  # of the second input

    def scales(self, node: Node) -> tuple[float, float, float]:
        """The real multipliers of input 0, of input 1 and of the sum."""
        a, b = node.input(0).scale, node.input(1).scale
        twice_max = 2 * max(a, b)
        return a / twice_max, b / twice_max, twice_max / ((1 << _LEFT_SHIFT) * node.output.scale)

    def check(self, node: Node) -> None:
        super().check(node)
        if quantize_multiplier(self.scales(node)[2])[1] > 0:
            raise node.unsupported(
                "has an output scale a million times finer than its inputs'", "Quantise with representative data."
            )

    def rescaled(self, tensor: Tensor, real: float, sign: int = 1) -> Ints:
        """The rescaled value of every int8 input, -128..127."""
        shifted = (QUANTISED - tensor.zero_point) << _LEFT_SHIFT
        return sign * multiply_by_quantized_multiplier(shifted, *quantize_multiplier(real))

    def tables(self, node: Node) -> tuple[Ints, Ints]:
        real0, real1, _ = self.scales(node)
        return self.rescaled(node.input(0), real0), self.rescaled(node.input(1), real1, self.sign)

    def arithmetic(self, node: Node) -> Arithmetic:
        output = node.output
        low, high = activation_range(node.option("FusedActivationFunction", "NONE"), output.scale, output.zero_point)
        mantissa, shift = quantize_multiplier(self.scales(node)[2])
        by_byte = [np.roll(table, -128).tolist() for table in self.tables(node)]
        return Arithmetic(low, high, output.zero_point, mantissa, shift, tables=(by_byte[0], by_byte[1]))

    def combine(self, node: Node, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        table0, table1 = self.tables(node)
        arithmetic = self.arithmetic(node)
        total = table0[a + 128] + table1[b + 128]
        return multiply_by_quantized_multiplier(total, arithmetic.mantissa, arithmetic.shift) + arithmetic.zero_point
