"""The cost model: what a call has to do, how near the general kernels' estimates are, and limits in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from midgehost.codegen import sim
from midgehost.codegen.convert import plan_for
from midgehost.codegen.cost import Work, call_limit, milliseconds, work
from midgehost.codegen.lowering import backend
from midgehost.codegen.sim.model import LoadedModel
from midgehost.deploy.verify import read_golden
from midgehost.models.convert import load
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Place

_LARGE = 20_000  # counts: below, nobody cuts a call


def _call(kernel: Kernel, params: list[int], rows: int) -> Call:
    return Call(kernel, Place(0), Place(1), params=params, rows=rows)


def test_work() -> None:
    """A 3 x 3 window over 4 x 4 pixels of 2 channels, with padding: 16 * 9 positions, 100 of them inside."""
    window = [4, 4, 4, 4, 3, 3, 1, 1, 1, 1, 1, 1]
    assert work(_call(Kernel.FULLY_CONNECTED, [64, 10], 20)) == Work(20, 20 * 64, 2 * 64)
    assert work(_call(Kernel.CONV_2D, [*window, 2, 5, 2], 4)) == Work(16 * 5, 16 * 9 * 2 * 5, 16 * 9 * (2 + 3))
    assert work(_call(Kernel.DEPTHWISE_CONV_2D, [*window, 2, 2, 1], 4)) == Work(32, 2 * 100, 10 * 4 * (2 + 3))
    assert work(_call(Kernel.MAX_POOL_2D, [*window, 2], 8)) == Work(64, 2 * 2 * 100, 2 * 10 * 4 * (2 + 3))
    assert work(_call(Kernel.MEAN, [12, 1, 2, 1, 2, 4, 2, 3, 8], 2)) == Work(2, 24, 2 * 3)
    assert work(_call(Kernel.COPY, [16, 1, 1, 1, 3, 16, 32], 3)) == Work(3, 3 * 4, 3)  # by words
    assert work(_call(Kernel.COPY, [16, 1, 1, 1, 3, 18, 32], 3)) == Work(3, 3 * 16, 3)  # by bytes
    assert work(_call(Kernel.SOFTMAX, [10], 2)) == Work(2, 20)


def test_limits() -> None:
    """A tenth to spare; an instruction takes 1.2 cycles."""
    assert call_limit(5, "armv6m", 125) == pytest.approx(0.9 * 625_000)
    assert milliseconds(1_000_000, "rv32imc", 160) == pytest.approx(7.5)
    assert milliseconds(call_limit(5, "xtensawin", 240), "xtensawin", 240) == pytest.approx(4.5)


@pytest.mark.parametrize("arch", sim.ARCHES)
def test_general_kernels_cost_what_the_model_says(arch: str, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a quarter for large calls. Where this fails a kernel has changed: `python tools/fit_costs.py --write`."""
    pytest.importorskip("unicorn")
    monkeypatch.setattr(type(backend(arch)), "fast", lambda *_: None)
    path = models_dir / "mnist_cnn_int8.tflite"
    plan = plan_for(load(path), None, arch, "speed", "ram")
    inputs, _ = read_golden(path.with_suffix(".golden.npz"))
    with sim.core(arch) as core:
        run = LoadedModel(core, plan).run([inputs[0][0]], check="first")
    large = np.array([(cost, count) for cost, count in zip(plan.costs, run.counts, strict=True) if count > _LARGE])
    assert len(large) >= 2 and run.mismatches == 0
    assert np.abs(large[:, 0] / large[:, 1] - 1).max() < 0.25
