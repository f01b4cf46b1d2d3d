"""From a model file to a bundle for one arch: the plan that every board runs, and machine code beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from midgehost.boards import Board
from midgehost.codegen import cost, mpy
from midgehost.codegen.lowering import Candidate, MachinePlan, backend, candidates, choose, machine_arch, machine_plan
from midgehost.codegen.machine import Form
from midgehost.errors import ModelError
from midgehost.models import convert as general
from midgehost.models.bundle import Bundle, Machine
from midgehost.models.convert import MAX_CALL_MS, OLDEST_FIRMWARE, HeapNeed
from midgehost.models.graph import Graph
from midgehost.models.prune import prune

TILE_BYTES: Final = 4032  # of weights in flash: what any block of a littlefs file holds, less its skip list

Weights = Literal["auto", "ram", "flash"]

_OLDEST: Final = {"rv32imc": "1.24"}  # firmware that loads native code of this arch
_SLOWEST_MHZ: Final = 125  # a plan for no board in particular is cut for the slowest of its arch
_FLASH_CYCLES_A_BYTE: Final = 7.0
# Heap on the board, as measured on the emulated Pico; what only loading needs is in it.
_BYTES_A_CALL: Final = 64
_BYTES_A_TILE: Final = 64
_BYTES_A_FLASH_TILE: Final = 32
_OVERHEAD: Final = 14_000
_FREE: Final = 0.85  # of a board's heap is for the model: the node takes the rest


class TooMuchCode(ModelError):
    """The machine code does not fit the memory that the board can execute from. Sizes in bytes."""

    code = "model.too_much_code"

    def __init__(self, board: str, needed: int, available: int) -> None:
        self.board, self.needed, self.available = board, needed, available
        super().__init__(
            f"The model's machine code takes {needed:,} bytes, {board} can execute {available:,}.",
            "Choose a smaller model, or keep the plan for viper and portable kernels (no --no-fallback).",
        )


def convert(
    model: Path | bytes | Graph,
    board: Board | None = None,
    arch: str | None = None,
    *,
    labels: Sequence[str] | None = None,
    optimize: Form = "speed",
    weights: Weights = "auto",
    fallback: bool = True,
    pruned: bool = True,
) -> Bundle:
    """The bundle of a model for a board and the mpy arch that it reports; None: for any, without machine code.

    `weights` says where they lie while the machine code runs: in RAM if they fit, else in flash. Without `fallback`
    the bundle holds machine code only: half the size, and a board that cannot run it has no model. `pruned` leaves out
    what is dead; its plan has another graph's operators then. Where the board has no room for the machine code, the
    bundle is without it. Raises ModelError for everything that midge does not compute or the board cannot hold.
    """
    arch = machine_arch(arch)
    if arch is None:
        return general.convert(model, board, labels=labels)
    graph = general.load(model)
    bundle = general.make_bundle(model, board, labels=labels)
    plan = plan_for(graph, board, arch, optimize, weights, pruned)
    if board is not None and not code_fits(plan, board):
        if not fallback:
            raise TooMuchCode(board.name, plan.code_bytes, board.exec_bytes or 0)
        general.require_heap(board, bundle.meta["heap_bytes"])
        return bundle
    bundle = with_machine_code(bundle, plan)
    general.require_heap(board, bundle.meta["machine"]["heap_bytes"])
    if not fallback or (board is not None and bundle.meta["heap_bytes"] > board.heap_bytes):
        return replace(bundle, meta={**bundle.meta, "levels": ["machine"]}, calls=(), params=(), tiles=())
    return bundle


def plan_for(
    graph: Graph,
    board: Board | None,
    arch: str,
    optimize: Form = "speed",
    weights: Weights = "auto",
    pruned: bool = True,
) -> MachinePlan:
    """The machine code's plan for a board: weights in RAM if they fit there beside the rest, else in flash.

    Where its code does not fit the board's executable memory, kernels that have less of it are taken; those of least
    code may still not fit, see `code_fits`.
    """
    graph = prune(graph) if pruned else graph
    plan = _plan(graph, board, arch, optimize, weights)
    kinds: tuple[Form | Literal["general"], ...] = ("size", "general")
    for kind in kinds:
        if board is None or code_fits(plan, board):
            break
        plan = min(plan, _plan(graph, board, arch, kind, weights), key=lambda plan: plan.code_bytes)
    return plan


def code_fits(plan: MachinePlan, board: Board) -> bool:
    """Whether the board has the executable memory for the plan's code."""
    return board.exec_bytes is None or plan.code_bytes <= board.exec_bytes


