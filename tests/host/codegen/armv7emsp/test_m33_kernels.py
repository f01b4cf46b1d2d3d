"""The Cortex-M33's kernels on an emulated core: equal to the reference for random layers, corners and slices.

Every memory access is checked by the core, every cut of the rows gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from m33_cases import Layer, expected, inputs, run, scales, weights

from midgehost.codegen import requantise, sim
from midgehost.codegen.armv7emsp import packing
from midgehost.codegen.armv7emsp.backend import BACKEND
from midgehost.codegen.armv7emsp.stage import Exact, Line, exact_stage, line_stage


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
    assert sum(call.macs for call in calls) == node.output.elements * layer.weights[..., 0].size // (
        1 if layer.kind == "DEPTHWISE_CONV_2D" else layer.weights.shape[0]
    ) * (1 if layer.kind == "DEPTHWISE_CONV_2D" else layer.weights.shape[-1])
    value = inputs(rng, node.input(0).shape, layer.weights)
    found, _ = run(core, node, calls, value, rng)
    np.testing.assert_array_equal(found, expected(node, value), f"{layer.kind} {layer}")
    return found.size


@pytest.mark.parametrize("kind", MAKERS)
def test_random_layers(core: sim.Core, kind: str) -> None:
    """Nearly all layers of these shapes have a fast kernel."""
    rng = Random(f"m33 {kind}")
    sizes = [_compare(core, _finished(rng, MAKERS[kind](rng)), rng) for _ in range(40)]
    assert sum(size is not None for size in sizes) >= 36


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
