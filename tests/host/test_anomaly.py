"""The device's detectors against references in double precision, in single precision, and on broken sensors."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import detector_references as references
import numpy as np
import pytest

import float32
from midgehost import twin

KINDS = twin.DETECTORS
SERIES = (
    "artificialNoAnomaly/art_daily_small_noise",
    "artificialWithAnomaly/art_daily_jumpsup",
    "realAWSCloudwatch/ec2_cpu_utilization_5f5533",
    "realKnownCause/machine_temperature_system_failure",
)


def pressure(n: int, seed: int = 3) -> np.ndarray:
    """A barometer's 101325 +- 1 Pa: the signal whose variance float32 loses when sums are kept carelessly."""
    return (101325 + np.random.default_rng(seed).uniform(-1, 1, n)).astype(np.float32)


def restless(n: int, seed: int = 3) -> np.ndarray:
    """The same height with a normal deviation of 1."""
    return (101325 + np.random.default_rng(seed).normal(0, 1, n)).astype(np.float32)


def alarms(kind: str, values: Any, **params: Any) -> list[int]:
    return [i for i, (_, alarm) in enumerate(twin.feed(twin.detector(kind, **params), values)) if alarm]


def buffers(owner: Any) -> Iterator[array[Any] | bytearray]:
    """Every array and bytearray that an object holds, its parts' included."""
    for value in vars(owner).values():
        if isinstance(value, (array, bytearray)):
            yield value
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            yield from buffers(value)


def state_bytes(judge: Any) -> int:
    return sum(len(bytes(buffer)) for buffer in buffers(judge))


def snapshot(judge: Any) -> list[Any]:
    return [judge.alarm, *(bytes(buffer) for buffer in buffers(judge))]


# --- the same alarms as in double precision -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SERIES)
def test_same_alarms_as_the_reference_on_nab(data_dir: Path, name: str, kind: str) -> None:
    with (data_dir / "nab" / f"{name}.csv").open(newline="") as file:
        values = [float(row["value"]) for row in csv.DictReader(file)]
    reference: Callable[[list[float]], list[references.Judgement]] = getattr(references, kind)
    wanted = [i for i, (_, alarm) in enumerate(reference(values)) if alarm]
    assert alarms(kind, values) == wanted
    single = float32.feed(float32.detector(kind), values[:6000])
    assert [i for i, (_, alarm) in enumerate(single) if alarm] == [i for i in wanted if i < 6000]


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("kind", KINDS)
def test_same_alarms_as_the_reference_at_any_height(kind: str, offset: float) -> None:
    rng = np.random.default_rng(5)
    x = np.cumsum(rng.normal(0, 0.5, 4000)) + rng.normal(0, 2, 4000) + 40 * np.sin(np.arange(4000) / 30)
    x[1500] += 120
    x[2500:2540] -= 60
    x[3200:] += 90
    values = (np.round(x * 4) / 4 + offset).tolist()
    wanted = [i for i, (_, alarm) in enumerate(getattr(references, kind)(values)) if alarm]
    assert wanted, "a test signal without alarms proves nothing"
    assert alarms(kind, values) == wanted


# --- single precision over the long run -----------------------------------------------------------------------------


def deviation_errors(values: np.ndarray) -> np.ndarray:
    """Relative errors of WindowZScore's standard deviation in float32, over full windows."""
    judge = float32.detector("window")
    exact = np.lib.stride_tricks.sliding_window_view(values.astype(np.float64), 100).std(axis=1)
    found = np.empty(len(values))
    for i, x in enumerate(values):
        judge.update(x)
        _, total, squares, _ = judge._sums.astype(np.float64)
        found[i] = math.sqrt(max(squares / 100 - (total / 100) ** 2, 0))
    return np.abs(found[99:] - exact) / exact


