"""Golden inputs through a model on a board: every value compared, and with taps the first operator that differs."""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from midgehost.deploy.runner import ModelOnBoard
from midgehost.errors import DataError
from midgehost.models.bundle import TensorInfo
from midgehost.models.convert import load


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
    arrays = _archive(path)
    inputs, outputs = _numbered(arrays, "in"), _numbered(arrays, "out")
    if (
        not inputs
        or not outputs
        or any(len(array) != len(inputs[0]) for array in (*inputs, *outputs))
        or not len(inputs[0])
    ):
        raise DataError(f"{path} holds no matching inputs and outputs.", "It must hold arrays in0.. and out0...")
    return inputs, outputs


def _archive(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of an .npz file. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: np.atleast_1d(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error, AttributeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no .npz file"
        raise DataError(f"{path} cannot be read: {why}.", "Name an .npz file of golden vectors or taps.") from error


def _numbered(arrays: Mapping[str, NDArray[Any]], prefix: str) -> list[NDArray[Any]]:
    """The arrays in0, in1, ... in order."""
    return [arrays[f"{prefix}{i}"] for i in itertools.takewhile(lambda i: f"{prefix}{i}" in arrays, itertools.count())]


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
    for i in range(count):
        fed = _vector(golden, i, inputs, on_board.bundle.inputs)
        wanted = _vector(golden, i, outputs, on_board.bundle.outputs)
        for got, want in zip(on_board.invoke(fed), wanted, strict=True):
            values += want.size
            mismatches += int(np.count_nonzero(got != want))
        if progress:
            progress(i + 1, count)
    return Verdict(name, port, on_board.level, count, values, mismatches)


def first_difference(on_board: ModelOnBoard, model: Path, taps: Path, golden: Path) -> str | None:
    """The first operator whose output differs from the taps, in words; None if all agree. Nothing may be pruned.

    A taps file holds `s<input>_op<index>_t<tensor>` for some inputs of the golden file. Raises DataError if it holds
    nothing of this model.
    """
    graph = load(model)
    inputs, _ = read_golden(golden)
    known = _read_taps(taps)
    compared = 0
    for sample in sorted({sample for sample, _, _ in known if sample < len(inputs[0])}):
        for operator in on_board.steps(_vector(golden, sample, inputs, on_board.bundle.inputs)):
            tensor = graph.nodes[operator].output
            want = known.get((sample, operator, tensor.index))
            if want is None or want.size != tensor.elements:
                continue
            compared += 1
            got = on_board.peek(operator, tensor.nbytes)
            different = np.count_nonzero(np.frombuffer(got, tensor.dtype) != want.reshape(-1))
            if different:
                what = f"operator {operator} ({graph.nodes[operator].kind})"
                return f"{what}: {different} of {tensor.elements} values differ for input {sample}"
    if not compared:
        raise DataError(f"{taps} holds no operator's output of this model.", "Name them s<input>_op<index>_t<tensor>.")
    return None


def _read_taps(path: Path) -> dict[tuple[int, int, int], NDArray[Any]]:
    """(input, operator, tensor) -> the operator's output. Raises DataError."""
    arrays = _archive(path)
    named = {name: re.fullmatch(r"s(\d+)_op(\d+)_t(\d+)", name) for name in arrays}
    return {(int(m[1]), int(m[2]), int(m[3])): arrays[name] for name, m in named.items() if m}


def _vector(path: Path, i: int, arrays: Sequence[NDArray[Any]], tensors: Sequence[TensorInfo]) -> list[NDArray[Any]]:
    """Vector `i` of a golden file, in the model's shapes. Raises DataError if it is another model's."""
    have = [(str(array.dtype), array[i].size) for array in arrays]
    want = [(tensor.dtype, prod(tensor.shape)) for tensor in tensors]
    if have != want:
        found, wanted = (", ".join(f"{n} {dtype}" for dtype, n in side) for side in (have, want))
        raise DataError(f"{path} holds {found} values a vector, the model has {wanted}.", "Give this model's own file.")
    return [array[i].reshape(tensor.shape) for array, tensor in zip(arrays, tensors, strict=True)]
