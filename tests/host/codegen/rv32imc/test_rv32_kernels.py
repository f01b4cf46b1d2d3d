"""RV32's kernels on an emulated core: equal to the reference for random layers, corners, tiles and slices.

Every memory access is checked by the core. Counts of real layers are pinned, so that a slower kernel is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rv32_cases import Layer, Rng, expected, finished, inputs, run, weights

from midgehost.codegen import sim
from midgehost.codegen.machine import Form
from midgehost.codegen.rv32imc import conv
from midgehost.codegen.rv32imc.backend import BACKEND
from midgehost.models.convert import load

CODE_BYTES = 12 << 10  # of all routines of a model


@pytest.fixture(scope="module")
def core() -> Iterator[sim.Core]:
    pytest.importorskip("unicorn", reason="unicorn is missing: pip install 'midge[sim]'")
    with sim.core("rv32imc") as made:
        yield made


def _dense(rng: Rng) -> Layer:
    units = int(rng.choice([1, 3, 8, 12, 20, rng.integers(1, 40)]))
    depth = int(rng.integers(1024 // units + 1, 1024 // units + 90))
    shape = (int(rng.choice([1, 1, 1, 2, 7])), depth)
    return finished(rng, "FULLY_CONNECTED", shape, weights(rng, (units, depth), 0))


def _conv(rng: Rng) -> Layer:
    height, width = (int(side) for side in rng.choice([(1, 1), (3, 3), (1, 3), (5, 2), (10, 4)]))
    depth, filters = int(rng.choice([1, 2, 3, 5, 8, 12])), int(rng.choice([2, 3, 4, 7, 12]))
    same = rng.random() < 0.7
    size = [int(rng.integers(1 if same else side, side + 7)) for side in (height, width)]
    strides = [int(rng.choice([1, 1, 2, 3])) for _ in "hw"]
    options = {"StrideH": strides[0], "StrideW": strides[1], "Padding": "SAME" if same else "VALID"}
    made = weights(rng, (filters, height, width, depth), 0)
    return finished(rng, "CONV_2D", (1, *size, depth), made, options)


def _depthwise(rng: Rng) -> Layer:
    depth, stride, same = int(rng.choice([1, 2, 3, 4, 6, 9])), int(rng.choice([1, 2])), rng.random() < 0.7
    size = [int(rng.choice([1 if same else 3, 4, 5, 8, 13, rng.integers(3, 20)])) for _ in "hw"]
    if rng.random() < 0.1:
        size[int(rng.integers(2))] = int(rng.integers(60, 100))  # bands, or a wider pitch
    options = {"StrideH": stride, "StrideW": stride, "Padding": "SAME" if same else "VALID", "DepthMultiplier": 1}
    return finished(rng, "DEPTHWISE_CONV_2D", (1, *size, depth), weights(rng, (1, 3, 3, depth), 3), options)


MAKERS: dict[str, Callable[[Rng], Layer]] = {"dense": _dense, "conv": _conv, "depthwise": _depthwise}


def _compare(core: sim.Core, layer: Layer, rng: Rng) -> int | None:
    """The number of equal outputs, None where the kernels here do not take the layer."""
    node = layer.node()
    form: Form = "speed" if rng.random() < 0.5 else "size"
    tile_bytes = int(rng.choice([600, 1200, 4032])) if rng.random() < 0.4 else None
    calls = BACKEND.fast(node, form, tile_bytes)
    if calls is None:
        return None
    assert tile_bytes is None or all(len(call.weights) <= tile_bytes for call in calls)
    value = inputs(rng, layer)
    found, count = run(core, node, calls, value, rng)
    np.testing.assert_array_equal(found, expected(node, value), f"{layer}")
    assert count > 0
    return found.size


@pytest.mark.parametrize("kind", MAKERS)
def test_random_layers(core: sim.Core, kind: str) -> None:
    rng = np.random.default_rng(list(kind.encode()))
    sizes = [_compare(core, MAKERS[kind](rng), rng) for _ in range(50)]
    assert sum(size is not None for size in sizes) >= 30


@pytest.mark.soak
@pytest.mark.parametrize("kind", MAKERS)
def test_twenty_thousand_outputs(core: sim.Core, kind: str) -> None:
    rng = np.random.default_rng([1, *kind.encode()])
    done = cases = refused = 0
    while done < 20_000:
        size = _compare(core, MAKERS[kind](rng), rng)
        cases, refused, done = cases + 1, refused + (size is None), done + (size or 0)
    print(f"\nrv32imc {kind}: {cases} layers, {refused} left to the general kernel, {done:,} outputs, 0 differ")
    assert refused < cases / 2


def test_every_tail_and_every_chunk_was_run(core: sim.Core) -> None:
    """Straight, bent and exact tails, alone and mixed, and weights with long and short chunks, in one layer each."""
    rng = np.random.default_rng(5)
    made = np.concatenate(
        [
            np.zeros((2, 1, 1, 60)),
            rng.integers(-1, 2, (2, 1, 1, 60)),
            np.full((2, 1, 1, 60), -128),
            rng.integers(-127, 128, (6, 1, 1, 60)),
        ]
    ).astype(np.int8)
    scales = [0.01, 0.01, 0.5, 0.5, 5e-5, 5e-5, 1e-3, 1e-3, 3.0, 1e-3, 2.0**-33, 1e-3]
    seen: set[str] = set()
    for zero_point in (-128, 5):
        options = {"StrideH": 1, "StrideW": 1, "Padding": "VALID", "FusedActivationFunction": "NONE"}
        layer = Layer("CONV_2D", (1, 4, 3, 60), made, scales, np.arange(12) - 5, (3, zero_point), options)
        node = layer.node()
        tails = conv.Tails.of(node)
        seen |= {tails.kind([channel]) for channel in range(12)}
        calls = BACKEND.fast(node, "speed", None)
        assert calls is not None
        for value in (np.full(layer.shape, -128, np.int8), rng.integers(-128, 128, layer.shape).astype(np.int8)):
            np.testing.assert_array_equal(run(core, node, calls, value, None)[0], expected(node, value))
    assert seen == {"straight", "bent", "exact"}


@pytest.mark.parametrize(
    ("model", "operator", "form", "instructions"),
    [
        ("ad01_int8", 1, "speed", 31_000),
        ("ad01_int8", 1, "size", 42_500),
        ("mnist_cnn_int8", 0, "speed", 61_000),
        ("mnist_cnn_int8", 1, "speed", 72_000),
        ("mnist_cnn_int8", 2, "speed", 26_000),
        ("vww_96_int8", 23, "speed", 80_000),
        ("vww_96_int8", 26, "speed", 800_000),
    ],
)
def test_real_layers_take_no_more_instructions(
    core: sim.Core, models_dir: Path, model: str, operator: int, form: Form, instructions: int
) -> None:
    graph = load(models_dir / f"{model}.tflite")
    node = graph.nodes[operator]
    calls = BACKEND.fast(node, form, None)
    assert calls is not None
    value = np.random.default_rng(operator).integers(-128, 128, node.input(0).shape).astype(np.int8)
    found, count = run(core, node, calls, value, None)
    np.testing.assert_array_equal(found, expected(node, value))
    assert count <= instructions
    assert sum(call.cost for call in calls) == pytest.approx(count, rel=0.15)


@pytest.mark.parametrize("model", ["kws_ref_model", "pretrainedResnet_quant", "vww_96_int8"])
def test_the_routines_of_a_model_are_small_enough(models_dir: Path, model: str) -> None:
    routines: dict[bytes, str] = {}
    for node in load(models_dir / f"{model}.tflite").nodes:
        calls = BACKEND.fast(node, "speed", None) or []
        routines.update({call.routine.code: call.routine.name for call in calls})
    assert sum(map(len, routines)) <= CODE_BYTES - 2048, routines.values()  # leaves room for the general ones
