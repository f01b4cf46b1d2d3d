"""A profile refuses what its board would refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from midgehost.virtual.profile import ESP32, PICO, Profile


@pytest.mark.parametrize(
    ("profile", "bus", "wanted", "pins"),
    [
        (PICO, 0, (None, None), (4, 5)),
        (PICO, 0, (0, 1), (0, 1)),
        (PICO, 1, (26, 27), (26, 27)),
        (ESP32, 0, (21, 22), (21, 22)),
        (ESP32, 1, (None, None), (26, 25)),
        (PICO, None, (2, 9), (2, 9)),
    ],
)
def test_buses(profile: Profile, bus: int | None, wanted: tuple[int | None, int | None], pins: tuple[int, int]) -> None:
    assert profile.i2c_pins(bus, *wanted) == pins


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda: PICO.i2c_pins(0, 2, 3), "bad SDA"),
        (lambda: PICO.i2c_pins(1, 2, 5), "bad SCL"),
        (lambda: PICO.i2c_pins(2, None, None), r"I2C\(2\)"),
        (lambda: ESP32.i2c_pins(0, 34, 22), "bad SDA"),
        (lambda: ESP32.i2c_pins(0, 21, 21), "bad SCL"),
        (lambda: ESP32.i2c_pins(None, 21, 36), "invalid pin"),
        (lambda: ESP32.pin(6), "invalid pin"),
        (lambda: ESP32.pin("GP1"), "invalid pin GP1"),
        (lambda: PICO.pin(30), "invalid pin"),
        (lambda: PICO.adc_pin(15, True), "ADC"),
        (lambda: ESP32.adc_pin(5, True), "ADC"),
        (lambda: PICO.check_timer(0), "Timer"),
        (lambda: ESP32.check_timer(4), "Timer"),
        (lambda: PICO.check_watchdog(8389), "8388"),
        (lambda: PICO.check_watchdog(0), "8388"),
    ],
)
def test_refusals(check: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check()


def test_names() -> None:
    assert PICO.pin("LED") == 25 and PICO.pin("GP15") == 15
    assert PICO.adc_pin(2, True) == 28 and PICO.adc_pin(28, True) == 28
