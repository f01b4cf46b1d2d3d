"""Detectors on machine code: the device's own classes on an emulated core, bit by bit as in single precision."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import detector_references as references
import numpy as np
import pytest
from emulated_device import emulated

import float32
from midgehost.codegen.kernels import LOWERINGS
from midgehost.codegen.signal import detectors
from midgehost.codegen.signal.module import MODULES, machine_code

KINDS = ("multiscale", "context")
PARAMS: dict[str, list[dict[str, Any]]] = {
    "multiscale": [{}, {"resolution": 0.0078125, "threshold": 0.7}],
    "context": [{"probation": 305}, {"probation": 41, "holdoff": 5}],
}
SHARED = (
    "artificialNoAnomaly/art_daily_small_noise",
    "artificialWithAnomaly/art_daily_jumpsup",
    "realAWSCloudwatch/ec2_cpu_utilization_5f5533",
    "realKnownCause/machine_temperature_system_failure",
)


@pytest.fixture(autouse=True)
def _emulators() -> None:
    pytest.importorskip("unicorn")


def signals(n: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Signals that reach every branch: drifts that move the reference, spikes that are clipped, quantised rest."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 0.5, n)) + rng.normal(0, 2, n)
    walk[n // 2] += 500
    walk[2 * n // 3 :] += 90
    yield "walk", np.round(walk * 4) / 4
    yield "pressure", rng.normal(101325, 1, n)
    yield "far step", np.where(np.arange(n) > n // 2, 1e6, 3.0) + rng.normal(0, 1, n)
    yield "glitches", np.where(rng.random(n) < 0.01, rng.normal(0, 1e11, n), rng.normal(5, 1e-3, n))
    yield "resting", np.round(rng.normal(0, 0.6, n)) * 0.0625
    yield "stairs", np.arange(n) // 90 % 5 * np.where(np.arange(n) % 90 < 40, 1.0, -1.0)


def state(judge: Any) -> list[Any]:
    """All that a detector remembers."""
    held = [judge._scales._floats, judge._scales._counts]
    if hasattr(judge, "_contexts"):
        held += [judge._floats, judge._contexts._seen, judge._contexts._last, judge._contexts._stay]
        if judge._recording is not None:
            held += [judge._recording._codes, judge._recording._floats]
    return [list(part) for part in held]  # equal numbers, a zero of either sign


def check(arch: str, kind: str, params: dict[str, Any], n: int, seed: int, cases: int = 6) -> None:
    """Score, alarm and state after every sample."""
    for name, values in islice(signals(n, seed), cases):
        wanted = float32.detector(kind, **params)
        with emulated(arch) as device:
            judge = device.module("anomaly").make(kind, params)
            for i, x in enumerate(values.astype(np.float32)):
                score = wanted.update(x)
                assert judge.update(x) == score, f"{name}, sample {i}"
                assert bool(judge.alarm) == bool(wanted.alarm), f"{name}, sample {i}"
                assert i % 16 or state(judge) == state(wanted), f"{name}, sample {i}"
            assert state(judge) == state(wanted), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arch", LOWERINGS)
def test_every_score_is_that_of_single_precision(arch: str, kind: str) -> None:
    check(arch, kind, PARAMS[kind][0], 380, 1, cases=6 if arch == "armv6m" else 2)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arch", LOWERINGS)
def test_thousands_of_scores_are_those_of_single_precision(arch: str, kind: str) -> None:
    for params in PARAMS[kind]:
        for seed in (2, 3):
            check(arch, kind, params, 3000, seed)


def alarms(kind: str, values: list[float], arch: str = "armv6m", **params: Any) -> list[int]:
    with emulated(arch) as device:
        judge = device.module("anomaly").make(kind, params)
        found: list[int] = []
        for i, x in enumerate(np.asarray(values, dtype=np.float32)):
            judge.update(x)
            if judge.alarm:
                found.append(i)
    return found


def series(path: Path) -> list[float]:
    with path.open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file)]


def check_series(path: Path, kind: str, n: int | None = None) -> None:
    """The alarms of machine code against the reference in double precision."""
    values = series(path)[:n]
    judged = getattr(references, kind)(values)
    assert alarms(kind, values) == [i for i, (_, alarm) in enumerate(judged) if alarm], path.stem


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHARED[2:3])
def test_same_alarms_as_in_double_precision(data_dir: Path, name: str, kind: str) -> None:
    check_series(data_dir / "nab" / f"{name}.csv", kind, 1500)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHARED)
def test_same_alarms_as_in_double_precision_on_all_shared_series(data_dir: Path, name: str, kind: str) -> None:
    check_series(data_dir / "nab" / f"{name}.csv", kind)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_same_alarms_as_in_double_precision_on_the_whole_benchmark(kind: str) -> None:
    if "MIDGE_NAB" not in os.environ:
        pytest.skip("the benchmark is absent: clone github.com/numenta/NAB and point MIDGE_NAB at it")
    paths = sorted((Path(os.environ["MIDGE_NAB"]) / "data").rglob("*.csv"))
    assert len(paths) == 58
    for path in paths:
        check_series(path, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e12, -2e12])
def test_no_number_is_refused_and_leaves_no_trace(kind: str, bad: float) -> None:
    with emulated("armv6m") as device:
        judge = device.module("anomaly").make(kind, PARAMS[kind][0])
        for x in np.random.default_rng(3).normal(0, 1, 330).astype(np.float32):
            judge.update(x)
        before = state(judge)
        with pytest.raises(ValueError, match="not a usable number"):
            judge.update(np.float32(bad))
        assert state(judge) == before


@pytest.mark.parametrize("kind", KINDS)
def test_reset_and_settings_reach_the_machine_code(kind: str) -> None:
    x = np.random.default_rng(3).normal(0, 1, 400).astype(np.float32)
    x[380] = 200
    with emulated("armv6m") as device:
        judge = device.module("anomaly").make(kind, PARAMS[kind][0])
        first = [(judge.update(value), judge.alarm) for value in x]
        assert any(alarm for _, alarm in first)
        judge.reset()
        assert [(judge.update(value), judge.alarm) for value in x] == first
        judge.reset()
        judge.threshold = 1e6
        assert not any(judge.update(value) is not None and judge.alarm for value in x)


def test_a_flat_probation_leaves_the_scales_at_work() -> None:
    assert alarms("context", [5.0] * 400 + [9.0], probation=320) == [400]


def test_no_sample_takes_long() -> None:
    """Cycles of a Cortex-M0+; the call from Python and what surrounds it are measured on the stock image."""
    x = np.random.default_rng(3).normal(20, 1, 1000).astype(np.float32)
    for kind, most, replaying in (("multiscale", 3400, 3400), ("context", 4900, 11_500)):
        with emulated("armv6m") as device:
            judge = device.module("anomaly").make(kind)
            for value in x:
                judge.update(value)
        assert max(device.counts[300:750]) < most
        assert max(device.counts[750:850]) < replaying
        assert max(device.counts[850:]) < most


def test_the_code_is_as_small_as_promised_and_its_replay_is_the_device_s() -> None:
    sizes = {name: sum(len(machine_code(name, f, "armv6m")) for f in MODULES[name]) for name in MODULES}
    assert sizes["multiscale"] <= 4500
    assert sizes["context"] <= 9400
    assert sizes["spectrum"] <= 2700
    with emulated("armv6m") as device:
        assert device.module("anomaly.context")._REPLAYED == detectors.REPLAYED


@pytest.mark.parametrize("arch", LOWERINGS)
def test_a_board_s_rehearsal_ends_as_it_expects(arch: str) -> None:
    with emulated(arch) as device:
        rehearsal = device.module("kernels.rehearsal")
        assert {name: rehearsal.outcome(name) for name in MODULES} == rehearsal.OUTCOMES
