# midge: device
# Small modules on the board's own interpreter.
from midge.errors import MidgeError, describe
from midge.rules import evaluate
from midge.schedule import AdaptiveInterval, ChangeGate


def test_error_carries_its_code():
    error = MidgeError("sensor.no_answer", "address 0x68")
    assert describe(error) == {"code": "sensor.no_answer", "what": "address 0x68"}
    assert describe(MemoryError())["code"] == "board.out_of_memory"


def test_rule_is_kleene():
    stack = [None] * 3
    assert evaluate([0, 1, "or"], [True, None], stack) is True
    assert evaluate([0, 1, "and"], [True, None], stack) is False
    assert evaluate([0, [3], ">"], [4], stack) is True


def test_adaptive_interval_alerts_after_two_and_recovers_by_half():
    interval = AdaptiveInterval(1000, 100)
    said = [interval.update(unusual) for unusual in (False, True, True, False, False, False)]
    assert said == [1000, 1000, 100, 150, 225, 338], said


def test_change_gate():
    gate = ChangeGate(0.5)
    assert [gate.passes(x) for x in (1.0, 1.4, 1.6, 1.6, 1.0)] == [True, False, True, False, True]
