"""The backend of RV32IMC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from midgehost.codegen.machine import Backend, Form, MachineCall
from midgehost.codegen.rv32imc.conv import conv_calls
from midgehost.codegen.rv32imc.dense import dense_calls
from midgehost.codegen.rv32imc.depthwise import SIZE, depthwise_calls
from midgehost.models.graph import Node
from midgehost.models.ops.base import Call
from midgehost.models.ops.convolution import kernel_window

_SMALL_MACS: Final = 1024  # dense layers below this are not worth a routine's bytes


class Rv32imc(Backend):
    """ESP32-C3 and C6, and the RP2350 in RISC-V mode."""

    arch = "rv32imc"

    def fast(self, node: Node, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
        match node.kind:
            case "CONV_2D":
                return _convolution(node, tile_bytes)
            case "DEPTHWISE_CONV_2D":
                return _depthwise(node, tile_bytes)
            case "FULLY_CONNECTED":
                return _dense(node, form, tile_bytes)
            case _:
                return None

    def general(self, call: Call) -> MachineCall:
        raise NotImplementedError


def _convolution(node: Node, tile_bytes: int | None) -> Sequence[MachineCall] | None:
    source, weights = node.input(0), node.input(1).array()
    window = kernel_window(node)
    if source.shape[0] != 1 or weights.shape[3] != source.shape[3]:
        return None  # a batch, groups
    if (window.dilation_height, window.dilation_width) != (1, 1):
        return None
    return conv_calls(node, window, source.shape[3], weights.reshape(len(weights), -1), tile_bytes)


def _depthwise(node: Node, tile_bytes: int | None) -> Sequence[MachineCall] | None:
    source = node.input(0)
    window = kernel_window(node)
    if source.shape[0] != 1 or node.output.shape[3] != source.shape[3]:
        return None  # a batch, several filters a channel
    if (window.height, window.width) != (SIZE, SIZE) or (window.dilation_height, window.dilation_width) != (1, 1):
        return None
    if window.stride_height != window.stride_width or window.stride_width > 2:
        return None
    return depthwise_calls(node, window, tile_bytes)


def _dense(node: Node, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
    units, depth = node.input(1).shape
    if node.output.elements != units or units * depth < _SMALL_MACS:
        return None
    return dense_calls(node, form, tile_bytes)


BACKEND: Final = Rv32imc()
