"""EXPAND_DIMS: another shape for the same bytes."""

from __future__ import annotations

from midgehost.models.ops.alias import AliasOp


class ExpandDims(AliasOp):
    kind = "EXPAND_DIMS"
