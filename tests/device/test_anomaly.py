# midge: device
# The detectors on a board's own floats: warm-up, alarms, refusals, a memory that is really small.

from array import array

import midge.anomaly
from midge.anomaly import make
from midge.anomaly.context import ContextZScore
from midge.anomaly.multiscale import MultiscaleZScore
from midge.anomaly.window import WindowZScore


def _wave(i):
    # Between 19.75 and 20.25, in steps that single precision holds.
    return 20 + (i * 7919 % 65 - 32) / 128


def _alarms(detector, first, last, x=None):
    found = []
    for i in range(first, last):
        detector.update(_wave(i) if x is None else x)
        if detector.alarm:
            found.append(i)
    return found


def test_package_hands_out_the_modules_classes():
    assert midge.anomaly.MultiscaleZScore is MultiscaleZScore
    assert isinstance(make("window", {"size": 20}), WindowZScore)
    assert isinstance(make("context"), ContextZScore)
    try:
        make("windows")
        assert False, "an unknown detector was made"
    except ValueError as error:
        assert "use one of context, multiscale, window" in str(error)


def test_window_learns_alarms_and_forgets():
    detector = WindowZScore()
    for i in range(9):
        assert detector.update(_wave(i)) is None
    assert _alarms(detector, 9, 150) == []
    score = detector.update(25.0)
    assert detector.alarm and 9 < score < 9.95
    assert _alarms(detector, 150, 260) == []


def test_window_scores_nothing_while_a_value_is_stuck():
    detector = WindowZScore(size=20)
    _alarms(detector, 0, 37)
    for i in range(30):
        score = detector.update(0.7)
    assert score == 0


def test_multiscale_alarms_and_holds_off():
    detector = make("multiscale", {"holdoff": 20, "resolution": 1 / 128})
    assert _alarms(detector, 0, 310) == []
    assert _alarms(detector, 310, 345, 30.0) == [310, 330]


def test_context_learns_lets_its_recording_go_and_alarms():
    detector = ContextZScore(probation=60)
    assert detector._recording is not None
    assert _alarms(detector, 0, 60) == []
    assert detector.update(_wave(60)) is not None
    assert _alarms(detector, 61, 68) == []  # eight recorded samples are replayed with every new one
    assert detector._recording is None
    assert _alarms(detector, 68, 69, 30.0) == [68]


def test_no_number_leaves_no_trace():
    for kind in ("window", "multiscale", "context"):
        detector = make(kind)
        twin = make(kind)
        for i in range(15):
            detector.update(_wave(i))
            twin.update(_wave(i))
        for bad in (float("nan"), float("inf"), -float("inf"), 1e13):
            try:
                detector.update(bad)
                assert False, "%s took %r" % (kind, bad)
            except ValueError:
                pass
        assert detector.update(20.5) == twin.update(20.5)


def test_state_is_arrays_not_boxes():
    detector = MultiscaleZScore()
    held = (detector._scales._floats, detector._scales._counts)
    assert sum(len(bytes(buffer)) for buffer in held) == 48
    assert isinstance(held[0], array)
