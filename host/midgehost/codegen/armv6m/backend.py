"""The kernels of ARMv6-M: which operator takes which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from midgehost.codegen import kernels
from midgehost.codegen.armv6m import add, conv, dense, depthwise
from midgehost.codegen.machine import Backend, Form, MachineCall
from midgehost.models.graph import Node
from midgehost.models.ops.base import Call


class ArmV6M(Backend):
    """Cortex-M0+, the RP2040's core."""

    arch = "armv6m"

    def fast(self, node: Node, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
        match node.kind:
            case "CONV_2D":
                return conv.calls(node, form, tile_bytes)
            case "ADD" | "SUB":
                return add.calls(node)
            case "DEPTHWISE_CONV_2D":
                return depthwise.calls(node, tile_bytes)
            case "FULLY_CONNECTED":
                return dense.calls(node, form, tile_bytes)
            case _:
                return None

    def general(self, call: Call) -> MachineCall:
        return kernels.general(call, self.arch)


BACKEND: Final = ArmV6M()
