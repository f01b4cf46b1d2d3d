"""Operators that only give their input another shape: the output is the input's memory, and the board does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.ops.base import Lowering, Op


class AliasOp(Op):
    """A change of shape. Any type passes."""

    def check(self, node: Node) -> None:
        source, target = node.input(0), node.output
        if source.dtype != target.dtype or source.elements != target.elements:
            raise node.unsupported(
                f"turns {source.dtype}{list(source.shape)} into {target.dtype}{list(target.shape)}",
                "Keep the type and the number of elements.",
            )
        if source.is_constant:
            raise node.unsupported("has a constant input", "Fold the constant before converting.")

    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [inputs[0].reshape(node.output.shape)]

    def lower(self, node: Node) -> Lowering:
        return Lowering(alias=True)
