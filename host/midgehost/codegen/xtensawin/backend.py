"""The backend of ESP32 and ESP32-S3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from midgehost.codegen.kernels import general
from midgehost.codegen.machine import Backend, Form, MachineCall
from midgehost.codegen.xtensawin.dense import dense_calls
from midgehost.codegen.xtensawin.depthwise import depthwise_calls
from midgehost.codegen.xtensawin.pointwise import pointwise_calls
from midgehost.codegen.xtensawin.windowed import windowed_calls
from midgehost.models.graph import Node
from midgehost.models.ops.base import Call
from midgehost.models.ops.convolution import kernel_window


class XtensaWin(Backend):
    """LX6 and LX7 with MAC16 and zero-overhead loops."""

    arch = "xtensawin"

    def fast(self, node: Node, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
        match node.kind:
            case "FULLY_CONNECTED":
                return _dense(node, form, tile_bytes)
            case "CONV_2D":
                return _convolution(node, form, tile_bytes)
            case "DEPTHWISE_CONV_2D":
                return _depthwise(node, tile_bytes)
            case _:
                return None

    def general(self, call: Call) -> MachineCall:
        return general(call, self.arch)


def _dense(node: Node, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
    weights = node.input(1).array()
    if node.output.elements == len(weights):
        return dense_calls(node, weights, form, tile_bytes)
    return pointwise_calls(node, weights, form, tile_bytes) if weights.shape[1] % 4 == 0 else None


def _convolution(node: Node, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
    weights = node.input(1).array()
    depth = node.input(0).shape[3]
    window = kernel_window(node)
    if weights.shape[3] != depth or (window.dilation_height, window.dilation_width) != (1, 1):
        return None  # groups; dilation
    strides = window.stride_height, window.stride_width
    if weights.shape[1:3] == strides == (1, 1) and depth % 4 == 0:
        return pointwise_calls(node, weights.reshape(-1, depth), form, tile_bytes)
    return windowed_calls(node, window, form, tile_bytes) if node.input(0).shape[0] == 1 else None


def _depthwise(node: Node, tile_bytes: int | None) -> Sequence[MachineCall] | None:
    window = kernel_window(node)
    if node.input(0).shape[0] != 1 or (window.dilation_height, window.dilation_width) != (1, 1):
        return None
    return depthwise_calls(node, window, tile_bytes)


BACKEND: Final = XtensaWin()