def _plan(
    graph: Graph, board: Board | None, arch: str, kind: Form | Literal["general"], weights: Weights
) -> MachinePlan:
    """The plan with kernels for speed or size, or with those only that every operator has."""
    kernels = backend(arch)
    optimize: Form = "size" if kind == "general" else kind

    def ways(tile_bytes: int | None) -> list[list[Candidate]]:
        found = [candidates(node, kernels, tile_bytes) for node in graph.nodes]
        return [some[-1:] for some in found] if kind == "general" else found

    clock = _SLOWEST_MHZ if board is None else board.clock_mhz
    cycles = cost.call_limit(MAX_CALL_MS, arch, clock)
    if weights != "flash":
        options = ways(None)
        plan = machine_plan(graph, arch, choose(options, optimize), cycles)
        heap = None if board is None else int(board.heap_bytes * _FREE)
        if heap is not None and heap_need(plan).total > heap:
            budget = heap - heap_need(plan).total + sum(choice.memory_bytes for choice in plan.chosen)
            plan = machine_plan(graph, arch, choose(options, optimize, max(0, budget)), cycles)
        if heap is None or weights == "ram" or heap_need(plan).total <= heap:
            return plan
    options = ways(TILE_BYTES)
    cycles_a_byte = board.flash_cycles_per_byte if board else _FLASH_CYCLES_A_BYTE
    plan = machine_plan(graph, arch, choose(options, optimize, cycles_per_byte=cycles_a_byte), cycles)
    _require_tiles(plan)
    return replace(plan, in_flash=bool(plan.plan.tiles))


def _require_tiles(plan: MachinePlan) -> None:
    """Raises UnsupportedOption for an operator whose weights no kernel takes in tiles."""
    for node, choice in zip(plan.graph.nodes, plan.chosen, strict=True):
        longest = max((len(call.weights) for call in choice.calls), default=0)
        if longest > TILE_BYTES:
            why = f"has {longest:,} bytes of weights in one piece, a block of flash holds {TILE_BYTES:,}"
            raise node.unsupported(why, "Keep the weights in RAM (--weights ram), or use a smaller layer.")


def heap_need(plan: MachinePlan) -> HeapNeed:
    """The heap that this plan takes on a board; weights that stay in flash take none."""
    layout = plan.plan.layout
    return HeapNeed(
        arena=layout.arena_bytes,
        scratch=layout.scratch_bytes,
        plan=_BYTES_A_CALL * len(plan.plan.calls) + plan.code_bytes,
        params=4 * len(plan.plan.params),
        weights=sum(_BYTES_A_FLASH_TILE if plan.in_flash else len(tile) + _BYTES_A_TILE for tile in plan.plan.tiles),
        overhead=_OVERHEAD,
    )


def with_machine_code(bundle: Bundle, plan: MachinePlan) -> Bundle:
    """The bundle with this plan's machine code in it."""
    layout, inner = plan.plan.layout, plan.plan
    inputs, outputs = general.tensors_of(plan.graph, layout)
    outputs = (replace(outputs[0], labels=bundle.outputs[0].labels), *outputs[1:])
    code = {f"k{i}": routine.code for i, routine in enumerate(plan.routines)}
    kernels = mpy.write_module(plan.arch, f"{bundle.name}.py", code)
    meta = {
        **bundle.meta,
        "arch": plan.arch,
        "levels": ["machine", *bundle.meta["levels"]],
        "machine": {
            "arch": plan.arch,
            "arena_bytes": layout.arena_bytes,
            "heap_bytes": heap_need(plan).total,
            "oldest_firmware": _OLDEST.get(plan.arch, OLDEST_FIRMWARE),
            "residence": "flash" if plan.in_flash else "ram",
            "scratch_bytes": layout.scratch_bytes,
        },
    }
    machine = Machine(inputs, outputs, inner.calls, inner.params, inner.tiles, kernels, plan.in_flash)
    return replace(bundle, meta=meta, machine=machine)
