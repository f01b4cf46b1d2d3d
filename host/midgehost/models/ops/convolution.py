"""What CONV_2D and DEPTHWISE_CONV_2D share: their window, and one layout of parameters."""

from __future__ import annotations

from midgehost.models.graph import Node
from midgehost.models.kernels import Kernel
from midgehost.models.ops import weighted
from midgehost.models.ops.base import Call, Place
from midgehost.models.ops.requantise import HELD_SUMS
from midgehost.models.ops.window import Window
from midgehost.models.quant import Ints


def kernel_window(node: Node) -> Window:
    """The window of the weights' height and width."""
    return Window.of(node, *node.input(1).shape[1:3])


def convolution_call(kernel: Kernel, node: Node, depth: int, biases: Ints, macs: int, seen_bytes: int = 0) -> Call:
    """The call of `firmware/midge/kernels/portable/conv.py`; `seen_bytes` of scratch hold what the window sees."""
    source, (batch, height, width, filters) = node.input(0), node.output.shape
    held = min(width, -(-HELD_SUMS // filters))  # output pixels of a row whose sums are rescaled together
    return Call(
        kernel,
        in0=Place(source.index),
        out=Place(node.output.index),
        weights=weighted.tile(node.input(1).array()),
        params=[
            *kernel_window(node).words(),
            source.shape[3],
            filters,
            depth,
            weighted.unsigned(source.zero_point),
            held,
            *weighted.stage(node).words(biases),
        ],
        scratch_bytes=4 * held * filters + seen_bytes,
        rows=batch * height,
        macs=macs,
    )
