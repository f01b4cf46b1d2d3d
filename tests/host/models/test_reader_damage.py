"""Files whose tables lie: each ends at once in one BadFile that names the place, and takes no memory to speak of."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tflite
from tflite_builder import ModelSpec, OneOp, OperatorSpec, TensorSpec

from midgehost.errors import BadFile, ModelError
from midgehost.models.convert import convert
from midgehost.models.inspect import inspect
from midgehost.models.reader import read

INT8 = TensorSpec([1, 4], scale=0.5, zero_point=1, name="x")
SHARED_ROUNDS = 2000

# Fields by their place in a table (schema.fbs; 4 + 2 * field number)
_SUBGRAPHS, _BUFFERS = 8, 12
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 4, 6, 8, 10
_SHAPE, _TYPE, _BUFFER, _NAME = 4, 6, 8, 10
_SCALE, _ZERO_POINT = 8, 10
_OPCODE, _OPERANDS, _RESULTS = 4, 6, 8


def sound() -> bytearray:
    """x -> PADV2 -> y -> RELU -> z: two operator codes, constants, and no field left at its default."""
    paddings = TensorSpec([2, 2], "int32", data=np.array([[0, 0], [1, 1]]), name="paddings")
    value = TensorSpec([1], "int8", 0.5, 1, data=np.array([7]), name="value")
    wide = [TensorSpec([1, 6], scale=0.5, zero_point=1, name=name) for name in "yz"]
    operators = [OperatorSpec("RELU", [1], [2]), OperatorSpec("PADV2", [0, 3, 4], [1])][::-1]
    return bytearray(ModelSpec([INT8, *wide, paddings, value], operators, [0], [2]).tflite())


def root_model(data: bytes) -> Any:
    return tflite.Model.GetRootAs(bytes(data), 0)


def table(data: bytes, *path: Any) -> Any:
    """A table by its path from the root, e.g. `table(data, "Subgraphs", 0, "Tensors", 1)`."""
    found = root_model(data)
    for name, index in zip(path[::2], path[1::2], strict=True):
        found = getattr(found, name)(index)
    return found._tab


def field(data: bytes, tab: Any, slot: int) -> int:
    """Where a field's value or offset lies."""
    assert tab.Offset(slot), "the field is at its default and has no bytes to change"
    return tab.Pos + tab.Offset(slot)


def vector(data: bytes, tab: Any, slot: int) -> int:
    """Where a vector's length lies; its items follow."""
    at = field(data, tab, slot)
    return at + struct.unpack_from("<I", data, at)[0]


def put(data: bytearray, at: int, value: int, form: str = "<i") -> bytearray:
    struct.pack_into(form, data, at, value)
    return data


def tensor(data: bytes, index: int) -> Any:
    return table(data, "Subgraphs", 0, "Tensors", index)


def operator(data: bytes, index: int) -> Any:
    return table(data, "Subgraphs", 0, "Operators", index)


def root(data: bytes) -> Any:
    return table(data)


def subgraph(data: bytes) -> Any:
    return table(data, "Subgraphs", 0)


LIES: dict[str, tuple[Callable[[bytearray], bytearray], str]] = {
    "two subgraphs": (lambda d: put(d, vector(d, root(d), _SUBGRAPHS), 2), "2 subgraphs"),
    "no subgraph": (lambda d: put(d, vector(d, root(d), _SUBGRAPHS), 0), "0 subgraphs"),
    "2^31 tensors": (lambda d: put(d, vector(d, subgraph(d), _TENSORS), 1 << 31, "<I"), "tensor table"),
    "2^31 buffers": (lambda d: put(d, vector(d, root(d), _BUFFERS), 1 << 31, "<I"), "buffer table"),
    "2^31 operators": (lambda d: put(d, vector(d, subgraph(d), _OPERATORS), 1 << 31, "<I"), "operator table"),
    "tensor far outside": (lambda d: put(d, vector(d, subgraph(d), _TENSORS) + 4, 1 << 30), "tensor 0"),
    "buffer 99": (lambda d: put(d, field(d, tensor(d, 3), _BUFFER), 99), "'paddings' names buffer 99"),
    "a buffer too long": (lambda d: put(d, field(d, tensor(d, 3), _BUFFER), 2), "'paddings' of shape"),
    "operator code 9": (lambda d: put(d, field(d, operator(d, 1), _OPCODE), 9), "operator 1 names operator code 9"),
    "operand 77": (
        lambda d: put(d, vector(d, operator(d, 0), _OPERANDS) + 4, 77),
        "operator 0 (PADV2) names tensor 77",
    ),
    "operand -2": (lambda d: put(d, vector(d, operator(d, 0), _OPERANDS) + 4, -2), "names tensor -2"),
    "no result": (lambda d: put(d, vector(d, operator(d, 0), _RESULTS), 0), "operator 0 (PADV2) has no output"),
    "a cycle": (lambda d: put(d, vector(d, operator(d, 0), _OPERANDS) + 4, 2), "reads tensor 'z' before"),
    "computed twice": (lambda d: put(d, vector(d, operator(d, 1), _RESULTS) + 4, 1), "'y', which has a value already"),
    "input 50": (lambda d: put(d, vector(d, subgraph(d), _INPUTS) + 4, 50), "names tensor 50"),
    "a constant input": (lambda d: put(d, vector(d, subgraph(d), _INPUTS) + 4, 3), "'paddings' is a constant"),
    "output never made": (lambda d: put(d, vector(d, subgraph(d), _OUTPUTS) + 4, 4), "'value' is never computed"),
    "no output": (lambda d: put(d, vector(d, subgraph(d), _OUTPUTS), 0), "no output"),
    "size -4": (lambda d: put(d, vector(d, tensor(d, 0), _SHAPE) + 8, -4), "'x' has the shape [1, -4]"),
    "2^20 axes": (lambda d: put(d, vector(d, tensor(d, 0), _SHAPE), 1 << 20), "'x' has 1048576 axes"),
    "type 99": (lambda d: put(d, field(d, tensor(d, 0), _TYPE), 99, "<b"), "tensor 0 is damaged"),
    "scale NaN": (lambda d: put(d, vector(d, quantisation(d), _SCALE) + 4, 0x7FC00000), "'x' has a scale"),
    "scale 0": (lambda d: put(d, vector(d, quantisation(d), _SCALE) + 4, 0), "'x' has a scale"),
    "zero point 4000": (
        lambda d: put(d, vector(d, quantisation(d), _ZERO_POINT) + 4, 4000, "<q"),
        "'x' of type int8 has a zero point",
    ),
    "name outside": (lambda d: put(d, field(d, tensor(d, 0), _NAME), 1 << 30), "tensor 0 is damaged"),
}


