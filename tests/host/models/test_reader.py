"""The reader and the checks: whatever is wrong with a file ends in one ModelError that says what."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tflite_builder import ModelSpec, OneOp, OperatorSpec, TensorSpec

from midgehost.errors import BadFile, DynamicShape, MidgeError, ModelError, TooBig, UnknownOp, UnsupportedType
from midgehost.models import checks
from midgehost.models.convert import convert
from midgehost.models.reader import read

INT8 = TensorSpec([1, 4], scale=0.5, zero_point=1)


@pytest.mark.parametrize("data", [b"", b"TFL3", bytes(64), b"\x1c\0\0\0TFL3" + bytes(16), b"not a model" * 99])
def test_no_model(data: bytes) -> None:
    with pytest.raises(BadFile):
        read(data)


def test_truncations(models_dir: Path) -> None:
    data = (models_dir / "mnist_cnn_int8.tflite").read_bytes()
    for length in range(0, len(data), 61):
        with pytest.raises(ModelError):
            convert(data[:length])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 30))
def test_bit_flips_read_or_are_refused(models_dir: Path, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(
        (models_dir / rng.choice(["hello_world_int8", "mnist_cnn_int8"])).with_suffix(".tflite").read_bytes()
    )
    for _ in range(rng.choice([1, 1, 3, 20])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    try:
        checks.check(read(bytes(data)))
    except ModelError as error:
        assert error.what and error.do


def model(kind: str, source: TensorSpec, target: TensorSpec) -> bytes:
    return OneOp(kind, [source], [target]).tflite()


@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [
        (model("COS", INT8, INT8), UnknownOp, "COS"),
        (model("RELU", TensorSpec([1, 4], "float32"), TensorSpec([1, 4], "float32")), UnsupportedType, "float32 model"),
        (
            model("RELU", TensorSpec([1, 4], "uint8", 0.5, 3), TensorSpec([1, 4], "uint8", 0.5, 3)),
            UnsupportedType,
            "uint8 model",
        ),
        (
            model("RELU", TensorSpec([1, 4], "int16", 0.5, 0), TensorSpec([1, 4], "int16", 0.5, 0)),
            UnsupportedType,
            "int16x8 model",
        ),
        (model("RELU", TensorSpec([-1, 4], scale=0.5), TensorSpec([-1, 4], scale=0.5)), DynamicShape, "-1"),
        (model("RELU", TensorSpec([3, 1 << 30], scale=0.5), TensorSpec([3, 1 << 30], scale=0.5)), TooBig, "3,221"),
    ],
    ids=["unknown op", "float", "uint8", "int16x8", "dynamic", "3 GB"],
)
def test_refusals_have_their_own_sentence(data: bytes, expected: type[MidgeError], words: str) -> None:
    with pytest.raises(expected, match=words) as refused:
        convert(data)
    assert refused.value.do


def test_hybrid_model_is_called_hybrid() -> None:
    weights = TensorSpec([2, 4], scale=0.1, data=np.ones((2, 4), np.int8))
    layer = OneOp("FULLY_CONNECTED", [TensorSpec([1, 4], "float32"), weights, None], [TensorSpec([1, 2], "float32")])
    with pytest.raises(UnsupportedType, match="hybrid"):
        convert(layer.tflite())


def test_operators_out_of_order_are_refused() -> None:
    spec = ModelSpec([INT8] * 3, [OperatorSpec("RELU", [1], [2]), OperatorSpec("RELU", [0], [1])], [0], [2])
    with pytest.raises(BadFile):
        read(spec.tflite())


def test_tensor_number_out_of_range_is_refused() -> None:
    with pytest.raises(BadFile):
        read(ModelSpec([INT8] * 2, [OperatorSpec("RELU", [7], [1])], [0], [1]).tflite())
