"""Golden inputs through a model on a board: every value compared, and with taps the first operator that differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.deploy.runner import ModelOnBoard
from midgehost.errors import DataError
from midgehost.models.convert import load
from midgehost.models.plan import lower
from midgehost.models.planner import plan_memory


@dataclass(frozen=True)
class Verdict:
    """What `midge verify` prints for a model."""

    model: str
    port: str
    kernels: str
    inputs: int
    values: int
    mismatches: int

    def as_json(self) -> str:
        """The verdict as one JSON object."""
        return json.dumps(asdict(self))


def read_golden(path: Path) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """(inputs, outputs) of a golden file: arrays whose first axis counts the vectors. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            inputs = _numbered(file, "in")
            outputs = _numbered(file, "out")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is no golden file: {error}.", "It must hold arrays in0.. and out0...") from error
    if not inputs or not outputs or any(len(array) != len(inputs[0]) for array in (*inputs, *outputs)):
        raise DataError(f"{path} holds no matching inputs and outputs.", "It must hold arrays in0.. and out0...")
    return inputs, outputs


def _numbered(file: Any, prefix: str) -> list[NDArray[Any]]:
    """The arrays in0, in1, ... of an .npz file, in order."""
    count = sum(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in file.files)
    return [file[f"{prefix}{i}"] for i in range(count)]


def verify(
    on_board: ModelOnBoard,
    name: str,
    port: str,
    golden: Path,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Runs the golden vectors (the first `limit` of them). Raises what the board raises."""
    inputs, outputs = read_golden(golden)
    count = len(inputs[0]) if limit is None else min(limit, len(inputs[0]))
    values = mismatches = 0
    shapes = [tensor.shape for tensor in on_board.bundle.inputs]
    for i in range(count):
        fed = [array[i].reshape(shape) for array, shape in zip(inputs, shapes, strict=True)]
        for got, want in zip(on_board.invoke(fed), outputs, strict=True):
            values += want[i].size
            mismatches += int(np.count_nonzero(got.reshape(-1) != want[i].reshape(-1)))
        if progress:
            progress(i + 1, count)
    return Verdict(name, port, on_board.level, count, values, mismatches)


def first_difference(on_board: ModelOnBoard, model: Path, taps: Path, golden: Path) -> str | None:
    """The first operator whose output differs from the taps, in words; None if all agree.

    A taps file holds `s<input>_op<index>_t<tensor>` for some inputs of the golden file.
    """
    graph = load(model)
    layout = plan_memory(graph, lower(graph))
    inputs, _ = read_golden(golden)
    with np.load(taps, allow_pickle=False) as file:
        known = {name: file[name] for name in file.files if name.startswith("s")}
    samples = sorted({int(name[1:].split("_")[0]) for name in known})
    shapes = [tensor.shape for tensor in on_board.bundle.inputs]
    for sample in samples:
        fed = [array[sample].reshape(shape) for array, shape in zip(inputs, shapes, strict=True)]
        for operator in on_board.steps(fed):
            tensor = graph.nodes[operator].output
            want = known.get(f"s{sample}_op{operator}_t{tensor.index}")
            if want is None:
                continue
            got = on_board.peek(layout.tensors[tensor.index], tensor.nbytes)
            different = np.count_nonzero(np.frombuffer(got, tensor.dtype) != want.reshape(-1))
            if different:
                what = f"operator {operator} ({graph.nodes[operator].kind})"
                return f"{what}: {different} of {tensor.elements} values differ for input {sample}"
    return None
