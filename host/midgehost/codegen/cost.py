"""The cost model in one place: what counts mean in milliseconds, and how good the estimates are that slice a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CLOCK_MHZ: Final[Mapping[str, int]] = {  # Pico, Pico 2, ESP32-C3 and ESP32, as MicroPython starts them
    "armv6m": 125,
    "armv7emsp": 150,
    "rv32imc": 160,
    "xtensawin": 160,
}
