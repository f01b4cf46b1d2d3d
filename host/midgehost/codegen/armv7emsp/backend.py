"""The kernels of a Cortex-M33, and of a Cortex-M4 or M7: which operator takes which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from midgehost.codegen import kernels
from midgehost.codegen.armv7emsp import add, conv, dense, depthwise
from midgehost.codegen.machine import Backend, Form, MachineCall
from midgehost.models.graph import Node
from midgehost.models.ops.base import Call

_FAST: Final[Mapping[str, Callable[[Node, int | None], Sequence[MachineCall] | None]]] = {
    "ADD": add.add,
    "CONV_2D": conv.conv_2d,
    "DEPTHWISE_CONV_2D": depthwise.depthwise_conv_2d,
    "FULLY_CONNECTED": dense.fully_connected,
    "SUB": add.add,
}


class ArmV7EM(Backend):
    """Both forms of weights are the same: a byte a weight is the fastest too."""

    arch = "armv7emsp"

    def fast(self, node: Node, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
        kernel = _FAST.get(node.kind)
        return kernel(node, tile_bytes) if kernel else None

    def general(self, call: Call) -> MachineCall:
        return kernels.general(call, self.arch)


BACKEND: Final = ArmV7EM()
