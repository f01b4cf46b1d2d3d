"""SOFTMAX over the last axis, int8 to int8 of scale 1/256: exps by gemmlowp's fixed point, as a table of 256.

Source: TFLM `reference/softmax.h`, `micro/kernels/softmax_common.cc`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.models.fixedpoint import exp_on_negative_values, one_over_one_plus_x
from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Op, Place, require_int8
from midgehost.models.quant import (
    INT8_MAX,
    INT8_MIN,
    Ints,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

_INTEGER_BITS: Final = 5  # of a scaled difference
_SUM_BITS: Final = 12  # integer bits of the sum of exps
_WORK_BYTES: Final = 36  # of scratch before the exps, see firmware/midge/kernels/viper/softmax.py


class Softmax(Op):
    kind = "SOFTMAX"

    def check(self, node: Node) -> None:
        source, target = node.input(0), node.output
        require_int8(node, source, target)
        if (target.scale, target.zero_point) != (1 / 256, INT8_MIN):
            raise node.unsupported(
                f"has the output scale {target.scale:g} and zero point {target.zero_point}",
                "Quantise its output to scale 1/256, zero point -128.",
            )
        if not source.shape or source.shape != target.shape or source.shape[-1] >= 1 << _SUM_BITS:
            raise node.unsupported(f"has the shape {list(source.shape)}", "Give it at most 4095 classes.")
        if not _real_multiplier(node) > 1:  # a beta that is not a number, too
            raise node.unsupported("has an input scale or beta of almost nothing", "Quantise with representative data.")

    def exps(self, node: Node) -> Ints:
        """exp(-d * scale * beta), no integer bits, for d = 0..255; 0 where TFLM skips the value."""
        mantissa, shift = quantize_multiplier(_real_multiplier(node))
        differences = -np.arange(256, dtype=np.int64)
        radius = math.floor(((1 << _INTEGER_BITS) - 1) * 2.0 ** (31 - _INTEGER_BITS - shift))
        taken = differences >= -radius
        scaled = saturating_rounding_doubling_high_mul(np.where(taken, differences, 0) << shift, mantissa)
        return np.where(taken, exp_on_negative_values(scaled, _INTEGER_BITS), 0)

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        x = inputs[0].astype(np.int64)
        exps = self.exps(node)[x.max(axis=-1, keepdims=True) - x]
        totals = rounding_divide_by_pot(exps, _SUM_BITS).sum(axis=-1, keepdims=True)
        bits = np.floor(np.log2(totals)).astype(np.int64) + 1  # exact: totals are below 2^31
        scale = one_over_one_plus_x((totals << (32 - bits)) - (1 << 31))
        exponent = _SUM_BITS - (32 - bits) + 31 - 8
        values = rounding_divide_by_pot(saturating_rounding_doubling_high_mul(scale, exps), exponent) + INT8_MIN
        return [np.clip(values, INT8_MIN, INT8_MAX).astype(np.int8)]

    def lower(self, node: Node) -> Lowering:
        depth = node.output.shape[-1]
        call = Call(
            Kernel.SOFTMAX,
            in0=Place(node.input(0).index),
            out=Place(node.output.index),
            params=[depth, *self.exps(node).tolist()],
            scratch_bytes=_WORK_BYTES + 4 * depth,
            rows=node.output.elements // depth,
        )
        return Lowering([call], inplace=[0])


def _real_multiplier(node: Node) -> float:
    beta = float(np.float32(node.option("Beta", 1.0)))
    return min(beta * node.input(0).scale * (1 << (31 - _INTEGER_BITS)), (1 << 31) - 1.0)
