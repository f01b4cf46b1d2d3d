"""The Cortex-M33's kernels on an emulated core: equal to the reference for random layers, corners and slices.

Every memory access is checked by the core, every cut of the rows gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from m33_cases import Layer, expected, inputs, run, scales, weights

from midgehost.codegen import requantise, sim
from midgehost.codegen.armv7emsp.backend import BACKEND
from midgehost.codegen.armv7emsp.packing import Matrix
from midgehost.codegen.armv7emsp.stage import Exact, Line, exact_stage, line_stage
from midgehost.models.graph import Graph, Node, Operator, Quant, Tensor
from midgehost.models.ops import registry


@pytest.fixture(scope="module")
def core() -> Iterator[sim.Core]:
    pytest.importorskip("unicorn")
    with sim.core("armv7emsp") as made:
        yield made


def _finished(rng: Random, layer: Layer) -> Layer:
    """With scales, biases, zero points and an activation."""
    axis = 3 if layer.kind == "DEPTHWISE_CONV_2D" else 0
    channels = layer.weights.shape[axis]
    effective = scales(rng, layer.weights, axis, rng.random() < 0.7)
    biases = [int(rng.uniform(-60, 60) / effective[i % len(effective)]) for i in range(channels)]
    relu = rng.random() < 0.6
    zero_points = rng.choice([-128, 0, rng.randint(-128, 127)]), -128 if relu else rng.randint(-128, 127)
    activation = "RELU" if relu else rng.choice(["NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"])
    options = {**layer.options, "FusedActivationFunction": activation}
    return replace(layer, scales=effective, biases=np.array(biases), zero_points=zero_points, options=options)


def _dense(rng: Random) -> Layer:
    shape = rng.choice([1, 3, 8, 64, rng.randint(1, 40)]), rng.choice([1, 2, 8, 64, rng.randint(1, 90)])
    return Layer("FULLY_CONNECTED", weights(rng, shape, 0))


def _conv(rng: Random) -> Layer:
    height, width = rng.choice([(1, 1), (3, 3), (1, 3), (4, 2), (10, 4)])
    depth = rng.choice([1, 2, 3, 4, 5, 8, 12, 16])
    filters = rng.choice([4, 5, 6, 7, 8, 18])
    same = rng.random() < 0.7
    size = [rng.randint(1 if same else kernel, kernel + 6) for kernel in (height, width)]
    strides = [rng.choice([1, 1, 2, 2, 3]) for _ in "hw"] if rng.random() < 0.7 else [1, 1]
    options = {"StrideH": strides[0], "StrideW": strides[1], "Padding": "SAME" if same else "VALID"}
    batch = rng.choice([1, 1, 2]) if (height, width, *strides) == (1, 1, 1, 1) and depth % 4 == 0 else 1
    return Layer("CONV_2D", weights(rng, (filters, height, width, depth), 0), (*size, depth), batch, options)


def _depthwise(rng: Random) -> Layer:
    depth, stride, same = rng.choice([4, 5, 7, 8, 12]), rng.choice([1, 2]), rng.random() < 0.7
    size = [rng.choice([least := 1 if same else 3, 4, 5, 8, 9, 17, rng.randint(least, 20)]) for _ in "hw"]
    options = {"StrideH": stride, "StrideW": stride, "Padding": "SAME" if same else "VALID", "DepthMultiplier": 1}
    return Layer("DEPTHWISE_CONV_2D", weights(rng, (1, 3, 3, depth), 3), (*size, depth), 1, options)


MAKERS: dict[str, Callable[[Random], Layer]] = {"dense": _dense, "conv": _conv, "depthwise": _depthwise}


def _compare(core: sim.Core, layer: Layer, rng: Random, tile_bytes: int | None = None) -> int | None:
    """The number of equal outputs, None where the kernels here do not take the layer."""
    node = layer.node()
    calls = BACKEND.fast(node, rng.choice(["speed", "size"]), tile_bytes)
    if calls is None:
        return None
    assert tile_bytes is None or all(len(call.weights) <= tile_bytes for call in calls)
    value = inputs(rng, node.input(0).shape, layer.weights)
    found, _ = run(core, node, calls, value, rng)
    np.testing.assert_array_equal(found, expected(node, value), f"{layer}")
    return found.size


@pytest.mark.parametrize("kind", MAKERS)
def test_random_layers(core: sim.Core, kind: str) -> None:
    """Nearly all layers of these shapes have a fast kernel."""
    rng = Random(f"m33 {kind}")
    sizes = [_compare(core, _finished(rng, MAKERS[kind](rng)), rng) for _ in range(40)]
    assert sum(size is not None for size in sizes) >= 36


@pytest.mark.parametrize("kind", MAKERS)
def test_tiles(core: sim.Core, kind: str) -> None:
    """Filters cut over several calls, and none where a group of them fits no tile."""
    rng = Random(f"m33 tiles {kind}")
    for _ in range(8):
        layer = _finished(rng, MAKERS[kind](rng))
        whole = BACKEND.fast(layer.node(), "speed", None)
        if whole is None:
            continue
        size = rng.randint(len(whole[0].weights) // 3, len(whole[0].weights))
        calls = BACKEND.fast(layer.node(), "speed", size)
        if calls is not None:
            assert sum(call.macs for call in calls) == pytest.approx(whole[0].macs, abs=len(calls))
        _compare(core, layer, rng, size)
        assert BACKEND.fast(layer.node(), "speed", 40) is None


def test_rows_are_short(core: sim.Core) -> None:
    """A convolution of many filters over many channels is cut by filters."""
    made = np.random.default_rng(1).integers(-127, 128, (128, 3, 3, 128), np.int8)
    layer = Layer("CONV_2D", made, (2, 2, 128), options={"Padding": "SAME"}, scales=[2.0**-14])
    calls = BACKEND.fast(layer.node(), "speed", None)
    assert calls is not None and len(calls) > 1
    assert all(call.cost / call.rows < 90_000 for call in calls)
    assert _compare(core, layer, Random(1)) == 512


def _sum(rng: Random, kind: str, elements: int) -> Node:
    """ADD or SUB of two tensors."""
    scales_ = [10 ** rng.uniform(-1, 0.5) for _ in range(3)]
    tensors = [
        Tensor(i, f"t{i}", (1, elements), "int8", Quant((scale,), (rng.choice([-128, 0, rng.randint(-128, 127)]),)))
        for i, scale in enumerate(scales_)
    ]
    options = {"FusedActivationFunction": "NONE"}
    return Graph("sum", tuple(tensors), (Operator(0, kind, 1, (0, 1), (2,), options),), (0, 1), (2,)).nodes[0]


@pytest.mark.parametrize("kind", ["ADD", "SUB"])
def test_sums(core: sim.Core, kind: str) -> None:
    """All 65,536 pairs of inputs, a tensor of any length, and scales whose ties no plane has."""
    rng = Random(kind)
    pairs = np.meshgrid(*[np.arange(-128, 128)] * 2)
    found = 0
    for elements in (1, 3, 255, 256, 257, 1025, *[1 << 16] * 3):
        node = _sum(rng, kind, elements)
        calls = BACKEND.fast(node, "speed", None)
        if calls is None:
            continue
        values = [np.resize(value.astype(np.int8), node.output.shape) for value in pairs]
        mark = core.mark()
        places = [core.put(value.tobytes()) for value in values] + [core.alloc(elements)]
        (call,) = calls
        code, params = core.load(call.routine.code), core.load(struct.pack("<4i", *call.params), 4)
        cut = rng.randint(0, call.rows)
        for rows in {(0, cut), (cut, call.rows)}:
            if rows[0] < rows[1]:
                core.call(code, core.block(places[0], places[1], places[2], 0, params, 0, rows))
        out = np.frombuffer(core.read(places[2], elements), np.int8)
        core.release(mark)
        assert np.array_equal(out, registry()[kind].reference(node, values)[0].ravel())
        found += 1
    assert found >= 7
    ties = Quant((0.5,), (0,))
    tensors = tuple(Tensor(i, f"t{i}", (4,), "int8", ties if i < 2 else Quant((1.0,), (0,))) for i in range(3))
    operator = Operator(0, kind, 1, (0, 1), (2,), {"FusedActivationFunction": "NONE"})
    assert BACKEND.fast(Graph("ties", tensors, (operator,), (0, 1), (2,)).nodes[0], "speed", None) is None


def test_both_stages_are_met() -> None:
    """A ReLU at -128 takes a line, outputs on both sides of the zero point TFLM's own arithmetic."""
    made = np.random.default_rng(3).integers(-127, 128, (16, 64), np.int8)
    layer = Layer("FULLY_CONNECTED", made, zero_points=(0, -128), scales=[2.0**-9 + i * 1e-5 for i in range(16)])
    relu = requantise.layer(replace(layer, options={"FusedActivationFunction": "RELU"}).node())
    plain = replace(layer, zero_points=(0, 5), options={"FusedActivationFunction": "NONE"})
    assert isinstance(line_stage(relu), Line)
    assert line_stage(requantise.layer(plain.node())) is None
    stage = exact_stage(requantise.layer(plain.node()), 23)
    assert isinstance(stage, Exact) and not stage.clamps
    six = replace(layer, zero_points=(0, -20), options={"FusedActivationFunction": "RELU6"})
    stage = exact_stage(requantise.layer(six.node()), 23)
    assert stage is not None and stage.clamps and (stage.low, stage.high) == (-20, -14)


