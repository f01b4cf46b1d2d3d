"""Windows, change gate and adaptive interval: the device's own code, step by step."""

from __future__ import annotations

import importlib.util
import math
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midgehost.resources import firmware_dir

_spec = importlib.util.spec_from_file_location("_device_schedule", firmware_dir() / "midge" / "schedule.py")
assert _spec is not None and _spec.loader is not None
schedule = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(schedule)


class Source:
    """Stands in for a Sampler: samples number 0, 1, 2 ... whose channels are n and -n."""

    channels = 2

    def __init__(self, waiting: int = 0) -> None:
        self.waiting, self.n = waiting, 0

    def read_into(self, out: Any, count: int) -> int:
        count = min(count, self.waiting)
        for i in range(count):
            out[2 * i], out[2 * i + 1] = self.n, -self.n
            self.n += 1
        self.waiting -= count
        return count


def batch(source: Source, size: int, hop: int = 0, max_ms: int = 0) -> Any:
    return schedule.Batch(source, array("h", bytes(4 * size)), size, hop, max_ms)


def window(made: Any, count: int) -> list[int]:
    """The numbers of the samples in the window; both channels must agree."""
    numbers = list(made.buf[0 : 2 * count : 2])
    assert list(made.buf[1 : 2 * count : 2]) == [-n for n in numbers]
    return numbers


# --- windows ----------------------------------------------------------------------------------------------------------


def test_windows_without_overlap() -> None:
    source = Source(9)
    made = batch(source, 4)
    assert (made.poll(), window(made, 4)) == (4, [0, 1, 2, 3])
    assert (made.poll(), window(made, 4)) == (4, [4, 5, 6, 7])
    assert made.poll() == 0
    source.waiting += 3
    assert made.poll() == 4
    assert window(made, 4) == [8, 9, 10, 11]


@given(st.integers(1, 9), st.data())
def test_windows_overlap_by_what_the_hop_leaves(size: int, data: st.DataObject) -> None:
    hop = data.draw(st.integers(1, size))
    source = Source()
    made = batch(source, size, hop)
    found = []
    for arrivals in data.draw(st.lists(st.integers(0, 12), max_size=20)):
        source.waiting += arrivals
        while made.poll():
            found.append(window(made, size))
    total = source.n
    assert source.waiting == 0
    assert found == [list(range(start, start + size)) for start in range(0, total - size + 1, hop)]


def test_a_window_closes_early_when_its_time_is_over() -> None:
    source = Source(3)
    made = batch(source, 8, max_ms=100)
    assert made.poll(1000) == 0
    assert made.poll(1099) == 0
    assert (made.poll(1100), window(made, 3)) == (3, [0, 1, 2])
    source.waiting = 2
    assert made.poll(1199) == 0
    assert (made.poll(1200), window(made, 2)) == (2, [3, 4])
    assert made.poll(1500) == 0  # nothing came: there is nothing to close
    source.waiting = 8
    assert made.poll(1501) == 8  # full at once


def test_a_window_never_closes_on_old_samples_alone() -> None:
    source = Source(4)
    made = batch(source, 4, hop=1, max_ms=100)
    assert made.poll(0) == 4
    assert made.poll(200) == 0
    source.waiting = 1
    assert (made.poll(201), window(made, 4)) == (4, [1, 2, 3, 4])


def test_time_wraps_as_ticks_do() -> None:
    source = Source(1)
    made = batch(source, 8, max_ms=100)
    assert made.poll(0x3FFFFFFF - 49) == 0
    assert made.poll(49) == 0
    assert made.poll(50) == 1


def test_a_hop_beyond_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="hop"):
        batch(Source(), 4, 5)


# --- change gate ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), max_size=40), st.floats(0, 1e5))
def test_the_gate_lets_changes_through(values: list[float], threshold: float) -> None:
    gate = schedule.ChangeGate(threshold)
    passed = [x for x in values if gate.passes(x)]
    sent: list[float] = []
    for x in values:
        if not sent or abs(x - sent[-1]) > threshold:
            sent.append(x)
    assert passed == sent


def test_a_change_of_the_threshold_itself_stays() -> None:
    gate = schedule.ChangeGate(0.5)
    assert [gate.passes(x) for x in (1.0, 1.5, 1.0, 1.75, 1.25, 1.0)] == [True, False, False, True, False, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_gate_refuses_what_is_no_number(bad: float) -> None:
    gate = schedule.ChangeGate(1.0)
    with pytest.raises(ValueError, match="finite"):
        gate.passes(bad)
    assert gate.passes(5.0)
    with pytest.raises(ValueError, match="finite"):
        gate.passes(bad)
    assert [gate.passes(5.5), gate.passes(6.5)] == [False, True]


@pytest.mark.parametrize("threshold", [-1.0, math.nan])
def test_a_threshold_is_a_distance(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        schedule.ChangeGate(threshold)


# --- adaptive interval ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anomalies", "said"),
    [
        ("010101", [8000] * 6),  # one alone changes nothing
        ("0110000000", [8000, 8000, 1000, 1500, 2250, 3375, 5063, 7595, 8000, 8000]),
        ("11111", [8000, 1000, 1000, 1000, 1000]),
        ("1100101", [8000, 1000, 1500, 2250, 2250, 3375, 3375]),  # alone, it holds the way back
        ("11011", [8000, 1000, 1500, 1500, 1000]),
    ],
)
def test_the_interval_tightens_and_recovers(anomalies: str, said: list[int]) -> None:
    interval = schedule.AdaptiveInterval(8000, 1000)
    assert [interval.update(anomaly == "1") for anomaly in anomalies] == said


@given(st.integers(1, 10**8), st.data(), st.lists(st.booleans(), max_size=60))
def test_the_interval_stays_between_its_ends(normal: int, data: st.DataObject, anomalies: list[bool]) -> None:
    alert = data.draw(st.integers(1, normal))
    interval = schedule.AdaptiveInterval(normal, alert)
    before = normal
    for anomaly in anomalies:
        now = interval.update(anomaly)
        assert alert <= now <= normal
        assert now in (before, alert) if anomaly else now == min(normal, -(-before * 3 // 2))
        before = now


def test_the_shortest_interval_grows_too() -> None:
    interval = schedule.AdaptiveInterval(4, 1)
    assert [interval.update(x) for x in (True, True, False, False, False)] == [4, 1, 2, 3, 4]


@pytest.mark.parametrize(("normal", "alert"), [(100, 0), (100, 101), (0, 0)])
def test_intervals_that_make_no_sense_are_refused(normal: int, alert: int) -> None:
    with pytest.raises(ValueError, match="alert_ms"):
        schedule.AdaptiveInterval(normal, alert)
