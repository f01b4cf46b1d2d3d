"""Pruning: the outputs of a pruned graph are those of the graph, on models, on random graphs and at the extremes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tflite_builder import ModelSpec, OperatorSpec, TensorSpec

from midgehost.models import checks, reference
from midgehost.models.convert import load, macs, weight_bytes
from midgehost.models.graph import Graph
from midgehost.models.prune import prune, report
from midgehost.models.ranges import ranges

Array = NDArray[Any]
MODELS = ("ad01_int8", "hello_world_int8", "kws_ref_model", "mnist_cnn_int8", "pretrainedResnet_quant", "vww_96_int8")


def images(graph: Graph, rng: np.random.Generator, count: int) -> list[list[Array]]:
    """Inputs for a graph: the extremes first, then random ones of every spread."""
    shapes = [graph.tensors[index].shape for index in graph.inputs]
    found = [[np.full(shape, value, np.int8) for shape in shapes] for value in (-128, 127, 0)]
    for number in range(count):
        low, high = ((-128, 128), (-128, -100), (100, 128))[number % 3]
        found.append([rng.integers(low, high, shape).astype(np.int8) for shape in shapes])
    return found


def require_same(before: Graph, after: Graph, inputs: Sequence[Sequence[Array]]) -> None:
    for values in inputs:
        for a, b in zip(reference.run(before, values), reference.run(after, values), strict=True):
            np.testing.assert_array_equal(a, b)


class Network:
    """A random graph, operator by operator, with planted dead weights."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.tensors: list[TensorSpec] = []
        self.operators: list[OperatorSpec] = []
        size = int(rng.integers(3, 7))
        self.inputs = [self.activation((1, size, size, int(rng.integers(1, 5))))]
        self.outputs: list[int] = []

    def activation(self, shape: Sequence[int], like: int | None = None) -> int:
        zero_point = int(self.rng.choice([-128, int(self.rng.integers(-128, 128))]))
        scale = float(2.0 ** self.rng.uniform(-8, 0))
        if like is not None:
            scale, zero_point = self.tensors[like].scales[0], self.tensors[like].zero_points[0]
        return self.append(TensorSpec(shape, scale=scale, zero_point=zero_point))

    def append(self, tensor: TensorSpec) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self.tensors[tensor].shape)

    def call(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        self.operators.append(OperatorSpec(kind, inputs, [output], options))
        return output

    def weights(self, shape: Sequence[int], axis: int, source: int, target: int) -> tuple[int, int]:
        """Weights and bias of a layer: rows and columns of zeros, biases that saturate, scales that vanish."""
        rng, filters = self.rng, shape[axis]
        data = rng.integers(-128, 128, shape)
        dead = rng.random(filters) < rng.choice([0.0, 0.4, 0.9])
        data = np.moveaxis(data, axis, 0)
        data[dead] = 0
        if axis == 0:
            data[..., rng.random(shape[-1]) < rng.choice([0.0, 0.3])] = 0
        data = np.moveaxis(data, 0, axis)
        depth = max(1, data.size // filters)
        natural = self.tensors[target].scales[0] / self.tensors[source].scales[0] / (40 * depth**0.5)
        scale = natural * 2.0 ** rng.uniform(-1, 1, filters if rng.random() < 0.6 else 1)
        if len(scale) > 1:
            # a multiplier of 0, a very small one, a shift to the left
            scale *= 2.0 ** rng.choice([0, -40, -22, 9], filters, p=[0.85, 0.05, 0.05, 0.05])
        bias = np.rint(rng.normal(0, 60 * depth**0.5 * 40, filters)).astype(np.int64)
        huge = rng.random(filters) < 0.1
        bias[huge] = rng.choice([1 << 30, -(1 << 30), (1 << 31) - 5], int(huge.sum()))
        products = np.float32(scale[0]) * np.float32(self.tensors[source].scales[0])
        number = self.append(TensorSpec(shape, scale=scale, axis=axis, data=data))
        if rng.random() < 0.15:
            return number, -1
        return number, self.append(TensorSpec([filters], "int32", scale=float(products), data=bias))

    def conv(self, source: int) -> int:
        rng, (_, height, width, depth) = self.rng, self.shape(source)
        filters, size = int(rng.integers(1, 9)), int(rng.choice([1, 1, 3]))
        size = min(size, height, width)
        same, stride = rng.random() < 0.5, int(rng.integers(1, 3))
        target = self.activation((1, *self.sizes(height, width, size, stride, same), filters))
        operands = [source, *self.weights((filters, size, size, depth), 0, source, target)]
        return self.call("CONV_2D", operands, target, **self.options(same, stride))

    def depthwise(self, source: int) -> int:
        rng, (_, height, width, depth) = self.rng, self.shape(source)
        multiplier, size = int(rng.choice([1, 1, 2])), min(int(rng.choice([2, 3])), height, width)
        same, stride = rng.random() < 0.5, int(rng.integers(1, 3))
        target = self.activation((1, *self.sizes(height, width, size, stride, same), depth * multiplier))
        operands = [source, *self.weights((1, size, size, depth * multiplier), 3, source, target)]
        options = self.options(same, stride) | {"DepthMultiplier": multiplier}
        return self.call("DEPTHWISE_CONV_2D", operands, target, **options)

    def pool(self, source: int) -> int:
        _, height, width, depth = self.shape(source)
        same, size = self.rng.random() < 0.5, min(2, height, width)
        target = self.activation((1, *self.sizes(height, width, size, 1, same), depth), like=source)
        kind = str(self.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
        return self.call(kind, [source], target, FilterHeight=size, FilterWidth=size, **self.options(same, 1))

    def residual(self, source: int) -> int:
        """A 1x1 layer beside its input, or two of them, added."""
        _, height, width, depth = self.shape(source)
        branches = [source]
        for _ in range(int(self.rng.integers(1, 3))):
            target = self.activation((1, height, width, depth))
            operands = [source, *self.weights((depth, 1, 1, depth), 0, source, target)]
            branches.append(self.call("CONV_2D", operands, target, **self.options(False, 1)))
        target = self.activation((1, height, width, depth))
        return self.call("ADD", branches[-2:], target, FusedActivationFunction=self.fused())

    def dense(self, source: int) -> int:
        units = int(self.rng.integers(1, 7))
        depth = int(np.prod(self.shape(source)[1:]))
        if self.rng.random() < 0.5:
            flat = self.activation((1, depth), like=source)
            sizes = self.append(TensorSpec([2], "int32", data=np.array([1, depth])))
            source = self.call("RESHAPE", [source, sizes], flat)
        target = self.activation((1, units))
        operands = [source, *self.weights((units, depth), 0, source, target)]
        return self.call("FULLY_CONNECTED", operands, target, FusedActivationFunction=self.fused())

    def mean(self, source: int) -> int:
        axes = self.append(TensorSpec([2], "int32", data=np.array([1, 2])))
        target = self.activation((1, self.shape(source)[3]))
        return self.call("MEAN", [source, axes], target)

    def fused(self) -> str:
        return str(self.rng.choice(["NONE", "RELU", "RELU6", "RELU"]))

    def options(self, same: bool, stride: int) -> dict[str, Any]:
        padding = "SAME" if same else "VALID"
        return {"Padding": padding, "StrideH": stride, "StrideW": stride, "FusedActivationFunction": self.fused()}

    @staticmethod
    def sizes(height: int, width: int, size: int, stride: int, same: bool) -> tuple[int, int]:
        reach = 1 if same else size
        return (height + stride - reach) // stride, (width + stride - reach) // stride

    def graph(self) -> Graph:
        graph = ModelSpec(self.tensors, self.operators, self.inputs, self.outputs).graph()
        checks.check(graph)
        return graph


def random_graph(rng: np.random.Generator) -> Graph:
    network = Network(rng)
    at = network.inputs[0]
    for _ in range(int(rng.integers(2, 6))):
        step = rng.choice(["conv", "conv", "depthwise", "pool", "residual"])
        at = getattr(network, step)(at)
        if rng.random() < 0.05:
            network.outputs.append(at)
    for step in (["dense"], ["mean", "dense"], ["dense", "dense"], [])[int(rng.integers(4))]:
        at = getattr(network, step)(at)
    network.outputs.append(at)
    return network.graph()


def check_random_graph(seed: int) -> tuple[int, int]:
    """Checks one random graph; the MACs before and after."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    pruned = prune(graph)
    checks.check(pruned)
    inputs = images(graph, rng, 6)
    require_same(graph, pruned, inputs)
    again = prune(pruned)
    assert macs(again) == macs(pruned), "pruned at once"
    require_within_ranges(graph, inputs)
    return macs(graph), macs(pruned)


def require_within_ranges(graph: Graph, inputs: Sequence[Sequence[Array]]) -> None:
    known = ranges(graph)
    for values in inputs:
        for index, value in reference.taps(graph, values).items():
            flat = value.reshape(-1, len(known[index].lows))
            assert (flat >= known[index].lows).all() and (flat <= known[index].highs).all()


def test_random_graphs() -> None:
    counts = np.array([check_random_graph(seed) for seed in range(60)])
    assert (counts[:, 0] > counts[:, 1]).sum() > 20, "too few graphs had something to prune"


@pytest.mark.soak
@pytest.mark.parametrize("block", range(20))
def test_soak_random_graphs(block: int) -> None:
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        check_random_graph(seed)


def test_vww_is_mostly_dead(models_dir: Path) -> None:
    graph = load(models_dir / "vww_96_int8.tflite")
    pruned = prune(graph)
    checks.check(pruned)
    assert (macs(graph), macs(pruned)) == (7_489_664, 3_727_313)
    assert weight_bytes(pruned) < 34_000 < weight_bytes(graph)
    changes = report(graph, pruned)
    assert sum(change.macs[0] for change in changes) == macs(graph)
    assert sum(change.macs[1] for change in changes) == macs(pruned)
    last = changes[-2]
    assert (last.node.index, last.channels) == (26, (256, 22))
    with np.load(models_dir / "vww_96_int8.golden.npz") as golden:
        shape = graph.tensors[graph.inputs[0]].shape
        for image, answer in zip(golden["in0"][::4], golden["out0"][::4], strict=True):
            np.testing.assert_array_equal(reference.run(pruned, [image.reshape(shape)])[0].ravel(), answer.ravel())
    require_same(graph, pruned, images(graph, np.random.default_rng(2), 1))


@pytest.mark.soak
@pytest.mark.parametrize("name", MODELS)
def test_soak_golden_outputs(models_dir: Path, name: str) -> None:
    graph = load(models_dir / f"{name}.tflite")
    pruned = prune(graph)
    checks.check(pruned)
    with np.load(models_dir / f"{name}.golden.npz") as golden:
        shape = graph.tensors[graph.inputs[0]].shape
        for image, answer in zip(golden["in0"], golden["out0"], strict=True):
            np.testing.assert_array_equal(reference.run(pruned, [image.reshape(shape)])[0].ravel(), answer.ravel())
    require_same(graph, pruned, images(graph, np.random.default_rng(2), 30))


@pytest.mark.parametrize("name", ["kws_ref_model", "mnist_cnn_int8", "ad01_int8"])
def test_what_is_alive_stays(models_dir: Path, name: str) -> None:
    graph = load(models_dir / f"{name}.tflite")
    pruned = prune(graph)
    assert macs(pruned) == macs(graph)
    assert [t.shape for t in pruned.tensors] == [t.shape for t in graph.tensors]


def two_layers(padding: str, first_bias: int, zero_point: int, first: Array, second: Array) -> Graph:
    """A 1x1 layer, then a 3x3 layer on its output; a filter of zeros in the first makes a constant of its bias."""
    filters, depth = len(first), first.shape[-1]
    side = 5 if padding == "SAME" else 3
    spec = ModelSpec(
        [
            TensorSpec((1, 5, 5, depth), scale=0.5, zero_point=3),
            TensorSpec(first.shape, scale=0.1, data=first),
            TensorSpec([filters], "int32", scale=0.05, data=np.full(filters, first_bias)),
            TensorSpec((1, 5, 5, filters), scale=1.0, zero_point=zero_point),
            TensorSpec(second.shape, scale=0.1, data=second),
            TensorSpec((1, side, side, len(second)), scale=2.0, zero_point=0),
        ],
        [
            OperatorSpec("CONV_2D", [0, 1, 2], [3], {"Padding": "VALID", "StrideH": 1, "StrideW": 1}),
            OperatorSpec("CONV_2D", [3, 4, -1], [5], {"Padding": padding, "StrideH": 1, "StrideW": 1}),
        ],
        [0],
        [5],
    )
    return spec.graph()


@pytest.mark.parametrize(
    ("padding", "bias", "kept"),
    [("VALID", 400, 3), ("SAME", 0, 3), ("SAME", 400, 4)],
    ids=["no padding", "padding of the same value", "padding of another value"],
)
def test_a_constant_channel_moves_into_the_bias_where_padding_allows(padding: str, bias: int, kept: int) -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(-100, 100, (4, 1, 1, 2)), rng.integers(-100, 100, (3, 3, 3, 4))
    first[1] = 0
    graph = two_layers(padding, bias, -20, first, second)
    pruned = prune(graph)
    checks.check(pruned)
    assert pruned.nodes[0].output.shape[-1] == kept
    require_same(graph, pruned, images(graph, rng, 12))
    if kept == 4:
        weights = pruned.nodes[0].input(1).array()
        assert not weights[1].any() and weights[0].any(), "the constant is computed, the others are not touched"


def test_a_filter_that_always_saturates_is_a_constant() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.integers(-100, 100, (4, 1, 1, 2)), rng.integers(-100, 100, (3, 3, 3, 4))
    first[2] = 1
    graph = two_layers("VALID", 4000, -20, first, second)
    assert ranges(graph)[3].constant.tolist() == [False, False, True, False]
    pruned = prune(graph)
    assert pruned.nodes[0].output.shape[-1] == 3
    require_same(graph, pruned, images(graph, rng, 12))


def residual(dead: Sequence[Sequence[int]]) -> Graph:
    """Two 1x1 layers of an input, added, read by a third; `dead` names the zero filters of each branch."""
    rng, depth = np.random.default_rng(8), 5
    weights = [rng.integers(-100, 100, (depth, 1, 1, depth)) for _ in range(3)]
    for branch, rows in zip(weights, dead, strict=False):
        branch[list(rows)] = 0
    image = TensorSpec((1, 3, 3, depth), scale=0.5, zero_point=-7)
    options = {"Padding": "VALID", "StrideH": 1, "StrideW": 1}
    return ModelSpec(
        [image] * 5 + [TensorSpec(w.shape, scale=0.02, data=w) for w in weights],
        [
            OperatorSpec("CONV_2D", [0, 5, -1], [1], options),
            OperatorSpec("CONV_2D", [0, 6, -1], [2], options),
            OperatorSpec("ADD", [1, 2], [3]),
            OperatorSpec("CONV_2D", [3, 7, -1], [4], options),
        ],
        [0],
        [4],
    ).graph()


def test_add_drops_a_channel_that_both_operands_drop() -> None:
    graph = residual([[0, 2, 3], [2, 3, 4]])
    pruned = prune(graph)
    assert [node.output.shape[-1] for node in pruned.nodes] == [3, 3, 3, 5]
    require_same(graph, pruned, images(graph, np.random.default_rng(9), 9))


def test_a_dense_layer_with_a_scale_per_unit_keeps_two() -> None:
    """With one, TFLM would multiply the scales in float32 instead of double."""
    rng = np.random.default_rng(10)
    first, second = rng.integers(-100, 100, (6, 8)), rng.integers(-100, 100, (2, 6))
    second[:, 1:] = 0
    scale = rng.uniform(0.01, 0.02, 6)
    graph = ModelSpec(
        [
            TensorSpec((1, 8), scale=0.3),
            TensorSpec((6, 8), scale=scale, data=first),
            TensorSpec((1, 6), scale=0.7),
            TensorSpec((2, 6), scale=0.01, data=second),
            TensorSpec((1, 2), scale=0.2),
        ],
        [OperatorSpec("FULLY_CONNECTED", [0, 1, -1], [2]), OperatorSpec("FULLY_CONNECTED", [2, 3, -1], [4])],
        [0],
        [4],
    ).graph()
    pruned = prune(graph)
    assert pruned.nodes[0].output.shape == (1, 2)
    assert pruned.nodes[0].input(1).quant.scales == tuple(float(np.float32(s)) for s in scale[:2])
    require_same(graph, pruned, images(graph, rng, 9))


def test_constants_that_two_layers_share_are_parted() -> None:
    rng = np.random.default_rng(11)
    weights = rng.integers(-100, 100, (4, 4))
    weights[1] = 0
    layer = TensorSpec((1, 4), scale=0.3)
    graph = ModelSpec(
        [layer, TensorSpec((4, 4), scale=0.01, data=weights), layer, layer],
        [OperatorSpec("FULLY_CONNECTED", [0, 1, -1], [2]), OperatorSpec("FULLY_CONNECTED", [2, 1, -1], [3])],
        [0],
        [3],
    ).graph()
    pruned = prune(graph)
    assert [node.input(1).shape for node in pruned.nodes] == [(3, 4), (4, 3)]
    require_same(graph, pruned, images(graph, rng, 9))


def test_a_model_without_live_channels_keeps_one() -> None:
    graph = residual([range(5), range(5)])
    pruned = prune(graph)
    checks.check(pruned)
    assert [node.output.shape[-1] for node in pruned.nodes] == [1, 1, 1, 5]
    require_same(graph, pruned, images(graph, np.random.default_rng(12), 3))
