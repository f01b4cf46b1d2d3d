"""What each driver takes: its bus, channels, units and `params`. One entry a module of firmware/midge/drivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from midgehost.errors import NodeFileError
from midgehost.nodes.limits import LARGEST_SIGNAL, Within
from midgehost.nodes.reading import convert, nearest
from midgehost.nodes.schema import Bus, Number, Sensor


class _Mpu6050(msgspec.Struct):
    range: Literal[2, 4, 8, 16] = 2  # g
    who_am_i: Annotated[int, Within(0, 255)] = 0x68


class _Adc(msgspec.Struct):
    low: Annotated[Number, Within(-LARGEST_SIGNAL, LARGEST_SIGNAL)] = 0.0
    high: Annotated[Number, Within(-LARGEST_SIGNAL, LARGEST_SIGNAL)] = 3.3


@dataclass(frozen=True)
class Driver:
    """`channels` and `units` are None where any will do."""

    bus: Literal["i2c", "adc"]
    params: type[msgspec.Struct]
    channels: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None


DRIVERS = {
    "adc": Driver("adc", _Adc),
    "mpu6050": Driver("i2c", _Mpu6050, channels=("x", "y", "z"), units=("m/s2", "g")),
}
_WIRING = {"i2c": "Write { i2c = 0, sda = .., scl = .. }.", "adc": "Write { adc = .. }."}


def check_driver(where: str, sensor: Sensor) -> None:
    """Refuses a sensor that its driver would refuse. Raises NodeFileError."""
    driver = DRIVERS.get(sensor.driver)
    if driver is None:
        what = f"there is no driver {sensor.driver!r}"
        raise NodeFileError(f"{where}.driver", what, nearest(sensor.driver, DRIVERS, "drivers"))
    _check_bus(f"{where}.bus", sensor.bus)
    if getattr(sensor.bus, driver.bus) is None:
        raise NodeFileError(f"{where}.bus", f"{sensor.driver} needs the key {driver.bus}", _WIRING[driver.bus])
    for channel in sensor.channels:
        if driver.channels and channel not in driver.channels:
            what = f"{sensor.driver} has no channel {channel!r}"
            raise NodeFileError(f"{where}.channels", what, nearest(channel, driver.channels, "channels"))
    pins = sensor.bus.analog_pins
    if pins and len(pins) != len(sensor.channels):
        what = f"{len(sensor.channels)} channels are named for {len(pins)} analogue pins"
        raise NodeFileError(f"{where}.channels", what, "Name one channel a pin.")
    if driver.units and sensor.unit not in driver.units:
        what = f"{sensor.driver} does not measure in {sensor.unit!r}"
        raise NodeFileError(f"{where}.unit", what, nearest(sensor.unit, driver.units, "units"))
    params = convert(f"{where}.params", sensor.params, driver.params)
    if isinstance(params, _Adc) and params.low == params.high:
        raise NodeFileError(f"{where}.params", "low and high are the same", "Write the values at 0 and at full scale.")


def _check_bus(where: str, bus: Bus) -> None:
    if (bus.adc is None) == (bus.i2c is None):
        raise NodeFileError(where, "it must name i2c or adc", "Write { i2c, sda, scl } or { adc }.")
    if bus.i2c is not None and (bus.sda is None or bus.scl is None):
        raise NodeFileError(where, "an I2C bus needs two pins", _WIRING["i2c"])
    if bus.i2c is not None and bus.sda == bus.scl:
        raise NodeFileError(where, f"sda and scl are both pin {bus.sda}", "Name two pins.")
