"""SQUEEZE: another shape for the same bytes."""

from __future__ import annotations

from midgehost.models.ops.alias import AliasOp


class Squeeze(AliasOp):
    kind = "SQUEEZE"
