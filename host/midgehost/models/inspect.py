"""What a model asks of a board: operators, multiply-accumulates, memory, and every reason to refuse it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from midgehost.boards import Board
from midgehost.errors import MidgeError, TooBig
from midgehost.models import checks
from midgehost.models.convert import HeapNeed, heap_need, macs, max_call_macs, operator_macs, weight_bytes
from midgehost.models.graph import Graph, Node
from midgehost.models.plan import make_plan


@dataclass(frozen=True)
class OperatorReport:
    """One operator."""

    index: int
    op: str
    output: list[int]
    dtype: str
    macs: int
    weight_bytes: int


@dataclass(frozen=True)
class Report:
    """A whole model. `heap` is None where the model cannot be planned."""

    ops: list[OperatorReport]
    macs: int
    weight_bytes: int
    arena_bytes: int
    scratch_bytes: int
    refusals: list[MidgeError]
    heap: HeapNeed | None

    def as_dict(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return {
            "ops": [asdict(op) for op in self.ops],
            "macs": self.macs,
            "weight_bytes": self.weight_bytes,
            "arena_bytes": self.arena_bytes,
            "scratch_bytes": self.scratch_bytes,
            "refusals": [refusal.as_dict() for refusal in self.refusals],
        }


def inspect(graph: Graph, board: Board | None = None) -> Report:
    """The report of a graph, for a board or for any."""
    refusals: list[MidgeError] = list(checks.refusals(graph))
    heap, arena, scratch = None, 0, 0
    if not refusals:
        plan = make_plan(graph, max_call_macs(board))
        heap, arena, scratch = heap_need(plan), plan.layout.arena_bytes, plan.layout.scratch_bytes
        if board is not None and heap.total > board.heap_bytes:
            refusals.append(TooBig(board.name, heap.total, board.heap_bytes))
    operators = [_operator(node) for node in graph.nodes]
    return Report(operators, macs(graph), weight_bytes(graph), arena, scratch, refusals, heap)


def _operator(node: Node) -> OperatorReport:
    return OperatorReport(
        index=node.index,
        op=node.kind,
        output=list(node.output.shape),
        dtype=node.output.dtype,
        macs=operator_macs(node),
        weight_bytes=sum(len(tensor.data or b"") for tensor in node.inputs),
    )
