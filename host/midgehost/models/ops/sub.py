"""SUB: ADD with the second input negated. Source: tflite-micro `micro/kernels/sub_common.cc`.

The multipliers are quotients of doubles, as the pinned wheel computes them; sources up to 2026-08 divide in float32,
which gives another last bit for about one pair of scales in a hundred.
"""

from __future__ import annotations

from midgehost.models.ops.add import Add


class Sub(Add):
    kind = "SUB"
    sign = -1
