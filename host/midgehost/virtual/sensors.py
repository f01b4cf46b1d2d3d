"""Injected sensors: a recording plays through a register-level accelerometer or an analogue input.

board = VirtualBoard(sensors=[Mpu6050(Recording.read("fan.csv", "xyz"))])
"""

from __future__ import annotations

import errno
import math
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from midgehost.errors import DataError
from midgehost.recordings import read_columns
from midgehost.virtual.peripherals import Peripherals

End = Literal["hold", "loop", "stop"]


@dataclass(frozen=True)
class Fault:
    """What goes wrong from sample `start` for `count` samples: no answer (EIO), a stuck value, or zeros."""

    kind: Literal["silent", "stuck", "zero"]
    start: int
    count: int


class Recording:
    """Samples that play: at `rate_hz`, or (None) one further with every reading.

    `end` says what follows the last sample: it stays, it all begins again, or the sensor stops answering. `position` is
    the number of the sample that the next reading shows, `now` the clock it plays by: its board's, once it is wired.
    """

    def __init__(
        self,
        samples: Sequence[Sequence[float]],
        rate_hz: float | None = None,
        end: End = "hold",
        faults: Sequence[Fault] = (),
    ) -> None:
        self.samples = samples
        self.rate_hz = rate_hz
        self.end: End = end
        self.faults = faults
        self.position = 0
        self.now: Callable[[], float] = time.monotonic
        self._began: float | None = None

    @classmethod
    def read(
        cls, path: str | Path, columns: Sequence[str], rate_hz: float | None = None, end: End = "hold"
    ) -> Recording:
        """A recording from a CSV file. Raises DataError."""
        if rate_hz is not None and not 0.001 <= rate_hz <= 1e6:
            raise DataError(f"A recording cannot play at {rate_hz:g} Hz.", "Give 0.001 to 1,000,000 Hz.")
        samples = list(zip(*read_columns(Path(path), columns), strict=True))
        for line, sample in enumerate(samples, start=2):
            if not all(map(math.isfinite, sample)):
                raise DataError(f"{path}, line {line}: no sensor gives {sample}.", "Correct the line or cut it out.")
        return cls(samples, rate_hz, end)

    def rewind(self) -> None:
        """Plays from the start again."""
        self.position = 0
        self._began = None

    def next(self, output_hz: float | None = None) -> Sequence[float]:
        """The sample that a reading shows now, of a sensor that takes a new one `output_hz` times a second.

        Raises OSError(EIO) where the sensor does not answer.
        """
        if self.rate_hz is not None:
            now = self.now()
            self._began = now if self._began is None else self._began
            elapsed = now - self._began
            if output_hz is not None:
                elapsed = int(elapsed * output_hz) / output_hz
            self.position = int(elapsed * self.rate_hz)
        number = self.position
        if self.rate_hz is None:
            self.position += 1
        for fault in self.faults:
            if fault.start <= number < fault.start + fault.count:
                if fault.kind == "silent":
                    raise OSError(errno.EIO, "the sensor does not answer")
                return [0.0] * len(self.samples[0]) if fault.kind == "zero" else self._at(fault.start)
        return self._at(number)

    def _at(self, number: int) -> Sequence[float]:
        if number >= len(self.samples):
            if self.end == "stop":
                raise OSError(errno.EIO, "the recording is over")
            number = number % len(self.samples) if self.end == "loop" else len(self.samples) - 1
        return self.samples[number]


_SMPLRT_DIV: Final = 0x19
_WHO_AM_I: Final = 0x75
_PWR_MGMT_1: Final = 0x6B
_ACCEL_CONFIG: Final = 0x1C
_ACCEL_XOUT_H: Final = 0x3B
_TEMP_OUT_H: Final = 0x41
_SLEEP: Final = 0x40
_DEVICE_RESET: Final = 0x80
_OUTPUT_HZ: Final = 1000  # before SMPLRT_DIV


class Mpu6050:
    """The accelerometer of an InvenSense MPU-6050 (register map RM-MPU-6000A), fed by a recording of x, y, z in g.

    Asleep after power-on, as the real one; then its registers hold the last sample. A reading that starts at
    ACCEL_XOUT_H takes the next sample.
    """

    def __init__(
        self, recording: Recording, address: int = 0x68, sda: int | None = None, scl: int | None = None
    ) -> None:
        self.recording = recording
        self.address = address
        self._wiring = sda, scl
        self._registers = bytearray(128)
        self._pointer = 0
        self.power_on()

    def attach(self, peripherals: Peripherals) -> None:
        """Wires it to its pins."""
        self.recording.now = peripherals.now
        peripherals.attach(self, *self._wiring)

    def power_on(self) -> None:
        """The state after power-on; the recording starts again."""
        self._registers[:] = bytes(128)
        self._registers[_PWR_MGMT_1] = _SLEEP
        self._registers[_WHO_AM_I] = 0x68
        self.recording.rewind()

    def write(self, data: bytes) -> None:
        """Register number, then values for it and the following ones."""
        self._pointer = data[0] & 127
        for value in data[1:]:
            if self._pointer == _PWR_MGMT_1 and value & _DEVICE_RESET:
                self.power_on()
            elif self._pointer != _WHO_AM_I:
                self._registers[self._pointer] = value
            self._pointer = (self._pointer + 1) & 127

    def read(self, count: int) -> bytes:
        """The following registers."""
        if self._pointer == _ACCEL_XOUT_H and not self._registers[_PWR_MGMT_1] & _SLEEP:
            self._convert(self.recording.next(_OUTPUT_HZ / (1 + self._registers[_SMPLRT_DIV])))
        found = bytes(self._registers[(self._pointer + i) & 127] for i in range(count))
        self._pointer = (self._pointer + count) & 127
        return found

    def _convert(self, sample: Sequence[float]) -> None:
        per_g = 16384 >> (self._registers[_ACCEL_CONFIG] >> 3 & 3)
        counts = [max(-32768, min(32767, round(g * per_g))) for g in sample[:3]]
        self._registers[_ACCEL_XOUT_H : _ACCEL_XOUT_H + 6] = struct.pack(">3h", *counts)
        self._registers[_TEMP_OUT_H : _TEMP_OUT_H + 2] = struct.pack(">h", round((25 - 36.53) * 340))


class AnalogueInput:
    """One ADC pin fed by a recording; 0..1 of the recording's value is 0 to full scale, after `scale` and `offset`."""

    def __init__(self, pin: int, recording: Recording, scale: float = 1.0, offset: float = 0.0) -> None:
        self.pin = pin
        self.recording = recording
        self.scale = scale
        self.offset = offset

    def attach(self, peripherals: Peripherals) -> None:
        """Wires it to its pin."""
        self.recording.now = peripherals.now
        peripherals.analog[self.pin] = self._read

    def _read(self) -> int:
        return max(0, min(65535, round((self.recording.next()[0] * self.scale + self.offset) * 65535)))
