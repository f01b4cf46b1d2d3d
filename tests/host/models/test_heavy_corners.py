"""Corners of dense, convolution, pooling, mean and softmax that random cases do not meet, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from levels import Job, run_kernels
from numpy.typing import NDArray
from oracle import Oracle
from tflite_builder import OneOp, TensorSpec

from midgehost.errors import ModelError
from midgehost.models.ops import registry

WINDOW = {"Padding": "VALID", "StrideH": 1, "StrideW": 1, "FusedActivationFunction": "NONE"}
DENSE = {"FusedActivationFunction": "NONE"}


def at_every_level(model: OneOp, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """The output of the reference, the portable and the viper kernel."""
    node = model.node()
    op = registry()[node.kind]
    op.check(node)
    job = Job(node, op.lower(node), inputs)
    kernels = [run_kernels([job], level)[0][0] for level in ("portable", "viper")]
    return [op.reference(node, inputs)[0], *kernels]


def one_by_one(biases: list[int], scales: tuple[float, float, float], zero_point: int) -> OneOp:
    """A convolution whose sums are its biases; scales of input, weights and output."""
    channels = len(biases)
    weights = TensorSpec([channels, 1, 1, 1], scale=[scales[1]] * channels, data=np.zeros(channels))
    bias = TensorSpec([channels], "int32", scale=[scales[0] * scales[1]] * channels, data=np.array(biases))
    target = TensorSpec([1, 1, 1, channels], scale=scales[2], zero_point=zero_point)
    return OneOp("CONV_2D", [TensorSpec([1, 1, 1, 1], scale=scales[0]), weights, bias], [target], WINDOW, 3)


def constants(model: OneOp, source: NDArray[Any]) -> list[NDArray[Any]]:
    return [source, *(np.frombuffer(t.raw, t.dtype).reshape(t.shape) for t in model.inputs[1:] if t and t.raw)]


# An effective scale of 1 - 2^-31: sums keep their value to the last bit.
ALMOST_ONE = (0.7661231160163879, 0.5305109620094299, 0.4064367115497589)
HIGHEST, LOWEST = (1 << 31) - 1, -(1 << 31)
EDGES = [0, 1, -1, HIGHEST, HIGHEST - 1, LOWEST, LOWEST + 1, 1 << 30, -(1 << 30), 0x8000, -0x8000, 0x10000]


@pytest.mark.parametrize("zero_point", [-128, -1, 0, 127])
@pytest.mark.parametrize("scales", [ALMOST_ONE, (1.0, 1.0, 2.0**-20), (1.0, 1.0, 2.0**30), (1.0, 2.0**-29, 1.0)])
def test_sums_at_the_edges_of_int32(scales: tuple[float, float, float], zero_point: int) -> None:
    model = one_by_one(EDGES, scales, zero_point)
    source = np.zeros([1, 1, 1, 1], np.int8)
    expected = Oracle(model.tflite()).run([source])[0]
    for output in at_every_level(model, constants(model, source)):
        np.testing.assert_array_equal(output, expected)


def test_a_sum_that_overflows_with_its_zero_point_wraps() -> None:
    model = one_by_one([HIGHEST, HIGHEST - 1], ALMOST_ONE, 127)
    outputs = at_every_level(model, constants(model, np.zeros([1, 1, 1, 1], np.int8)))
    assert [output.reshape(-1).tolist() for output in outputs] == [[-128, -128]] * 3


@pytest.mark.parametrize(("depth", "expected"), [(511, -127), (512, -128), (4095, -128)])
def test_softmax_over_many_equal_values(depth: int, expected: int) -> None:
    # TFLM itself aborts the process from 512 equal values on.
    model = OneOp(
        "SOFTMAX",
        [TensorSpec([1, depth], scale=0.1)],
        [TensorSpec([1, depth], scale=1 / 256, zero_point=-128)],
        {"Beta": 1.0},
        2,
    )
    for output in at_every_level(model, [np.full([1, depth], 7, np.int8)]):
        np.testing.assert_array_equal(output, np.full([1, depth], expected))


def pool(target: TensorSpec) -> OneOp:
    options = {**WINDOW, "FilterHeight": 2, "FilterWidth": 2}
    return OneOp("MAX_POOL_2D", [TensorSpec([1, 2, 2, 1], scale=0.5, zero_point=3)], [target], options, 2)


def dense(**changed: Any) -> OneOp:
    parts: dict[str, Any] = {
        "source": TensorSpec([1, 4], scale=0.5),
        "weights": TensorSpec([2, 4], scale=0.25, data=np.arange(8)),
        "bias": TensorSpec([2], "int32", scale=0.125, data=np.array([5, -5])),
        "target": TensorSpec([1, 2], scale=1.0),
        "options": DENSE,
    } | changed
    inputs = [parts["source"], parts["weights"], parts["bias"]]
    return OneOp("FULLY_CONNECTED", inputs, [parts["target"]], parts["options"])


def grouped(channels: int, depth: int, filters: int) -> OneOp:
    weights = TensorSpec([filters, 1, 1, depth], scale=0.25, data=np.zeros(filters * depth))
    target = TensorSpec([1, 1, 1, filters], scale=1.0)
    return OneOp("CONV_2D", [TensorSpec([1, 1, 1, channels], scale=0.5), weights], [target], WINDOW, 3)


def test_what_the_refusals_below_start_from_is_computed() -> None:
    for model in (dense(), grouped(4, 2, 6), pool(TensorSpec([1, 1, 1, 1], scale=0.5, zero_point=3))):
        registry()[model.kind].check(model.node())
        Oracle(model.tflite())


WEIGHTS = TensorSpec([2, 4], scale=0.25, data=np.arange(8))
REFUSED = {
    "changes scale or zero point": pool(TensorSpec([1, 1, 1, 1], scale=0.25, zero_point=3)),
    "changes scale": pool(TensorSpec([1, 1, 1, 1], scale=0.5, zero_point=4)),
    "a zero point": dense(weights=replace(WEIGHTS, zero_point=1)),
    "int16 weights": dense(weights=replace(WEIGHTS, dtype="int16")),
    "that are computed": dense(weights=replace(WEIGHTS, data=None)),
    "a bias of scale": dense(bias=TensorSpec([2], "int32", scale=0.25, data=np.zeros(2))),
    r"int32 \[2\] is wanted": dense(bias=TensorSpec([3], "int32", scale=0.125, data=np.zeros(3))),
    "without one scale": dense(source=TensorSpec([1, 4], scale=[0.5] * 4, axis=1)),
    "the float32 tensor": dense(target=TensorSpec([1, 2], "float32")),
    "along axis 1": dense(weights=TensorSpec([2, 4], scale=[0.25] * 4, axis=1, data=np.arange(8))),
    "4 values at a time": dense(source=TensorSpec([1, 5], scale=0.5)),
    "fused activation TANH": dense(options={"FusedActivationFunction": "TANH"}),
    "the output scale 1e-12": dense(
        bias=None, target=TensorSpec([1, 2], scale=1e-12), options={"FusedActivationFunction": "RELU6"}
    ),
    "shuffled weights": dense(options={"WeightsFormat": 1}),
    r"more than 2\^30": dense(bias=None, target=TensorSpec([1, 2], scale=1e-11)),
    "filters of depth 3": grouped(4, 3, 6),
    "5 filters of depth 2": grouped(4, 2, 5),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_with_the_reason(why: str) -> None:
    node = REFUSED[why].node()
    with pytest.raises(ModelError, match=why):
        registry()[node.kind].check(node)
