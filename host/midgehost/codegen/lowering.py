"""From a checked graph to a plan of machine code: for each operator the kernel and the form of its weights.

Every operator has a general kernel; for the heavy ones a backend has faster ones, whose weights come in two forms:
the stream of the fastest kernel, or about a byte a weight. Which is taken depends on what the board can hold, and, for
weights that stay in flash, on what a byte read from there costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Final, Literal

from midgehost.codegen import dense_tiles
from midgehost.codegen.machine import Backend, Form, MachineCall, Routine
from midgehost.errors import NotFound
from midgehost.models.graph import Graph, Node
from midgehost.models.ops import registry
from midgehost.models.ops.base import Call, Lowering
from midgehost.models.plan import Plan, assemble

ARCHES: Final = ("armv6m", "armv7emsp", "rv32imc", "xtensawin")
_SAME_CODE: Final = {"armv7em": "armv7emsp"}  # mpy arches that run another one's code

_LITTLE_MORE: Final = 1.5  # bytes of weights beside the smallest form's


@dataclass(frozen=True)
class Candidate:
    """One way to compute an operator. `form` is "general" for the kernels that every operator has."""

    form: Form | Literal["general"]
    lowering: Lowering
    calls: tuple[MachineCall, ...]

    @cached_property
    def cost(self) -> float:
        """Cycles (RV32, Xtensa: instructions) in zero-wait memory."""
        return sum(call.cost for call in self.calls)

    @cached_property
    def memory_bytes(self) -> int:
        """Bytes of weights and parameters: some kernels have in one what others have in the other."""
        return self.weight_bytes + 4 * sum(len(params) for params in {tuple(call.params) for call in self.calls})

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of weights, equal ones counted once."""
        return sum(len(weights) for weights in {call.weights for call in self.calls})


@dataclass(frozen=True)
class MachinePlan:
    """A plan whose calls count `routines`; `chosen` and `costs` are by operator and by call."""

    graph: Graph
    arch: str
    plan: Plan
    routines: tuple[Routine, ...]
    chosen: tuple[Candidate, ...]
    costs: tuple[float, ...]
    in_flash: bool = False  # weights stay there, a tile in each block

    @property
    def code_bytes(self) -> int:
        """Bytes of machine code."""
        return sum(len(routine.code) for routine in self.routines)

    @property
    def longest_call(self) -> float:
        """The estimated cost of the longest kernel call."""
        return max(
            (
                cost * min(1.0, call.slice_rows / (call.row1 - call.row0))
                for cost, call in zip(self.costs, self.plan.calls, strict=True)
            ),
            default=0.0,
        )


def machine_arch(arch: str | None) -> str | None:
    """The arch of ARCHES whose code a board of this mpy arch runs, or None."""
    arch = _SAME_CODE.get(arch or "", arch)
    return arch if arch in ARCHES else None


def require_arch(arch: str) -> str:
    """An arch of ARCHES for a name that the user gave. Raises NotFound."""
    found = machine_arch(arch)
    if found is None:
        raise NotFound(f"There is no machine code for the arch {arch!r}.", f"Known: {', '.join(ARCHES)}.")
    return found


def backend(arch: str) -> Backend:
    """The kernels of an arch of ARCHES."""
    return import_module(f"midgehost.codegen.{arch}.backend").BACKEND


def candidates(node: Node, kernels: Backend, tile_bytes: int | None = None) -> list[Candidate]:
    """Every way to compute an operator, the general one last; only those whose tiles fit `tile_bytes`."""
    lowering = registry()[node.kind].lower(node)
    found: list[Candidate] = []
    forms: tuple[Form, ...] = ("speed", "size")
    for form in forms:
        calls = kernels.fast(node, form, tile_bytes)
        if calls is not None:
            found.append(Candidate(form, replace(lowering, inplace=()), tuple(calls)))
    general = lowering.calls
    if tile_bytes is not None and node.kind == "FULLY_CONNECTED":
        general = dense_tiles.split(node, general[0], tile_bytes)
    found.append(Candidate("general", lowering, tuple(kernels.general(call) for call in general)))
    fitting = [c for c in found if tile_bytes is None or all(len(call.weights) <= tile_bytes for call in c.calls)]
    return fitting or found[-1:]


def choose(
    options: Sequence[Sequence[Candidate]],
    optimize: Form = "speed",
    memory_budget: int | None = None,
    cycles_per_byte: float = 0.0,
) -> list[Candidate]:
    """One candidate an operator: the fastest that the budget allows, or the fastest among the small ones.

    `memory_budget` limits the bytes of weights and parameters; `cycles_per_byte` is what each byte of weights costs
    besides, once a call.
    """

    def cost(candidate: Candidate) -> float:
        return candidate.cost + cycles_per_byte * candidate.weight_bytes

    if optimize == "size":
        return [_small(some) for some in options]
    chosen = [min(some, key=lambda c: (cost(c), c.memory_bytes)) for some in options]
    while memory_budget is not None and sum(c.memory_bytes for c in chosen) > memory_budget:
        swaps = [
            ((cost(other) - cost(chosen[i])) / (chosen[i].memory_bytes - other.memory_bytes), i, other)
            for i, some in enumerate(options)
            for other in some
            if other.memory_bytes < chosen[i].memory_bytes
        ]
        if not swaps:
            break
        _, i, other = min(swaps, key=lambda swap: swap[:2])
        chosen[i] = other
    return chosen


def _small(options: Sequence[Candidate]) -> Candidate:
    """The fastest of those that take little more than the smallest."""
    least = min(candidate.memory_bytes for candidate in options)
    return min((c for c in options if c.memory_bytes <= _LITTLE_MORE * least), key=lambda c: (c.cost, c.memory_bytes))


def machine_plan(graph: Graph, arch: str, chosen: Sequence[Candidate], max_call_cycles: float) -> MachinePlan:
    """The plan of these candidates, one an operator; no kernel call takes more than `max_call_cycles`, as far as costs
    are estimated and unless a single row does."""
    routines: list[Routine] = []
    numbers: dict[bytes, int] = {}
    lowerings: list[Lowering] = []
    for candidate in chosen:
        calls: list[Call] = []
        for call in candidate.calls:
            code = call.routine.code
            if code not in numbers:
                numbers[code] = len(routines)
                routines.append(call.routine)
            calls.append(_as_call(call, numbers[code]))
        lowerings.append(replace(candidate.lowering, calls=calls))
    made = [call for candidate in chosen for call in candidate.calls]
    slices = [int(max_call_cycles * call.rows / call.cost) if call.cost else call.rows for call in made]
    plan = assemble(graph, lowerings, slices, tile_a_call=True)
    return MachinePlan(graph, arch, plan, tuple(routines), tuple(chosen), tuple(call.cost for call in made))


def _as_call(call: MachineCall, kernel: int) -> Call:
    return Call(
        kernel, call.in0, call.out, call.in1, call.weights, call.params, call.scratch_bytes, call.rows, call.macs
    )
