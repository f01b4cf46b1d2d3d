"""The memory planner on random graphs: what lives together never overlaps, sharing obeys rules, packing is tight."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from midgehost.models.convert import operator_macs
from midgehost.models.graph import Graph, Operator, Tensor
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Lowering, Place
from midgehost.models.plan import make_plan
from midgehost.models.planner import ALIGNMENT, Layout, aligned, peak_bytes, plan_memory
from midgehost.models.reader import read_file


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, list[Lowering]]:
    """A random graph of int8 vectors and, for each operator, whether it shares memory and what scratch it takes."""
    sizes = [draw(st.integers(1, 300)) for _ in range(draw(st.integers(1, 3)))]
    n_inputs = len(sizes)
    operators: list[Operator] = []
    lowerings: list[Lowering] = []
    for index in range(draw(st.integers(1, 12))):
        inputs = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3))
        mode = draw(st.sampled_from(["plain", "plain", "inplace", "alias"]))
        sizes.append(draw(st.integers(1, 300)) if mode == "plain" else sizes[inputs[0]])
        operators.append(Operator(index, mode, 1, tuple(inputs), (len(sizes) - 1,)))
        same = [i for i, tensor in enumerate(inputs) if sizes[tensor] == sizes[-1]]
        scratch = draw(st.sampled_from([0, 0, 40, 500]))
        call = Call(Kernel.COPY, Place(inputs[0]), Place(len(sizes) - 1), scratch_bytes=scratch)
        lowerings.append(
            Lowering(alias=True) if mode == "alias" else Lowering([call], same if mode == "inplace" else [])
        )
    last = len(sizes) - 1
    outputs = sorted({last, *draw(st.lists(st.integers(n_inputs, last), max_size=2))})
    tensors = tuple(Tensor(i, f"t{i}", (size,), "int8") for i, size in enumerate(sizes))
    return Graph("random", tensors, tuple(operators), tuple(range(n_inputs)), tuple(outputs)), lowerings


def run(graph: Graph, lowerings: list[Lowering], layout: Layout) -> None:
    """Plays the graph in the arena with bytes that name their tensor: what an operator reads must still be there."""
    memory: dict[int, int] = {}
    same_as: dict[int, int] = {}  # alias -> the tensor whose bytes it is

    def write(tensor: int) -> None:
        start = layout.tensors[tensor]
        memory.update(dict.fromkeys(range(start, start + graph.tensors[tensor].nbytes), same_as.get(tensor, tensor)))

    def holds(tensor: int) -> bool:
        start = layout.tensors[tensor]
        wanted = same_as.get(tensor, tensor)
        return all(memory[at] == wanted for at in range(start, start + graph.tensors[tensor].nbytes))

    for tensor in graph.inputs:
        write(tensor)
    for operator, lowering, scratch in zip(graph.operators, lowerings, layout.scratch, strict=True):
        source, target = operator.inputs[0], operator.outputs[0]
        assert all(holds(tensor) for tensor in operator.inputs), operator
        if lowering.alias:
            same_as[target] = same_as.get(source, source)
            assert layout.tensors[target] == layout.tensors[source]
            continue
        (call,) = lowering.calls
        memory.update(dict.fromkeys(range(scratch, scratch + call.scratch_bytes), -1))
        assert all(holds(tensor) for tensor in operator.inputs), f"scratch of {operator} lies on its input"
        before = {at: memory.get(at) for at in range(scratch, scratch + call.scratch_bytes)}
        write(target)
        assert all(memory[at] == byte for at, byte in before.items()), f"scratch of {operator} lies on its output"
        shared = {layout.tensors[operator.inputs[i]] for i in lowering.inplace}
        for tensor in operator.inputs:  # only an input that the kernel may overwrite shares the output's memory
            assert holds(tensor) or layout.tensors[target] in shared, operator
    assert all(holds(tensor) for tensor in graph.outputs), "an output did not last until the end"


@settings(max_examples=120, deadline=None)
@given(graphs())
def test_no_value_is_lost(drawn: tuple[Graph, list[Lowering]]) -> None:
    graph, lowerings = drawn
    layout = plan_memory(graph, lowerings)
    run(graph, lowerings, layout)
    high = max(layout.tensors[t.index] + t.nbytes for t in graph.tensors)
    assert high <= layout.arena_bytes
    for offset, lowering in zip(layout.scratch, lowerings, strict=True):
        assert all(offset + c.scratch_bytes <= layout.arena_bytes + layout.scratch_bytes for c in lowering.calls)
    assert all(offset % ALIGNMENT == 0 for offset in (*layout.tensors.values(), *layout.scratch))
    assert plan_memory(graph, lowerings) == layout


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_packing_is_tight(drawn: tuple[Graph, list[Lowering]]) -> None:
    graph, lowerings = drawn
    plain = [Lowering(lowering.calls) for lowering in lowerings]  # nothing shared: the bound is the peak, aligned
    live = _aligned_peak(graph)
    assert live <= plan_memory(graph, plain).arena_bytes <= live * 1.25


def _aligned_peak(graph: Graph) -> int:
    rounded = [Tensor(t.index, t.name, (aligned(t.nbytes),), "int8") for t in graph.tensors]
    return peak_bytes(Graph(graph.name, tuple(rounded), graph.operators, graph.inputs, graph.outputs))


def chain(*modes: str, size: int = 100) -> tuple[Graph, list[Lowering]]:
    tensors = tuple(Tensor(i, f"t{i}", (size,), "int8") for i in range(len(modes) + 1))
    operators = tuple(Operator(i, mode, 1, (i,), (i + 1,)) for i, mode in enumerate(modes))
    lowerings = [
        Lowering(alias=True)
        if mode == "alias"
        else Lowering([Call(Kernel.COPY, Place(i), Place(i + 1))], [0] if mode == "inplace" else [])
        for i, mode in enumerate(modes)
    ]
    return Graph("chain", tensors, operators, (0,), (len(modes),)), lowerings


def test_in_place_and_alias_take_no_memory() -> None:
    assert plan_memory(*chain("inplace", "alias", "inplace")).arena_bytes == aligned(100)
    assert plan_memory(*chain("plain", "plain", "plain")).arena_bytes == 2 * aligned(100)


def test_in_place_waits_for_the_last_reader() -> None:
    tensors = tuple(Tensor(i, f"t{i}", (64,), "int8") for i in range(3))
    operators = (Operator(0, "inplace", 1, (0,), (1,)), Operator(1, "plain", 1, (0, 1), (2,)))
    lowerings = [Lowering([], [0]), Lowering([])]
    layout = plan_memory(Graph("g", tensors, operators, (0,), (2,)), lowerings)
    assert layout.tensors[0] != layout.tensors[1] and layout.arena_bytes == 3 * 64


def test_an_alias_keeps_its_source_alive() -> None:
    """t1 is t0's memory and read last: nothing may be written there before."""
    tensors = tuple(Tensor(i, f"t{i}", (64,), "int8") for i in range(4))
    operators = (
        Operator(0, "alias", 1, (0,), (1,)),
        Operator(1, "inplace", 1, (0,), (2,)),
        Operator(2, "plain", 1, (1, 2), (3,)),
    )
    lowerings = [Lowering(alias=True), Lowering([], [0]), Lowering([])]
    layout = plan_memory(Graph("g", tensors, operators, (0,), (3,)), lowerings)
    assert layout.tensors[0] == layout.tensors[1] != layout.tensors[2]


def test_slices_keep_every_call_short(models_dir: Path) -> None:
    graph = read_file(models_dir / "kws_ref_model.tflite")
    for limit in (1000, 9000, 1_000_000):
        plan = make_plan(graph, limit)
        for call in plan.calls:
            macs = operator_macs(graph.nodes[call.operator])
            rows = call.row1 - call.row0
            assert call.slice_rows == 1 or macs * call.slice_rows // rows <= limit
            assert call.slices == -(-rows // call.slice_rows)
    assert len(make_plan(graph, 1000).calls) == len(make_plan(graph, 1_000_000).calls)  # slices cost no plan
