"""Recordings and the accelerometer that plays them, register by register, without a board."""

from __future__ import annotations

import errno
import struct

import pytest

from midgehost.virtual import sensors
from midgehost.virtual.sensors import Fault, Mpu6050, Recording

RAMP = [(n / 100, 0.0, 1.0) for n in range(10)]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sensors, "time", clock)
    return clock


def awake(recording: Recording) -> Mpu6050:
    sensor = Mpu6050(recording)
    sensor.write(bytes((0x6B, 0)))
    return sensor


def x_counts(sensor: Mpu6050) -> int:
    sensor.write(bytes((0x3B,)))
    return struct.unpack(">3h", sensor.read(6))[0]


def test_reading_by_reading() -> None:
    sensor = awake(Recording(RAMP))
    assert [x_counts(sensor) for _ in range(12)] == [round(n / 100 * 16384) for n in (*range(10), 9, 9)]


def test_at_its_own_rate(clock: Clock) -> None:
    sensor = awake(Recording(RAMP, rate_hz=50))
    seen = []
    for _ in range(5):
        seen.append(x_counts(sensor))
        clock.now += 0.0401
    assert seen == [round(n / 100 * 16384) for n in (0, 2, 4, 6, 8)]


def test_divider_holds_samples_back(clock: Clock) -> None:
    sensor = awake(Recording(RAMP, rate_hz=50))
    sensor.write(bytes((0x19, 99)))  # 1 kHz / 100: a new sample every 100 ms
    seen = []
    for _ in range(5):
        seen.append(x_counts(sensor))
        clock.now += 0.0401
    assert seen == [round(n / 100 * 16384) for n in (0, 0, 0, 5, 5)]


def test_ends() -> None:
    loop, stop = Recording(RAMP[:2], end="loop"), Recording(RAMP[:2], end="stop")
    assert [loop.next()[0] for _ in range(5)] == [0, 0.01, 0, 0.01, 0]
    assert [stop.next()[0] for _ in range(2)] == [0, 0.01]
    with pytest.raises(OSError) as raised:
        stop.next()
    assert raised.value.errno == errno.EIO


def test_faults() -> None:
    recording = Recording(RAMP, faults=[Fault("stuck", 2, 2), Fault("zero", 5, 1), Fault("silent", 7, 2)])
    seen: list[float | None] = []
    for _ in range(10):
        try:
            seen.append(sum(recording.next()))
        except OSError:
            seen.append(None)
    assert seen == [1.0, 1.01, 1.02, 1.02, 1.04, 0, 1.06, None, None, 1.09]


@pytest.mark.parametrize(("range_bits", "per_g"), [(0, 16384), (1, 8192), (2, 4096), (3, 2048)])
def test_saturates_at_its_range(range_bits: int, per_g: int) -> None:
    sensor = awake(Recording([(20, -20, 1)]))
    sensor.write(bytes((0x1C, range_bits << 3)))
    sensor.write(bytes((0x3B,)))
    assert struct.unpack(">3h", sensor.read(6)) == (32767, -32768, per_g)


def test_device_reset_puts_it_to_sleep() -> None:
    sensor = awake(Recording(RAMP[5:]))
    assert x_counts(sensor) == round(0.05 * 16384)
    sensor.write(bytes((0x6B, 0x80)))
    assert x_counts(sensor) == 0
    sensor.write(bytes((0x75, 0)))  # WHO_AM_I cannot be written
    sensor.write(bytes((0x75,)))
    assert sensor.read(1) == b"\x68"
