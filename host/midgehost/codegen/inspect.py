"""What machine code makes of a model on a board: the kernel of each operator, memory, and milliseconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from midgehost.boards import Board
from midgehost.codegen import cost
from midgehost.codegen.convert import Weights, code_fits, heap_need, plan_for
from midgehost.codegen.lowering import machine_arch
from midgehost.codegen.machine import Form
from midgehost.models import prune
from midgehost.models.convert import HeapNeed
from midgehost.models.graph import Graph


@dataclass(frozen=True)
class OperatorReport:
    """One operator: `kernels` is speed, size or general, `removed` counts the channels that pruning took out.

    The times are for weights in RAM, and for weights that are read from flash once a kernel call.
    """

    index: int
    kernels: str
    weight_bytes: int
    removed: int
    ms_ram: float
    ms_flash: float


@dataclass(frozen=True)
class Report:
    """A whole model on a board. Milliseconds are the cost model's, see cost.py; nothing has run."""

    arch: str
    ops: list[OperatorReport]
    residence: str  # of the weights on this board: ram or flash
    ms: float  # an inference, as the weights lie
    longest_call_ms: float
    code_bytes: int
    code_fits: bool  # the board's executable memory
    weight_bytes: int
    heap: HeapNeed
    fits: bool  # heap and code

    def as_dict(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        return {**asdict(self), "heap_bytes": self.heap.total}


def inspect(graph: Graph, board: Board, optimize: Form = "speed", weights: Weights = "auto") -> Report | None:
    """The report of a checked graph; None for a board without machine code."""
    arch = machine_arch(next(iter(board.arches), None))
    if arch is None:
        return None
    plan = plan_for(graph, board, arch, optimize, weights)
    removed = {c.node.index: c.channels[0] - c.channels[1] for c in prune.report(graph, plan.graph)}

    def milliseconds(count: float) -> float:
        return cost.milliseconds(count, arch, board.clock_mhz)

    read = [0] * len(plan.graph.operators)  # bytes of weights, once a kernel call
    for call in plan.plan.calls:
        if call.tile >= 0:
            read[call.operator] += len(plan.plan.tiles[call.tile]) * call.slices
    ops: list[OperatorReport] = []
    for i, chosen in enumerate(plan.chosen):
        in_ram = milliseconds(chosen.cost)
        waiting = read[i] * board.flash_cycles_per_byte / (board.clock_mhz * 1000)
        ops.append(OperatorReport(i, chosen.form, chosen.weight_bytes, removed.get(i, 0), in_ram, in_ram + waiting))
    heap = heap_need(plan)
    return Report(
        arch=arch,
        ops=ops,
        residence="flash" if plan.in_flash else "ram",
        ms=sum(op.ms_flash if plan.in_flash else op.ms_ram for op in ops),
        longest_call_ms=milliseconds(plan.longest_call),
        code_bytes=plan.code_bytes,
        code_fits=code_fits(plan, board),
        weight_bytes=sum(len(tile) for tile in plan.plan.tiles),
        heap=heap,
        fits=heap.total <= board.heap_bytes and code_fits(plan, board),
    )
