"""What kind of board a virtual board pretends to be: pins, buses, clock, reset causes, sizes.

A profile refuses what its board would refuse: the checks raise ValueError with the words the board's program sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_EPOCH_2000 = 946_684_800
_START_OF_2021 = 1_609_459_200


@dataclass(frozen=True)
class Bus:
    """One hardware I2C bus: the pins it can use, the defaults first."""

    sda: tuple[int, ...]
    scl: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One kind of board. Sizes in bytes, times in Unix seconds."""

    name: str
    platform: str  # sys.platform
    heap: str
    flash_bytes: int  # the littlefs partition
    progsize: int
    epoch: int  # the port's time 0
    clock_start: int  # what the clock says after power-on, before anyone sets it
    freq: int
    unique_id_bytes: int
    pins: frozenset[int]
    input_only: frozenset[int] = frozenset()
    pin_names: Mapping[str, int] = field(default_factory=dict)
    adc: Mapping[int, int]  # channel -> pin
    buses: Mapping[int, Bus]
    sensor_pins: tuple[int, int]  # sda, scl: where an injected sensor is wired
    timers: frozenset[int]
    watchdog_ms: int  # longest timeout
    reset_causes: Mapping[str, int]  # the constants that this port's `machine` has
    cause_of: Mapping[str, int | None]  # reset -> reset_cause(); None: as before

    def pin(self, number: int | str) -> int:
        """The pin of that number or name."""
        found = self.pin_names.get(number, -1) if isinstance(number, str) else number
        if found not in self.pins:
            raise ValueError(f"invalid pin {number}" if isinstance(number, str) else "invalid pin")
        return found

    def adc_pin(self, channel_or_pin: int, is_number: bool) -> int:
        """The pin behind an ADC; a bare number may also be a channel."""
        pin = self.adc.get(channel_or_pin, channel_or_pin) if is_number else channel_or_pin
        if pin not in self.adc.values():
            raise ValueError("Pin doesn't have ADC capabilities")
        return pin

    def i2c_pins(self, bus: int | None, sda: int | None, scl: int | None) -> tuple[int, int]:
        """The (sda, scl) that a bus uses; bus None is SoftI2C, which takes any two outputs."""
        if bus is None:
            outputs = self.pins - self.input_only
            if sda not in outputs or scl not in outputs:
                raise ValueError("invalid pin")
            return sda, scl
        if bus not in self.buses:
            raise ValueError(f"I2C({bus}) doesn't exist")
        wiring = self.buses[bus]
        sda = wiring.sda[0] if sda is None else sda
        scl = wiring.scl[0] if scl is None else scl
        if sda not in wiring.sda:
            raise ValueError("bad SDA pin")
        if scl not in wiring.scl or scl == sda:
            raise ValueError("bad SCL pin")
        return sda, scl

    def check_timer(self, number: int) -> None:
        if number not in self.timers:
            raise ValueError("Timer doesn't exist")

    def check_watchdog(self, timeout_ms: int) -> None:
        if not 1 <= timeout_ms <= self.watchdog_ms:
            raise ValueError(f"WDT timeout must be 1 to {self.watchdog_ms} ms")


def _pico_pins(first: int) -> tuple[int, ...]:
    return tuple(range(first, 29, 4))


def _default_first(pin: int, pins: tuple[int, ...]) -> tuple[int, ...]:
    return (pin, *(p for p in pins if p != pin))


_PICO_PINS = frozenset(range(30))
_ESP32_PINS = frozenset({0, 1, 2, 3, 4, 5, *range(12, 20), 21, 22, 23, 25, 26, 27, *range(32, 40)})  # 6-11: flash
_ESP32_INPUTS = frozenset(range(34, 40))
_ESP32_OUTPUTS = tuple(sorted(_ESP32_PINS - _ESP32_INPUTS))

PICO = Profile(
    name="pico",
    platform="rp2",
    heap="192k",
    flash_bytes=1_441_792,
    progsize=256,
    epoch=0,
    clock_start=_START_OF_2021,
    freq=125_000_000,
    unique_id_bytes=8,
    pins=_PICO_PINS,
    pin_names={"LED": 25, **{f"GP{n}": n for n in range(29)}, **{f"GPIO{n}": n for n in range(30)}},
    adc={0: 26, 1: 27, 2: 28, 3: 29, 4: 30},  # 30: the temperature sensor
    buses={
        0: Bus(_default_first(4, _pico_pins(0)), _default_first(5, _pico_pins(1))),
        1: Bus(_default_first(6, _pico_pins(2)), _default_first(7, _pico_pins(3))),
    },
    sensor_pins=(4, 5),
    timers=frozenset({-1}),
    watchdog_ms=8388,
    reset_causes={"PWRON_RESET": 1, "WDT_RESET": 3},
    # machine.reset() goes through the watchdog; a soft reset leaves the register as it was
    cause_of={"power": 1, "hard": 3, "watchdog": 3, "crash": 3, "soft": None},
)

ESP32 = Profile(
    name="esp32",
    platform="esp32",
    heap="160k",
    flash_bytes=2_097_152,
    progsize=32,
    epoch=_EPOCH_2000,
    clock_start=_EPOCH_2000,
    freq=160_000_000,
    unique_id_bytes=6,
    pins=_ESP32_PINS,
    input_only=_ESP32_INPUTS,
    adc={pin: pin for pin in (0, 2, 4, 12, 13, 14, 15, 25, 26, 27, *range(32, 40))},
    buses={
        0: Bus(_default_first(19, _ESP32_OUTPUTS), _default_first(18, _ESP32_OUTPUTS)),
        1: Bus(_default_first(26, _ESP32_OUTPUTS), _default_first(25, _ESP32_OUTPUTS)),
    },
    sensor_pins=(21, 22),
    timers=frozenset(range(4)),
    # The ESP32's task watchdog takes more; held to the strictest board so that a node that runs here runs anywhere.
    watchdog_ms=8388,
    reset_causes={"PWRON_RESET": 1, "HARD_RESET": 2, "WDT_RESET": 3, "DEEPSLEEP_RESET": 4, "SOFT_RESET": 5},
    cause_of={"power": 1, "hard": 2, "watchdog": 3, "crash": 2, "soft": 5},
)

PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in (PICO, ESP32)}
