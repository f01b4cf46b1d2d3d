"""The general kernels on emulated cores: every operator, every arch, equal to the reference, in random slices of rows.

Operators come from the generators of tests/host/models; the cores check every memory access.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from levels import Array, Job
from machine_jobs import run_call, run_on
from test_heavy_corners import ALMOST_ONE, EDGES, HIGHEST, constants, one_by_one
from test_heavy_ops import MAKERS as HEAVY
from test_small_ops import MAKERS as SMALL
from tflite_builder import OneOp, TensorSpec

from midgehost.codegen import kernels, sim
from midgehost.codegen.kernels import scaled_add
from midgehost.errors import ModelError
from midgehost.models.ops import registry

MAKERS = {**HEAVY, **SMALL}
MOVED = [kind for kind in MAKERS if kind not in ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")]  # those need no kernel
SOAK_OUTPUTS = 20_000
CODE_BUDGET = 9000  # bytes of all kernels of an arch; a board has 12 KB for the kernels of a model


@pytest.fixture(scope="module", params=sim.ARCHES)
def core(request: pytest.FixtureRequest) -> Iterator[sim.Core]:
    pytest.importorskip("unicorn")
    with sim.core(request.param) as made:
        yield made


def cases(kind: str, seed: int) -> Iterator[tuple[Job, Array]]:
    """Operators that midge takes, and their reference outputs, without end."""
    rng = Random(f"general {kind} {seed}")
    while True:
        model, inputs = MAKERS[kind](rng, kind.split()[0])
        node = model.node()
        operator = registry()[node.kind]
        try:
            operator.check(node)
        except ModelError:
            continue
        job = Job(node, operator.lower(node), inputs, rng.randrange(1 << 30))
        yield job, operator.reference(node, inputs)[0]


def compare(core: sim.Core, kind: str, outputs: int, seed: int) -> None:
    """Compares at least so many outputs."""
    for job, wanted in cases(kind, seed):
        (found,), _ = run_on(core, [job])
        np.testing.assert_array_equal(found[0], wanted, f"{core.arch} {job.node}")
        outputs -= wanted.size
        if outputs <= 0:
            return


def run_model(core: sim.Core, model: OneOp, inputs: list[Array]) -> tuple[Array, Array]:
    """What the core gives, and the reference."""
    node = model.node()
    operator = registry()[node.kind]
    operator.check(node)
    (found,), _ = run_on(core, [Job(node, operator.lower(node), inputs)])
    return found[0], operator.reference(node, inputs)[0]


@pytest.mark.parametrize("kind", MOVED)
def test_equals_the_reference(core: sim.Core, kind: str) -> None:
    compare(core, kind, 500, 0)


@pytest.mark.soak
@pytest.mark.parametrize("kind", MOVED)
def test_equals_the_reference_soak(core: sim.Core, kind: str) -> None:
    compare(core, kind, SOAK_OUTPUTS, 1)


@pytest.mark.parametrize("zero_point", [-128, 0, 127])
@pytest.mark.parametrize("scales", [ALMOST_ONE, (1.0, 1.0, 2.0**-20), (1.0, 1.0, 2.0**30), (1.0, 2.0**-29, 1.0)])
def test_sums_at_the_edges_of_int32(core: sim.Core, scales: tuple[float, float, float], zero_point: int) -> None:
    model = one_by_one([*EDGES, HIGHEST - 130], scales, zero_point)
    found, wanted = run_model(core, model, constants(model, np.zeros([1, 1, 1, 1], np.int8)))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("depth", [1, 2, 511, 512, 4095])
def test_softmax_over_many_equal_values(core: sim.Core, depth: int) -> None:
    specs = TensorSpec([1, depth], scale=0.1), TensorSpec([1, depth], scale=1 / 256, zero_point=-128)
    model = OneOp("SOFTMAX", specs[:1], specs[1:], {"Beta": 1.0}, 2)
    found, wanted = run_model(core, model, [np.full([1, depth], 7, np.int8)])
    np.testing.assert_array_equal(found, wanted)


def test_add_where_no_table_agrees(core: sim.Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact kernel, which takes over when the one without multiplications is not proved equal."""

    def none(params: Any, at: int) -> None:
        return None

    monkeypatch.setattr(scaled_add, "scaled", none)
    compare(core, "ADD", 300, 2)
    compare(core, "SUB", 300, 2)


def quantize(data: Array, scale: float, zero_point: int) -> tuple[OneOp, list[Array]]:
    shape = list(data.shape)
    target = TensorSpec(shape, scale=scale, zero_point=zero_point)
    return OneOp("QUANTIZE", [TensorSpec(shape, "float32")], [target]), [data]


@pytest.mark.parametrize("scale", [1.0, 0.1, 3e-39, 1e-45, 1e38, 0.0039215689])
def test_any_float_is_quantised(core: sim.Core, scale: float) -> None:
    """Random bits, infinities, subnormal numbers and halves of a step next to each other."""
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 1 << 32, 60, np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        halves = (np.arange(-300, 300, 23) + np.float32(0.5)).astype(np.float32) * np.float32(scale)
    near = [np.nextafter(halves, np.float32(side)) for side in (-np.inf, np.inf)]
    special = np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, 3.4e38, -3.4e38, 1.17549435e-38], np.float32)
    data = np.concatenate([bits[~np.isnan(bits)], halves, *near, special]).astype(np.float32)
    found, wanted = run_model(core, *quantize(data[~np.isnan(data)], scale, -3))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0xFFFFFFFF])
def test_not_a_number_is_an_error(core: sim.Core, bits: int) -> None:
    data = np.array([1.0, 0.0, 2.0], np.float32)
    data.view(np.uint32)[1] = bits
    model, inputs = quantize(data, 1.0, 0)
    node = model.node()
    job = Job(node, registry()[node.kind].lower(node), inputs, None)
    arena = core.put(bytes(job.arena()))
    assert run_call(core, job, job.lowering.calls[0], arena, Random(0), status=4) > 0


def test_all_kernels_fit_a_board() -> None:
    for arch in kernels.LOWERINGS:
        routines = [kernels.routine(name, arch) for name in kernels.PROGRAMS]
        assert sum(len(routine.code) for routine in routines) < CODE_BUDGET
