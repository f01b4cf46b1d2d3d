"""PADV2: PAD with the border's value given, in the output's scale. Source: `micro/kernels/pad_common.cc`."""

from __future__ import annotations

from midgehost.models.graph import Node
from midgehost.models.ops.base import require_int8
from midgehost.models.ops.pad import Pad


class PadV2(Pad):
    kind = "PADV2"

    def value(self, node: Node) -> int:
        return int(node.input(2).array().reshape(-1)[0])

    def check(self, node: Node) -> None:
        super().check(node)
        value, target = node.input(2), node.output
        require_int8(node, value)
        if not value.is_constant or value.elements != 1:
            raise node.unsupported("pads with a computed value", "Pad with a constant.")
        if (value.scale, value.zero_point) != (target.scale, target.zero_point):
            raise node.unsupported(
                "pads with a value of another scale", "Quantise the value with the output's scale and zero point."
            )
