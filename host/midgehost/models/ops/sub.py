"""SUB: as ADD with the second input negated, but its real multipliers are computed in float32.

Source: tflite-micro `micro/kernels/sub_common.cc`.
"""

from __future__ import annotations

import numpy as np

from midgehost.models.graph import Node
from midgehost.models.ops.add import Add


class Sub(Add):
    kind = "SUB"
    sign = -1

    def scales(self, node: Node) -> tuple[float, float, float]:
        a, b, output = (np.float32(t.scale) for t in (node.input(0), node.input(1), node.output))
        twice_max = np.float32(2) * max(a, b)
        return float(a / twice_max), float(b / twice_max), float(twice_max / (np.float32(1 << 20) * output))
