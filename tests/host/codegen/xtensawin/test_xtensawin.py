"""The Xtensa kernels against the numpy reference: random layers, adversarial inputs, slices, tiles, counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from xtensa_layers import convolution, dense, extreme_multipliers, inputs, reference, run

from midgehost.codegen.machine import Form
from midgehost.codegen.sim import Core, core
from midgehost.codegen.sim.qemu_xtensa import QemuXtensa, available
from midgehost.codegen.xtensawin.backend import BACKEND
from midgehost.models.graph import Node

FORMS: tuple[Form, ...] = ("speed", "size")
Rng = np.random.Generator
Maker = Callable[[Rng, bool], Node]


@pytest.fixture(scope="module")
def machine() -> Iterator[Core]:
    with core("xtensawin") as made:
        yield made


def _multipliers(rng: Rng, channels: int, extreme: bool) -> dict[str, np.ndarray]:
    return {"reals": extreme_multipliers(rng, channels)} if extreme else {}


def _dense(rng: Rng, extreme: bool) -> Node:
    units = int(rng.integers(1, 12))
    return dense(rng, int(rng.integers(1, 70)), units, **_multipliers(rng, units, extreme))


def _batch(rng: Rng, extreme: bool) -> Node:
    units = int(rng.integers(1, 12))
    return dense(rng, 4 * int(rng.integers(1, 9)), units, int(rng.integers(2, 6)), **_multipliers(rng, units, extreme))


def _pointwise(rng: Rng, extreme: bool) -> Node:
    filters = int(rng.integers(1, 12))
    size = int(rng.integers(1, 7)), int(rng.integers(1, 7)), 4 * int(rng.integers(1, 10))
    return convolution(rng, size, filters, (1, 1), **_multipliers(rng, filters, extreme))


def _windowed(rng: Rng, extreme: bool) -> Node:
    filters = int(rng.integers(1, 9))
    kernel = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    strides = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    size = (
        kernel[0] + int(rng.integers(0, 7)),
        kernel[1] + int(rng.integers(0, 7)),
        int(rng.choice([1, 2, 3, 4, 5, 8, 12])),
    )
    padding = str(rng.choice(["SAME", "VALID"]))
    return convolution(rng, size, filters, kernel, strides, padding, **_multipliers(rng, filters, extreme))


def _depthwise(rng: Rng, extreme: bool) -> Node:
    channels = int(rng.integers(1, 7))
    strides = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    size = 3 + int(rng.integers(0, 8)), 3 + int(rng.integers(0, 8)), channels
    padding = str(rng.choice(["SAME", "VALID"]))
    how = _multipliers(rng, channels, extreme)
    return convolution(rng, size, channels, (3, 3), strides, padding, "DEPTHWISE_CONV_2D", **how)


MAKERS: dict[str, Maker] = {
    "dense": _dense, "batch": _batch, "pointwise": _pointwise, "windowed": _windowed, "depthwise": _depthwise,
}  # fmt: skip


def _compare(machine: Core, seed: int, make: Maker, form: Form) -> int:
    """Compares one random layer for all its inputs; the number of outputs compared."""
    rng = np.random.default_rng(seed)
    node = make(rng, rng.random() < 0.3)
    tile_bytes = int(rng.integers(64, 2000)) if rng.random() < 0.3 else None
    calls = BACKEND.fast(node, form, tile_bytes)
    assert calls is not None
    compared = 0
    for x in inputs(rng, node):
        found, _ = run(machine, node, calls, x, rng)
        assert np.array_equal(found, reference(node, x)), f"seed {seed}"
        compared += found.size
    return compared


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MAKERS)
def test_layers_equal_the_reference(machine: Core, name: str, form: Form) -> None:
    for seed in range(8):
        _compare(machine, seed, MAKERS[name], form)


@pytest.mark.soak
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MAKERS)
def test_twenty_thousand_outputs_equal_the_reference(machine: Core, name: str, form: Form) -> None:
    compared, seed = 0, 1000
    while compared < 20_000:
        compared += _compare(machine, seed, MAKERS[name], form)
        seed += 1


@pytest.mark.parametrize("form", FORMS)
def test_sums_beyond_32_bits_with_their_shift(machine: Core, form: Form) -> None:
    """-128 everywhere: 600 products are beyond 2^23, and 2^31 when shifted; 2000 are beyond it by far."""
    for depth in (600, 2000):
        weights = np.full((3, depth), -128, np.int8)
        weights[1] = 127
        reals = np.array([1e-5, 2e-5, 3.0])
        node = dense(np.random.default_rng(depth), depth, 3, weights=weights, reals=reals)
        image = convolution(
            np.random.default_rng(depth), (2, 2, depth), 3, (1, 1), weights=weights.reshape(3, 1, 1, -1), reals=reals
        )
        for layer in (node, image):
            calls = BACKEND.fast(layer, form, None)
            assert calls is not None
            for x in inputs(np.random.default_rng(1), layer):
                assert np.array_equal(run(machine, layer, calls, x)[0], reference(layer, x))


# One layer a kernel, small enough for qemu's log.
SMALL: dict[str, Callable[[Rng], Node]] = {
    "dense": lambda rng: dense(rng, 18, 6),
    "pointwise": lambda rng: convolution(rng, (3, 3, 8), 5, (1, 1)),
    "windowed_fours": lambda rng: convolution(rng, (5, 4, 4), 4, (3, 3), (2, 1)),
    "windowed_bytes": lambda rng: convolution(rng, (6, 5, 1), 4, (3, 3), (2, 2)),
    "windowed_halves": lambda rng: convolution(rng, (4, 4, 3), 4, (2, 3)),
    "depthwise_1": lambda rng: convolution(rng, (4, 5, 4), 4, (3, 3), kind="DEPTHWISE_CONV_2D"),
    "depthwise_2": lambda rng: convolution(rng, (6, 5, 4), 4, (3, 3), (2, 2), kind="DEPTHWISE_CONV_2D"),
}


@pytest.mark.skipif(not available(), reason="qemu-xtensa is missing: apt-get install qemu-user")
@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_counts_are_those_of_qemu(machine: Core, name: str) -> None:
    rng = np.random.default_rng(5)
    node = SMALL[name](rng)
    for form in FORMS:
        calls = BACKEND.fast(node, form, None)
        assert calls is not None and all(call.routine.name.startswith(name) for call in calls)
        x = next(iter(inputs(rng, node)))
        found, counts = run(machine, node, calls, x)
        on_qemu, counts_on_qemu = run(QemuXtensa(), node, calls, x)
        assert np.array_equal(found, reference(node, x))
        assert np.array_equal(found, on_qemu)
        assert counts == counts_on_qemu


def test_costs_are_near_the_counts(machine: Core) -> None:
    rng = np.random.default_rng(6)
    layers = [
        dense(rng, 128, 32),
        convolution(rng, (8, 5, 32), 24, (1, 1)),
        convolution(rng, (12, 12, 8), 12, (3, 3)),
        convolution(rng, (20, 12, 1), 16, (4, 4), (2, 2)),
        convolution(rng, (12, 10, 3), 16, (3, 3)),
        convolution(rng, (12, 9, 8), 8, (3, 3), kind="DEPTHWISE_CONV_2D"),
        convolution(rng, (12, 12, 8), 8, (3, 3), (2, 2), kind="DEPTHWISE_CONV_2D"),
    ]
    for node in layers:
        for form in FORMS:
            calls = BACKEND.fast(node, form, None)
            assert calls is not None
            _, counts = run(machine, node, calls, next(iter(inputs(rng, node))))
            for call, count in zip(calls, counts, strict=True):
                assert call.cost == pytest.approx(count, rel=0.06, abs=100), call.routine.name


def test_code_fits_an_esp32(machine: Core) -> None:
    """All hand-written routines of a model with every kind of layer, and no literal pool in the inner loops' way."""
    rng = np.random.default_rng(7)
    for form in FORMS:
        routines = {call.routine.code for make in SMALL.values() for call in BACKEND.fast(make(rng), form, None) or ()}
        assert sum(map(len, routines)) < 8000


@pytest.mark.parametrize(
    "node",
    [
        convolution(np.random.default_rng(1), (4, 4, 4), 4, (5, 5), kind="DEPTHWISE_CONV_2D"),
        convolution(np.random.default_rng(1), (9, 9, 4), 4, (3, 3), (3, 3), kind="DEPTHWISE_CONV_2D"),
        convolution(np.random.default_rng(1), (4, 4, 2), 4, (3, 3), kind="DEPTHWISE_CONV_2D"),
        dense(np.random.default_rng(1), 10, 4, batch=3),
        convolution(np.random.default_rng(1), (64, 64, 96), 4, (3, 3)),
    ],
)
def test_other_layers_are_left_to_the_general_kernels(node: Node) -> None:
    assert BACKEND.fast(node, "speed", None) is None