@pytest.mark.parametrize("zero_point", [-128, 11])
def test_weights_of_minus_128(core: sim.Core, zero_point: int) -> None:
    """They fit an even row always, an odd one where the even row's weight there is not negative; else a wide matrix."""
    made = np.random.default_rng(4).integers(-128, 128, (8, 32), np.int8)
    made[::2, :8] = -128
    made[1::2][made[1::2] == -128] = -127
    made[1, 9], made[0, 9] = -128, 5
    scales_ = [0.0005] * 8
    layer = Layer("FULLY_CONNECTED", made, scales=scales_, zero_points=(3, zero_point))
    matrix = Matrix.of(layer.node())
    assert matrix is not None and not matrix.wide
    assert _compare(core, layer, Random(4)) == 8
    made = made.copy()
    made[1, 0] = -128
    layer = replace(layer, weights=made)
    matrix = Matrix.of(layer.node())
    assert matrix is not None and matrix.wide
    for seed in range(6):
        assert _compare(core, layer, Random(seed)) == 8


@pytest.mark.parametrize("zero_point", [-128, 0])
def test_sums_at_their_limit(core: sim.Core, zero_point: int) -> None:
    """A sum of 2^23 takes a wide matrix; one as large as any layer may have is exact still."""
    for columns, wide in ((515, False), (517, True), (20_000, True)):
        made = np.full((4, columns), 127, np.int8)
        made[1], made[2] = -127, -1
        layer = Layer("FULLY_CONNECTED", made, scales=[2.0**-16 * 500 / columns], zero_points=(0, zero_point))
        node = layer.node()
        matrix = Matrix.of(node)
        assert matrix is not None and matrix.wide == wide
        calls = BACKEND.fast(node, "speed", None)
        assert calls is not None
        for value in (-128, 127):
            inputs_ = np.full(node.input(0).shape, value, np.int8)
            np.testing.assert_array_equal(run(core, node, calls, inputs_, None)[0], expected(node, inputs_))


