"""The kernels of RV32IMC: which operator takes which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from midgehost.codegen import kernels
from midgehost.codegen.machine import Backend, Form, MachineCall
from midgehost.codegen.rv32imc import conv, dense, depthwise
from midgehost.models.graph import Node
from midgehost.models.ops.base import Call

_FAST: Final[Mapping[str, Callable[[Node, Form, int | None], Sequence[MachineCall] | None]]] = {
    "CONV_2D": conv.conv_2d,
    "DEPTHWISE_CONV_2D": depthwise.depthwise_conv_2d,
    "FULLY_CONNECTED": dense.fully_connected,
}


class Rv32Imc(Backend):
    """ESP32-C3 and C6, and the RP2350 in RISC-V mode."""

    arch = "rv32imc"

    def fast(self, node: Node, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
        kernel = _FAST.get(node.kind)
        return kernel(node, form, tile_bytes) if kernel else None

    def general(self, call: Call) -> MachineCall:
        return kernels.general(call, self.arch)


BACKEND: Final = Rv32Imc()