def check_window(n: int) -> dict[str, tuple[float, float]]:
    """The signals of the research notes' table; returns median and largest error of each."""
    glitch = pressure(n)
    glitch[n // 3] = 0
    noise = np.random.default_rng(4).normal(0, 1, n)
    bounds = {
        "101325 +- 1": (pressure(n), 5e-8, 1.4e-6),
        "after one 0-reading": (glitch, 5e-8, 1.7e-6),
        "101325, normal": (restless(n), 5e-8, 1e-5),
        "drift 0 to 1e5": ((np.linspace(0, 1e5, n) + noise).astype(np.float32), 8e-7, 4e-6),
    }
    measured: dict[str, tuple[float, float]] = {}
    for name, (values, median, largest) in bounds.items():
        errors = deviation_errors(values)
        measured[name] = (float(np.median(errors)), float(errors.max()))
        assert measured[name][0] <= median, f"{name}: median {measured[name][0]:.1e}"
        assert measured[name][1] <= largest, f"{name}: largest {measured[name][1]:.1e}"
    return measured


def check_scales(n: int) -> float:
    """MultiscaleZScore's scores in float32 against double precision; returns the largest relative error."""
    values = pressure(n)
    values[n // 3] = 0
    reference = references.Multiscale()
    largest = 0.0
    for x, (score, _) in zip(values, float32.feed(float32.detector("multiscale"), values), strict=True):
        wanted = reference.step(float(x) - 101325)
        if score is not None and wanted is not None:
            largest = max(largest, abs(math.sqrt(score) - math.sqrt(wanted)) / max(math.sqrt(wanted), 1.0))
    assert largest <= 1e-3, f"largest error {largest:.1e}"
    return largest


def test_single_precision_keeps_the_deviation() -> None:
    check_window(9000)


def test_single_precision_keeps_the_scores() -> None:
    check_scales(9000)


@pytest.mark.soak
def test_single_precision_over_a_million_samples() -> None:
    print("\n| 1e6 samples, float32 | median | largest relative error |\n|---|---|---|")
    for name, (median, largest) in check_window(1_000_000).items():
        print(f"| window: {name} | {median:.1e} | {largest:.1e} |")
    print(f"| multiscale: 101325 +- 1 with a 0-reading | | {check_scales(1_000_000):.1e} |")


# --- broken sensors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300, -2e12])
@pytest.mark.parametrize("kind", KINDS)
def test_no_number_is_refused_and_leaves_no_trace(kind: str, bad: float) -> None:
    for fed in (0, 5, 1200):
        judge = twin.detector(kind)
        for x in pressure(fed).tolist():
            judge.update(x)
        before = snapshot(judge)
        with pytest.raises(ValueError, match="not a usable number"):
            judge.update(bad)
        assert snapshot(judge) == before
        clean = twin.detector(kind)
        list(twin.feed(clean, pressure(fed).tolist()))
        assert judge.update(101325.0) == clean.update(101325.0)


STUCK = [*restless(1500).tolist(), *([101325.3] * 3000)]


@pytest.mark.parametrize("kind", ["window", "multiscale"])
def test_a_stuck_value_is_no_anomaly(kind: str) -> None:
    assert [i for i in alarms(kind, STUCK) if i > 1600] == []


def test_context_says_that_a_value_is_stuck_ever_more_rarely() -> None:
    # A signal that never rested rests for 256, 512, 1024, 2048 samples: each a context that it has not shown before.
    found = np.array([i for i in alarms("context", STUCK) if i > 1600])
    assert len(found) == 4
    assert np.diff(found).tolist() == [256, 512, 1024]


def test_window_scores_zero_while_the_value_is_stuck() -> None:
    # The varied values leave the window one by one, and their rounding errors with them.
    values = [*(pressure(730) * 30).tolist(), *([0.7] * 400)]
    scores = [score for score, _ in twin.feed(twin.detector("window"), values)]
    assert scores[-290:] == [0.0] * 290


@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_reading_alarms_once_and_is_forgotten(kind: str) -> None:
    x = pressure(3000)
    x[1500] = 0
    found = [i for i in alarms(kind, x.tolist()) if i > 1400]
    assert found[0] == 1500
    clean = [i for i in alarms(kind, pressure(3000).tolist()) if i > 1800]
    assert [i for i in found if i > 1800] == clean


def test_a_first_zero_reading_does_not_blind_the_window() -> None:
    x = pressure(1000)
    x[0] = 0
    scores = [score for score, _ in twin.feed(twin.detector("window"), x.tolist())]
    wanted = [score for score, _ in references.window(x.tolist())]
    assert scores[100:] == pytest.approx(wanted[100:], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", ["multiscale", "context"])
def test_resolution_excuses_the_first_step_of_a_resting_sensor(kind: str) -> None:
    resting = [21.5] * 1000 + [21.5625] * 500
    assert alarms(kind, resting) == [1000]
    assert alarms(kind, resting, resolution=0.0625) == []
    assert alarms(kind, [*resting, 30.0], resolution=0.0625) == [1500]


# --- the rules, one by one ------------------------------------------------------------------------------------------


def test_window_speaks_after_ten_samples_and_keeps_its_ceiling() -> None:
    scores = [score for score, _ in twin.feed(twin.detector("window"), [1.0] * 9 + [5.0] + [1.0] * 90 + [9.0])]
    assert scores[:9] == [None] * 9
    assert scores[9] == pytest.approx(3, rel=1e-6)  # sqrt(n - 1): ten samples never alarm
    assert scores[9] < 3
    assert max(score for score in scores if score is not None) <= math.sqrt(99)
    spike = list(twin.feed(twin.detector("window"), [1.0] * 99 + [2.0]))
    assert spike[-1] == (pytest.approx(math.sqrt(99), rel=1e-4), True)


def test_window_forgets_what_left_it() -> None:
    # A hammer blow that dies away: what remains is eight orders of magnitude below what was.
    blow = [1e4 * 0.8**i for i in range(150)]
    scores = [score for score, _ in twin.feed(twin.detector("window", size=20), blow)]
    wanted = [score for score, _ in references.window(array("f", blow), size=20)]
    assert scores[:10] == [None] * 9 + [pytest.approx(wanted[9], rel=1e-4)]
    assert scores[10:60] == pytest.approx(wanted[10:60], rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "params", "apart"), [("multiscale", {"holdoff": 50}, 50), ("context", {"holdoff": 60}, 60)]
)
def test_alarms_keep_their_distance(kind: str, params: dict[str, int], apart: int) -> None:
    x = pressure(3000, seed=8)
    x[1500:] += np.random.default_rng(2).choice([0, 50], 1500).astype(np.float32)
    gaps = np.diff(alarms(kind, x.tolist(), holdoff=50))
    assert len(gaps) >= 2
    assert gaps.min() == 50


@pytest.mark.parametrize("kind", KINDS)
def test_reset_forgets_everything(kind: str) -> None:
    judge = twin.detector(kind)
    first = list(twin.feed(judge, pressure(1500).tolist()))
    judge.reset()
    assert judge.alarm is False
    assert list(twin.feed(judge, pressure(1500).tolist())) == first


def test_context_hears_a_rhythm_change_that_values_hide() -> None:
    wave = [float(i // 20 % 4) for i in range(3000)]
    broken = wave[:2500] + [wave[2500 - i] for i in range(200)]  # backwards: every value was there before
    assert alarms("context", wave) == []
    assert len([i for i in alarms("context", broken) if i >= 2500]) == 1
    assert alarms("multiscale", broken) == []


def test_a_flat_probation_leaves_the_scales_at_work() -> None:
    assert alarms("context", [5.0] * 1000 + [9.0]) == [1000]


@pytest.mark.parametrize(
    ("kind", "nbytes"),
    [("window", 4 * 100 + 16), ("multiscale", 48), ("context", 264)],
)
def test_state_is_as_small_as_promised(kind: str, nbytes: int) -> None:
    judge = twin.detector(kind)
    learning = state_bytes(judge)
    list(twin.feed(judge, pressure(1000).tolist()))
    assert state_bytes(judge) == nbytes
    assert learning == nbytes + (750 + 16 if kind == "context" else 0)


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        ("windows", {}, "no detector 'windows': use one of context, multiscale, window"),
        ("window", {"size": 1}, "warmup must lie in 2..size"),
        ("window", {"warmup": 1}, "warmup must lie in 2..size"),
        ("window", {"threshold": 0}, "threshold must be above 0"),
        ("multiscale", {"holdoff": 0}, "holdoff must be at least 1"),
        ("multiscale", {"resolution": -1}, "resolution must not be below 0"),
        ("multiscale", {"threshold": -1}, "threshold must be above 0"),
        ("context", {"probation": 1}, "probation must lie in 2..65535"),
        ("context", {"holdoff": -1}, "holdoff must not be below 0"),
        ("context", {"threshold": 0}, "threshold must be above 0"),
    ],
)
def test_bad_parameters_are_named(kind: str, params: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        twin.detector(kind, **params)


def test_the_twin_is_never_importable_as_midge() -> None:
    # in a process of its own: the kernel tests do put the device package on the path
    code = "from midgehost import twin\ntwin.detector('window')\nimport midge"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert "No module named 'midge'" in done.stderr
    with pytest.raises(ValueError, match="'node' is no pure device module"):
        twin.module("node")
