"""A window that slides over an NHWC image: what convolutions and poolings share."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node

_MOST_WORK: Final = 1 << 28  # window elements an operator may look at; minutes on any board, and memory on the host


@dataclass(frozen=True)
class Window:
    """Sizes as TFLM computes them (`tensorflow/lite/kernels/padding.h`); padding is what lies above and left."""

    in_height: int
    in_width: int
    out_height: int
    out_width: int
    height: int
    width: int
    stride_height: int
    stride_width: int
    dilation_height: int
    dilation_width: int
    pad_height: int
    pad_width: int

    @classmethod
    def of(cls, node: Node, height: int, width: int) -> Window:
        """The window of `height` x `width` that this operator's options describe."""
        same = node.option("Padding") == "SAME"
        _, in_height, in_width, _ = node.input(0).shape
        strides = node.option("StrideH", 1), node.option("StrideW", 1)
        dilations = node.option("DilationHFactor", 1), node.option("DilationWFactor", 1)
        out_height, pad_height = _axis(in_height, height, strides[0], dilations[0], same)
        out_width, pad_width = _axis(in_width, width, strides[1], dilations[1], same)
        return cls(
            in_height, in_width, out_height, out_width, height, width, *strides, *dilations, pad_height, pad_width
        )

    @staticmethod
    def check(node: Node) -> None:
        """Raises UnsupportedOption unless the image is NHWC and stride, dilation and padding make sense."""
        if len(node.input(0).shape) != 4 or len(node.output.shape) != 4:
            raise node.unsupported(
                "is not on images of four axes", "Reshape its input to [batch, height, width, channels]."
            )
        steps = [node.option(name, 1) for name in ("StrideH", "StrideW", "DilationHFactor", "DilationWFactor")]
        if min(steps) < 1 or node.option("Padding") not in ("SAME", "VALID"):
            raise node.unsupported("has a stride, dilation or padding that makes no sense", "Export the model again.")

    def check_output(self, node: Node, channels: int) -> None:
        """Raises UnsupportedOption unless the output has the size that the window gives."""
        wanted = (node.input(0).shape[0], self.out_height, self.out_width, channels)
        if node.output.shape != wanted or min(wanted) < 1:
            why = f"has the output shape {list(node.output.shape)}, its input and options give {list(wanted)}"
            raise node.unsupported(why, "Export the model again.")
        padded = prod(size for size, _ in self._padded()) * node.input(0).shape[3]
        if max(padded, node.output.elements * self.height * self.width) > _MOST_WORK:
            why = f"slides a window of {self.height} x {self.width} too far for any board"
            raise node.unsupported(why, "Use a smaller image, window or dilation.")

    def words(self) -> list[int]:
        """The first twelve parameters of every kernel with a window."""
        return list(astuple(self))

    def patches(self, image: NDArray[Any], fill: float) -> NDArray[Any]:
        """[batch, out_height, out_width, height, width, channels]: what the window sees, `fill` outside the image."""
        (_, below), (_, right) = self._padded()
        padding = ((0, 0), (self.pad_height, below), (self.pad_width, right), (0, 0))
        padded = np.pad(image, padding, constant_values=fill)
        batch, rows, columns, channel = padded.strides
        return np.lib.stride_tricks.as_strided(
            padded,
            (len(image), self.out_height, self.out_width, self.height, self.width, image.shape[3]),
            (
                batch,
                rows * self.stride_height,
                columns * self.stride_width,
                rows * self.dilation_height,
                columns * self.dilation_width,
                channel,
            ),
            writeable=False,
        )

    def _padded(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """For height and width: the padded image's size, and the padding after the image."""
        height = (self.out_height - 1) * self.stride_height + (self.height - 1) * self.dilation_height + 1
        width = (self.out_width - 1) * self.stride_width + (self.width - 1) * self.dilation_width + 1
        below, right = height - self.pad_height - self.in_height, width - self.pad_width - self.in_width
        return (height, max(0, below)), (width, max(0, right))


def _axis(size: int, kernel: int, stride: int, dilation: int, same: bool) -> tuple[int, int]:
    """(outputs, padding before) along one axis."""
    reach = (kernel - 1) * dilation + 1
    outputs = (size + stride - 1) // stride if same else (size + stride - reach) // stride
    return outputs, max(0, (outputs - 1) * stride + reach - size) // 2
