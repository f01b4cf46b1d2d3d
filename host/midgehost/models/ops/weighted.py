"""Operators with constant weights, an int32 bias and a fused activation: what dense and convolution layers share.

The tile holds weights in offset binary (w + 128, unsigned), so that inner loops multiply unsigned bytes without sign
extension: sum((w + 128) * (x + 128)) - 128 * sum(x + 128) is sum(w * (x + 128)), and the rest of the input's offset is
a constant per channel that moves into the bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node, Tensor
from midgehost.models.ops.base import require_int8, require_representable
from midgehost.models.ops.requantise import Requantise
from midgehost.models.quant import Ints, activation_range, quantize_multiplier

# fused activation -> the largest magnitude that it limits to
_ACTIVATIONS = {"NONE": 0.0, "RELU": 0.0, "RELU6": 6.0, "RELU_N1_TO_1": 1.0}


def check(node: Node, channel_axis: int) -> None:
    """Raises UnsupportedOption unless weights and bias are constants quantised as TFLM takes them."""
    require_int8(node, node.input(0), node.output)
    weights, bias = node.input(1), node.optional_input(2)
    channels = weights.shape[channel_axis]
    if not weights.is_constant or (bias is not None and not bias.is_constant):
        raise node.unsupported("has weights or a bias that are computed", "Only constant weights can be used.")
    if weights.dtype != "int8" or weights.quant is None:
        raise node.unsupported(f"has {weights.dtype} weights", "Quantise the weights to int8.")
    if any(weights.quant.zero_points):
        raise node.unsupported("has weights with a zero point", "Quantise the weights symmetrically.")
    if weights.quant.per_channel and (weights.quant.axis != channel_axis or len(weights.quant.scales) != channels):
        why = f"has weights quantised along axis {weights.quant.axis} instead of axis {channel_axis}"
        raise node.unsupported(why, "Quantise per output channel, or per tensor.")
    if bias is not None and (bias.dtype != "int32" or bias.elements != channels):
        why = f"has a bias of type {bias.dtype} and shape {list(bias.shape)}, int32 [{channels}] is wanted"
        raise node.unsupported(why, "Export the model again with int8 quantisation.")
    check_activation(node)
    check_scales(node, *_effective_scales(node))


def check_activation(node: Node) -> None:
    """Raises UnsupportedOption unless the fused activation is one that int8 kernels have."""
    fused = node.option("FusedActivationFunction", "NONE")
    if fused not in _ACTIVATIONS:
        raise node.unsupported(f"has the fused activation {fused}", f"Use one of {', '.join(_ACTIVATIONS)}.")
    require_representable(node, _ACTIVATIONS[fused], node.output)


def check_scales(node: Node, *effective: float) -> None:
    """Raises UnsupportedOption where TFLM would shift an int32 by more than its bits."""
    if max(effective) >= 1 << 30:
        raise node.unsupported(
            "scales its sums up by more than 2^30", "Look for an output scale that is far too small."
        )


def stage(node: Node) -> Requantise:
    """How sums become outputs: a scale per tensor or per channel, and the fused activation's range."""
    output = node.output
    scales = [quantize_multiplier(scale) for scale in _effective_scales(node)]
    fused = node.option("FusedActivationFunction", "NONE")
    low, high = activation_range(fused, output.scale, output.zero_point)
    return Requantise([m for m, _ in scales], [s for _, s in scales], output.zero_point, low, high)


def _effective_scales(node: Node) -> list[float]:
    """input scale * weight scale / output scale, rounded where TFLM rounds."""
    weights = node.input(1)
    assert weights.quant is not None
    input_scale, output_scale = node.input(0).scale, node.output.scale
    if node.kind == "FULLY_CONNECTED" and not weights.quant.per_channel:
        # GetQuantizedConvolutionMultipler multiplies in float32, the per-channel path in double.
        with np.errstate(over="ignore"):
            return [float(np.float32(input_scale) * np.float32(weights.scale)) / output_scale]
    return [input_scale * scale / output_scale for scale in weights.quant.scales]


def biases(node: Node, channels: int) -> Ints:
    """The bias per channel, zeros where there is none."""
    bias: Tensor | None = node.optional_input(2)
    return np.zeros(channels, np.int64) if bias is None else bias.array().astype(np.int64).reshape(-1)


def unsigned(zero_point: int) -> int:
    """A zero point in offset binary: the byte that stands for the real number 0."""
    return zero_point + 128


def tile(weights: NDArray[Any]) -> bytes:
    """int8 weights in offset binary."""
    return (weights.view(np.uint8) ^ 0x80).tobytes()


def folded_biases(node: Node, weight_sums: Ints) -> Ints:
    """The biases for kernels that sum w * (x + 128) instead of w * (x - zero point)."""
    return biases(node, len(weight_sums)) - unsigned(node.input(0).zero_point) * weight_sums