@pytest.mark.parametrize(
    "layer",
    [
        Layer("CONV_2D", np.ones((4, 3, 3, 4), np.int8), (5, 5, 8), options={"Padding": "SAME"}),
        Layer(
            "CONV_2D",
            np.ones((4, 3, 3, 4), np.int8),
            (7, 7, 4),
            options={"Padding": "SAME", "DilationHFactor": 2, "DilationWFactor": 2},
        ),
        Layer("CONV_2D", np.ones((4, 3, 3, 4), np.int8), (5, 5, 4), batch=2, options={"Padding": "SAME"}),
        Layer("CONV_2D", np.ones((3, 3, 3, 4), np.int8), (5, 5, 4), options={"Padding": "SAME"}),
        Layer("DEPTHWISE_CONV_2D", np.ones((1, 5, 5, 4), np.int8), (9, 9, 4), options={"Padding": "SAME"}),
        Layer("DEPTHWISE_CONV_2D", np.ones((1, 3, 3, 8), np.int8), (9, 9, 4), options={"Padding": "SAME"}),
        Layer("DEPTHWISE_CONV_2D", np.ones((1, 3, 3, 3), np.int8), (9, 9, 3), options={"Padding": "SAME"}),
        Layer("FULLY_CONNECTED", np.ones((4, 8), np.int8), batch=2),
    ],
    ids=[
        "groups", "dilated", "batch", "three filters", "5x5 depthwise", "multiplier", "three channels", "dense batch",
    ],
)  # fmt: skip
def test_left_to_the_general_kernel(layer: Layer) -> None:
    assert BACKEND.fast(layer.node(), "speed", None) is None