def quantisation(data: bytes) -> Any:
    return root_model(data).Subgraphs(0).Tensors(0).Quantization()._tab


def test_the_model_is_sound_before() -> None:
    graph = read(bytes(sound()))
    assert [node.kind for node in graph.nodes] == ["PADV2", "RELU"]
    assert convert(bytes(sound())).outputs[0].shape == (1, 6)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_by_name(lie: str) -> None:
    damage, words = LIES[lie]
    data = bytes(damage(sound()))
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(BadFile) as refused:
        read(data, "lie.tflite")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert words in str(refused.value) and str(refused.value).startswith("lie.tflite")
    assert time.monotonic() - began < 2 and peak < 4 << 20


def test_many_tables_that_share_one_huge_vector_cost_nothing() -> None:
    """A small file can name one long vector a thousand times: read naively, that is gigabytes."""
    data = sound() + bytes(-len(sound()) % 4)
    at = field(data, root(data), _BUFFERS)
    put(data, at, len(data) - at)
    data += struct.pack("<I", SHARED_ROUNDS)  # the new list of buffers: all are the one table behind it
    shared = len(data) + 4 * SHARED_ROUNDS + 8
    for _ in range(SHARED_ROUNDS):
        data += struct.pack("<I", shared - len(data))
    data += struct.pack("<HHHH", 6, 8, 4, 0)  # its vtable: one field, four bytes in
    data += struct.pack("<iI", 8, 4)  # the table: its vtable lies eight bytes before, its vector four bytes behind
    data += struct.pack("<I", 1 << 20) + bytes(1 << 20)
    assert root_model(data).Buffers(9).DataLength() == 1 << 20
    tracemalloc.start()
    with pytest.raises(BadFile, match="larger than the file"):
        read(bytes(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_scale_for_each_of_the_wrong_number_of_channels() -> None:
    weights = TensorSpec([3, 4], "int8", [0.1, 0.2], axis=0, data=np.ones((3, 4)), name="weights")
    layer = OneOp("FULLY_CONNECTED", [INT8, weights, None], [TensorSpec([1, 3], scale=0.5)])
    with pytest.raises(BadFile, match=r"'weights' of shape \[3, 4\] has 2 scales along axis 0"):
        read(layer.tflite())


def test_names_are_shown_on_one_line() -> None:
    spec = TensorSpec([1, -1], scale=0.5, name="evil\n\x1b[31mname" + "x" * 5000)
    with pytest.raises(ModelError) as refused:
        convert(OneOp("RELU", [spec], [TensorSpec([1, -1], scale=0.5)]).tflite())
    text = str(refused.value)
    assert "evil??[31mname" in text and text.isprintable() and len(text) < 600


@pytest.mark.soak
def test_bit_flips_and_cuts_soak(models_dir: Path) -> None:
    print("\n| model | damaged files | still read | refused | traceback |\n|---|---|---|---|---|")
    for path in sorted(models_dir.glob("*.tflite")):
        if path.stat().st_size > 100_000:
            continue
        whole, rng, refused = path.read_bytes(), Random(path.stem), 0
        for _ in range(800):
            data = bytearray(whole)
            for _ in range(rng.choice([1, 2, 8])):  # tables lie at both ends, weights between
                at = rng.choice([rng.randrange(len(data)), rng.randrange(600), -rng.randrange(1, 2500)])
                data[at] ^= 1 << rng.randrange(8)
            if rng.random() < 0.1:
                del data[rng.randrange(len(data)) :]
            try:
                inspect(read(bytes(data)))
            except ModelError:
                refused += 1
        print(f"| {path.stem} | 800 | {800 - refused} | {refused} | 0 |")
