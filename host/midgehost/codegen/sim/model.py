"""A whole plan of machine code on an emulated core: laid out as on a board, counted, compared operator by operator.

Every call may read its operator's inputs, weights and parameters, and write its output and scratch: nothing else, not
even another tensor of the arena. Each output is compared with the numpy reference's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.lowering import MachinePlan
from midgehost.codegen.machine import STATUS_OK
from midgehost.codegen.sim.core import READ, WRITE, Core, Fault
from midgehost.models import reference
from midgehost.models.convert import operator_macs
from midgehost.models.graph import Node
from midgehost.models.plan import NOTHING, PlannedCall
from midgehost.models.planner import aligned

Array = NDArray[Any]
# What of a call has its memory accesses checked where that costs time: all, or its first row, which is run once more.
Check = Literal["all", "first"]


@dataclass(frozen=True)
class Layer:
    """An operator: `count` cycles or instructions, and how many of its output values differ from the reference's."""

    op: str
    macs: int
    count: int
    mismatches: int


@dataclass(frozen=True)
class Run:
    """One inference. `longest_call` is the count of the longest kernel call, `counts` those of the planned calls."""

    layers: tuple[Layer, ...]
    counts: tuple[int, ...]
    longest_call: int
    outputs: tuple[Array, ...]

    @property
    def total(self) -> int:
        """The count of the whole inference."""
        return sum(layer.count for layer in self.layers)

    @property
    def mismatches(self) -> int:
        """How many values of any operator's output differ."""
        return sum(layer.mismatches for layer in self.layers)


class LoadedModel:
    """A plan in a core's memory. Runs any number of inputs."""

    def __init__(self, core: Core, machine: MachinePlan) -> None:
        self._core, self._machine = core, machine
        self._graph, plan = machine.graph, machine.plan
        self._layout = plan.layout
        self._routines = [core.load(routine.code) for routine in machine.routines]
        self._tiles = [core.load(tile) for tile in plan.tiles]
        self._params = core.load(struct.pack(f"<{len(plan.params)}i", *plan.params), 4)
        self._arena_bytes = aligned(self._layout.arena_bytes + self._layout.scratch_bytes)
        self._arena = core.alloc(self._arena_bytes)
        calls: dict[int, list[tuple[int, PlannedCall]]] = {}
        for number, call in enumerate(plan.calls):
            calls.setdefault(call.operator, []).append((number, call))
        self._calls = calls

    def run(self, inputs: Sequence[Array], check: Check = "all") -> Run:
        """One inference for these inputs (of the graph's shapes). Raises Fault."""
        core, graph = self._core, self._graph
        expected = reference.taps(graph, inputs)
        core.allow(self._arena, self._arena_bytes, 0)
        for index in graph.inputs:
            core.write(self._arena + self._layout.tensors[index], expected[index].tobytes())
        layers: list[Layer] = []
        counts = [0] * len(self._machine.plan.calls)
        longest = 0
        for position, node in enumerate(graph.nodes):
            total = 0
            self._grant(node, position)
            for number, call in self._calls.get(position, ()):
                for count in self._slices(node, call, check):
                    counts[number] += count
                    longest = max(longest, count)
                total += counts[number]
            self._withdraw()
            wrong = sum(self._differences(tensor.index, expected[tensor.index]) for tensor in node.outputs)
            layers.append(Layer(node.kind, operator_macs(node), total, wrong))
        return Run(tuple(layers), tuple(counts), longest, tuple(self._value(index) for index in graph.outputs))

    def _slices(self, node: Node, call: PlannedCall, check: Check) -> Iterable[int]:
        """The count of each kernel call of a planned call."""
        core = self._core

        def at(offset: int) -> int:
            return 0 if offset == NOTHING else self._arena + offset

        def invoke(first: int, last: int, checked: bool) -> int:
            block = core.block(
                in0=at(call.in0),
                in1=at(call.in1),
                out=at(call.out),
                weights=0 if call.tile == NOTHING else self._tiles[call.tile] + call.weights,
                params=self._params + 4 * call.params,
                scratch=at(call.scratch),
                rows=(first, last),
            )
            try:
                status, count = core.call(self._routines[call.kernel], block, checked)
            except Fault as fault:
                routine = self._machine.routines[call.kernel].name
                raise Fault(f"operator {node.index} ({node.kind}), routine {routine}, row {first}: {fault}") from None
            if status != STATUS_OK:
                raise Fault(f"operator {node.index} ({node.kind}) returned status {status}")
            return count

        everything = check == "all" or call.out in (call.in0, call.in1)  # in place: no row can be run twice
        if not everything and not core.always_checked:
            invoke(call.row0, call.row0 + 1, True)
        for row in range(call.row0, call.row1, call.slice_rows):
            yield invoke(row, min(row + call.slice_rows, call.row1), everything)

    def _grant(self, node: Node, position: int) -> None:
        """Rights to what an operator uses; an output in the place of an input may be read and written."""
        sizes = [(tensor, READ) for tensor in node.inputs if not tensor.is_constant]
        sizes += [(tensor, READ | WRITE) for tensor in node.outputs]
        for tensor, rights in sizes:
            self._core.allow(self._arena + self._layout.tensors[tensor.index], aligned(tensor.nbytes), rights)
        scratch = max((c.scratch_bytes for c in self._machine.chosen[position].calls), default=0)
        if scratch:
            self._core.allow(self._arena + self._layout.scratch[position], aligned(scratch), READ | WRITE)

    def _withdraw(self) -> None:
        self._core.allow(self._arena, self._arena_bytes, 0)

    def _value(self, index: int) -> Array:
        tensor = self._graph.tensors[index]
        data = self._core.read(self._arena + self._layout.tensors[index], tensor.nbytes)
        return np.frombuffer(data, tensor.dtype).reshape(tensor.shape)

    def _differences(self, index: int, expected: Array) -> int:
        """Values that differ bit for bit."""
        value = self._value(index)
        bits = np.dtype(f"u{value.itemsize}")
        return int(np.count_nonzero(value.view(bits) != np.ascontiguousarray(expected).view(bits)))