@pytest.mark.parametrize(
    ("name", "layer"),
    {
        "dense": Layer("FULLY_CONNECTED", np.ones((32, 128), np.int8)),
        "wide dense": Layer("FULLY_CONNECTED", np.full((8, 64), -128, np.int8)),
        "wide pointwise": Layer(
            "CONV_2D", np.full((16, 1, 1, 40), -128, np.int8), (5, 6, 40), options={"Padding": "SAME"}
        ),
        "pointwise": Layer("CONV_2D", np.ones((16, 1, 1, 24), np.int8), (5, 6, 24), options={"Padding": "SAME"}),
        "words": Layer("CONV_2D", np.ones((8, 3, 3, 8), np.int8), (6, 6, 8), options={"Padding": "SAME"}),
        "bytes": Layer("CONV_2D", np.ones((8, 3, 3, 3), np.int8), (6, 6, 3), options={"Padding": "SAME"}),
        "depthwise": Layer(
            "DEPTHWISE_CONV_2D", np.ones((1, 3, 3, 8), np.int8), (12, 12, 8), options={"Padding": "SAME"}
        ),
    }.items(),
)
def test_cost_is_near(core: sim.Core, name: str, layer: Layer) -> None:
    """What the plan cuts by is within a tenth of the emulated core's estimate."""
    for zero_point in (-128, 0):
        node = replace(layer, zero_points=(0, zero_point), scales=(0.001,)).node()
        calls = BACKEND.fast(node, "speed", None)
        assert calls is not None
        _, cycles = run(core, node, calls, np.zeros(node.input(0).shape, np.int8), None)
        assert sum(call.cost for call in calls) == pytest.approx(cycles, rel=0.1), name


@pytest.mark.soak
@pytest.mark.parametrize("kind", MAKERS)
def test_twenty_thousand_outputs(core: sim.Core, kind: str) -> None:
    rng = Random(f"m33 soak {kind}")
    done = cases = refused = 0
    while done < 20_000:
        size = _compare(core, _finished(rng, MAKERS[kind](rng)), rng)
        cases, refused, done = cases + 1, refused + (size is None), done + (size or 0)
    print(f"\narmv7emsp {kind}: {cases} layers, {refused} left to the general kernel, {done:,} outputs, 0 differ")
    assert refused < cases / 8
