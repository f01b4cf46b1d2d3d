"""From a model file to a bundle for a board: read, check, plan, compute self-test vectors, weigh against the heap."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.boards import Board
from midgehost.errors import BadLabels, TooBig, UnsupportedOption
from midgehost.models import checks, reader, reference
from midgehost.models.bundle import ABI, Bundle, TensorInfo, Vector
from midgehost.models.card import Card, read_card
from midgehost.models.graph import Graph, Node, Tensor
from midgehost.models.ops import registry
from midgehost.models.plan import Plan, make_plan
from midgehost.models.planner import Layout
from midgehost.version import __version__

MAX_CALL_MS: Final = 5  # sampling, BLE and Ctrl-C live between kernel calls
OLDEST_FIRMWARE: Final = "1.23"

_ANY_BOARD_MACS_A_MS: Final = 125_000 // 70  # a plan for no board in particular is cut for the slowest, the Pico
_SELF_TESTS: Final = 2
# Heap on the board, as measured on the virtual board and the emulated Pico: tests/bench/test_heap.py holds them to it.
_BYTES_A_CALL: Final = 240  # a kernel call's block, its place in the list of calls
_BYTES_A_TILE: Final = 64  # a bytearray's own object, and rounding to the collector's blocks
_OVERHEAD: Final = 22_500  # the loader's modules, all kernels of a convolutional network, the tensors' objects


@dataclass(frozen=True)
class HeapNeed:
    """What loading a bundle takes from a board's heap, in bytes."""

    arena: int
    scratch: int
    plan: int
    params: int
    weights: int
    overhead: int

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def heap_need(plan: Plan) -> HeapNeed:
    """The heap that this plan takes on a board, weights in RAM."""
    return HeapNeed(
        arena=plan.layout.arena_bytes,
        scratch=plan.layout.scratch_bytes,
        plan=_BYTES_A_CALL * len(plan.calls),
        params=4 * len(plan.params),
        weights=sum(len(tile) + _BYTES_A_TILE for tile in plan.tiles),
        overhead=_OVERHEAD,
    )


def max_call_macs(board: Board | None) -> int:
    """How many multiply-accumulates a viper kernel does on this board in MAX_CALL_MS."""
    a_ms = _ANY_BOARD_MACS_A_MS if board is None else board.clock_mhz * 1000 // board.viper_cycles_per_mac
    return MAX_CALL_MS * a_ms


def macs(graph: Graph) -> int:
    """The multiply-accumulates of one inference, padding counted."""
    return sum(operator_macs(node) for node in graph.nodes)


def operator_macs(node: Node) -> int:
    """An operator's multiply-accumulates; 0 where it is unknown, or refused for shapes that make no sense."""
    op = registry().get(node.kind)
    try:
        return op.macs(node) if op and all(size >= 0 for size in node.output.shape) else 0
    except (IndexError, UnsupportedOption):
        return 0


def weight_bytes(graph: Graph) -> int:
    """The bytes of the constants that operators read (weights, biases, shapes), in the model's own types."""
    read = {tensor.index: tensor for node in graph.nodes for tensor in node.inputs if tensor.is_constant}
    return sum(len(tensor.data or b"") for tensor in read.values())


def convert(
    model: Path | bytes | Graph,
    board: Board | None = None,
    *,
    labels: Sequence[str] | None = None,
) -> Bundle:
    """The bundle of a model, for a board or (None) for any: what `make_bundle` makes, if the board can hold it."""
    bundle = make_bundle(model, board, labels=labels)
    require_heap(board, bundle.meta["heap_bytes"])
    return bundle


def require_heap(board: Board | None, nbytes: int) -> None:
    """Raises TooBig unless the board has that much heap."""
    if board is not None and nbytes > board.heap_bytes:
        raise TooBig(board.name, nbytes, board.heap_bytes)


def make_bundle(
    model: Path | bytes | Graph,
    board: Board | None = None,
    *,
    labels: Sequence[str] | None = None,
) -> Bundle:
    """The bundle of a model without machine code, its slices cut for a board or (None) for the slowest.

    `labels` name the classes of output 0; without them a card (`model.toml`) beside the model file may. Raises
    ModelError for everything that midge does not compute.
    """
    graph = load(model)
    card = read_card(model.with_name("model.toml")) if isinstance(model, Path) else Card()
    checks.check(graph)
    plan = make_plan(graph, max_call_macs(board))
    layout = plan.layout
    meta = {
        "abi": ABI,
        "arch": "any",  # no machine code inside
        "arena_bytes": layout.arena_bytes,
        "board": board.name if board else "any",
        "heap_bytes": heap_need(plan).total,
        "levels": ["viper", "portable"],
        "name": graph.name,
        "oldest_firmware": OLDEST_FIRMWARE,
        "scratch_bytes": layout.scratch_bytes,
        "source_sha256": graph.source_sha256,
        "tool": f"midge {__version__}",
        "version": card.version,
    }
    inputs, (first, *rest) = tensors_of(graph, layout)
    outputs = (_labelled(first, tuple(card.labels if labels is None else labels)), *rest)
    tests = tuple(_self_test(graph, number) for number in range(_SELF_TESTS))
    return Bundle(meta, inputs, outputs, plan.calls, plan.params, plan.tiles, tests)


def load(model: Path | bytes | Graph) -> Graph:
    """The graph of a model in any of the forms that `convert` takes."""
    if isinstance(model, Graph):
        return model
    return reader.read(model) if isinstance(model, bytes) else reader.read_file(model)


def tensors_of(graph: Graph, layout: Layout) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The graph's inputs and outputs in this layout."""
    inputs, outputs = ([_info(graph.tensors[i], layout) for i in side] for side in (graph.inputs, graph.outputs))
    return tuple(inputs), tuple(outputs)


def _info(tensor: Tensor, layout: Layout) -> TensorInfo:
    scale, zero_point = (tensor.scale, tensor.zero_point) if tensor.quant else (1.0, 0)
    offset = layout.tensors[tensor.index]
    return TensorInfo(tensor.name[:60], tensor.shape, tensor.dtype, scale, zero_point, offset, tensor.nbytes)


def _labelled(output: TensorInfo, labels: tuple[str, ...]) -> TensorInfo:
    """The output with its labels. Raises BadLabels unless there are none, or one non-empty line for each class."""
    if labels and (len(labels) != output.shape[-1] or not all(label.isprintable() and label for label in labels)):
        raise BadLabels(len(labels), output.shape[-1])
    return replace(output, labels=labels)


def _self_test(graph: Graph, number: int) -> Vector:
    """Inputs drawn from the model's own hash, and the outputs that every kernel level must give for them."""
    inputs = [_drawn(graph.tensors[index], f"{graph.source_sha256} {number} {index}") for index in graph.inputs]
    outputs = reference.run(graph, inputs)
    return Vector(tuple(value.tobytes() for value in inputs), tuple(value.tobytes() for value in outputs))


def _drawn(tensor: Tensor, seed: str) -> NDArray[Any]:
    """Uniform int8 values, or floats of a few units, the same for the same seed with any version of numpy."""
    uniform = np.frombuffer(hashlib.shake_256(seed.encode()).digest(tensor.elements), dtype=np.int8)
    values = uniform / np.float32(32) if tensor.dtype == "float32" else uniform
    return values.astype(tensor.dtype).reshape(tensor.shape)
