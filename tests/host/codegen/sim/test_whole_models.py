"""Every int8 model of the shared folder as machine code: equal at every operator, on every arch, in its limits.

The small models run always, the large ones with all their golden inputs in `make soak`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from midgehost.codegen import sim
from midgehost.codegen.convert import plan_for
from midgehost.codegen.cost import milliseconds
from midgehost.codegen.sim.model import LoadedModel
from midgehost.deploy.verify import read_golden
from midgehost.models.convert import MAX_CALL_MS, load

SMALL = ("hello_world_int8", "tinymaix_mnist_valid_q", "mnist_cnn_int8")
LARGE = ("ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8")


@pytest.fixture(params=sim.ARCHES)
def core(request: pytest.FixtureRequest) -> Iterator[sim.Core]:
    pytest.importorskip("unicorn")
    with sim.core(request.param) as made:
        yield made


def _check(core: sim.Core, path: Path, form: str, check: str, limit: int | None = None) -> None:
    """Runs the golden vectors; every value of every operator must agree, and no kernel call be longer than allowed."""
    graph = load(path)
    inputs, outputs = read_golden(path.with_suffix(".golden.npz"))
    plan = plan_for(graph, None, core.arch, form, "ram")
    model = LoadedModel(core, plan)
    for i in range(len(inputs[0][:limit])):
        run = model.run([array[i] for array in inputs], check)
        assert [layer.mismatches for layer in run.layers] == [0] * len(run.layers)
        for got, wanted in zip(run.outputs, outputs, strict=True):
            assert np.array_equal(got.ravel(), wanted[i].ravel())
        assert milliseconds(run.longest_call, core.arch, 125) <= MAX_CALL_MS  # at the slowest clock


@pytest.mark.parametrize("form", ["speed", "size"])
@pytest.mark.parametrize("name", SMALL)
def test_small_models(core: sim.Core, models_dir: Path, name: str, form: str) -> None:
    """One input, every memory access checked."""
    _check(core, models_dir / f"{name}.tflite", form, "all", 1)


@pytest.mark.parametrize("name", ["ad01_int8", "kws_ref_model"])
def test_larger_models(core: sim.Core, models_dir: Path, name: str) -> None:
    """One input, each about a second."""
    _check(core, models_dir / f"{name}.tflite", "speed", "first", 1)


@pytest.mark.soak
@pytest.mark.parametrize("form", ["speed", "size"])
@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_all_inputs(core: sim.Core, models_dir: Path, name: str, form: str) -> None:
    """Every golden input of every model; memory is checked in each call's first row."""
    _check(core, models_dir / f"{name}.tflite", form, "first")
