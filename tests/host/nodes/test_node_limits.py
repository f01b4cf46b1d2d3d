"""The host's limits are the device's: each is read off the device module that has it."""

from __future__ import annotations

import ast

import msgspec
import pytest

from midgehost.nodes.drivers import DRIVERS
from midgehost.nodes.limits import FASTEST_HZ, LARGEST_SIGNAL, LONGEST_S, SLOWEST_HZ
from midgehost.resources import firmware_dir

DEVICE = firmware_dir() / "midge"
FROM_THE_BUS = {"i2c", "sda", "scl", "freq", "address", "adc"}
FROM_THE_SENSOR = {"channels", "unit", "rate_hz"}


def test_every_driver_is_known() -> None:
    assert sorted(DRIVERS) == sorted(p.stem for p in (DEVICE / "drivers").glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_takes_what_its_device_module_reads(name: str) -> None:
    read: set[str] = set()
    for node in ast.walk(ast.parse((DEVICE / "drivers" / f"{name}.py").read_text())):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="config"), attr="get"), args=[ast.Constant(value=key), *_]
            ):
                read.add(key)
            case ast.Subscript(value=ast.Name(id="config"), slice=ast.Constant(value=key)):
                read.add(key)
            case _:
                pass
    assert read - FROM_THE_BUS - FROM_THE_SENSOR == set(msgspec.structs.asdict(DRIVERS[name].params()))


def test_the_accelerometer_takes_what_its_driver_takes() -> None:
    text = (DEVICE / "drivers" / "mpu6050.py").read_text()
    driver = DRIVERS["mpu6050"]
    assert "_RANGES = (2, 4, 8, 16)" in text
    for g in (2, 4, 8, 16):
        assert msgspec.convert({"range": g}, driver.params)
    assert f"not in {driver.units}".replace("'", '"') in text
    assert f'_AXES = "{"".join(driver.channels or ())}"' in text


def test_rates_and_signals() -> None:
    assert f"if not {SLOWEST_HZ:.5f} <= rate_hz <= {FASTEST_HZ}:" in (DEVICE / "sampling.py").read_text()
    assert f"_LIMIT = {float(LARGEST_SIGNAL):g}".replace("+", "") in (DEVICE / "anomaly" / "finite.py").read_text()
    assert LONGEST_S * SLOWEST_HZ == 1
