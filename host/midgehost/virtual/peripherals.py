"""A virtual board's peripherals: answers what the board's `machine` asks over its link.

An I2C device has `address`, `write` and `read`; an analogue source is a number or a function.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from midgehost.virtual.boot import _ops
from midgehost.virtual.pins import Pins
from midgehost.virtual.profile import Profile


class I2CDevice(Protocol):
    """A device on an I2C bus, at register level. OSError(errno) from either method is what the board's program gets."""

    address: int

    def write(self, data: bytes) -> None: ...

    def read(self, count: int) -> bytes: ...

    def power_on(self) -> None:
        """Puts the device into the state that it has after power-on."""
        ...


AnalogSource = int | Callable[[], int]  # 0..65535 is 0 to full scale


@dataclass(frozen=True)
class Request:
    """One question of the board, see boot/_ops.py."""

    op: int
    seq: int
    a: int
    b: int
    c: int
    d: int
    wanted: int
    data: bytes

    @classmethod
    def unpack(cls, packet: bytes) -> Request:
        return cls(*struct.unpack_from("<6BH", packet), packet[_ops.HEADER :])

    def answer(self, handler: Callable[[Request], bytes | None]) -> bytes | None:
        """The packet that answers: what the handler returns or raises (OSError, ValueError); None for no answer."""
        try:
            status, payload = _ops.OK, handler(self)
            if payload is None:
                return None
        except OSError as error:
            status, payload = error.errno or errno.EIO, b""
        except ValueError as error:
            status, payload = _ops.INVALID, str(error).encode()
        packet = struct.pack("<BBH", status, self.seq, len(payload)) + payload
        return packet.ljust(_ops.ANSWER + _ops.PAYLOAD, b"\0")


class Peripherals:
    """Everything outside the board's processor. `analog` maps ADC pins to their sources; `now` is the time in seconds
    by which recordings play and the pins keep their history."""

    def __init__(
        self,
        profile: Profile,
        interrupt: Callable[[int, int], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self.pins = Pins(interrupt, now)
        self.analog: dict[int, AnalogSource] = {}
        self.pwm: dict[int, tuple[int, int]] = {}  # pin -> (Hz, duty of 65535)
        self._profile = profile
        self._devices: dict[tuple[int, int, int], I2CDevice] = {}  # (sda, scl, address)
        self.handlers: dict[int, Callable[[Request], bytes]] = {
            _ops.PIN_OPEN: self._pin_open,
            _ops.PIN_INIT: self._pin_init,
            _ops.PIN_WRITE: self._pin_write,
            _ops.PIN_READ: lambda request: bytes((self.pins[request.a],)),
            _ops.PIN_IRQ: self._pin_irq,
            _ops.ADC_OPEN: self._adc_open,
            _ops.ADC_READ: self._adc_read,
            _ops.PWM: self._pwm,
            _ops.TIMER: self._timer,
            _ops.I2C_OPEN: self._i2c_open,
            _ops.I2C: self._i2c,
        }

    def attach(self, device: I2CDevice, sda: int | None = None, scl: int | None = None) -> None:
        """Wires an I2C device to two pins; by default the ones where boards/*.toml has a sensor."""
        default_sda, default_scl = self._profile.sensor_pins
        wiring = default_sda if sda is None else sda, default_scl if scl is None else scl
        self._devices[*wiring, device.address] = device

    def device(self, sda: int, scl: int, address: int) -> I2CDevice | None:
        """What answers at that address on those two pins."""
        return self._devices.get((sda, scl, address))

    def buses(self) -> set[tuple[int, int]]:
        """The pairs of pins (sda, scl) that devices are wired to."""
        return {(sda, scl) for sda, scl, _ in self._devices}

    def reading(self, pin: int) -> int:
        """What the 12-bit converter reads at a pin: 0 to 4095. Raises what its source raises."""
        source = self.analog.get(pin, 0)
        value = source if isinstance(source, int) else source()
        return max(0, min(value, 65535)) >> 4

    def reset(self) -> None:
        """What a reset of the processor does to its outputs."""
        self.pins.reset()
        self.pwm.clear()

    def power_on(self) -> None:
        """What a power cycle does to everything around it."""
        self.reset()
        for device in self._devices.values():
            device.power_on()

    def _pin_open(self, request: Request) -> bytes:
        return bytes((self._profile.pin(request.data.decode() if request.data else request.a),))

    def _pin_init(self, request: Request) -> bytes:
        if request.b != _ops.PIN_IN and request.a in self._profile.input_only:
            raise ValueError("pin can only be input")
        self.pins.configure(request.a, request.b, request.c)
        return b""

    def _pin_write(self, request: Request) -> bytes:
        self.pins.write(request.a, request.b)
        return b""

    def _pin_irq(self, request: Request) -> bytes:
        self.pins.watch(request.a, request.b)
        return b""

    def _adc_open(self, request: Request) -> bytes:
        return bytes((self._profile.adc_pin(request.a, is_number=bool(request.b)),))

    def _adc_read(self, request: Request) -> bytes:
        counts = self.reading(request.a)  # read_u16 spreads the 12 bits over 16
        return struct.pack("<H", counts << 4 | counts >> 8)

    def _pwm(self, request: Request) -> bytes:
        hertz, duty = struct.unpack("<IH", request.data)
        if hertz:
            self.pwm[request.a] = hertz, duty
        else:
            self.pwm.pop(request.a, None)
        return b""

    def _timer(self, request: Request) -> bytes:
        self._profile.check_timer(struct.unpack("<i", request.data)[0])
        return b""

    def _i2c_open(self, request: Request) -> bytes:
        bus, sda, scl = (None if value == _ops.NONE else value for value in (request.a, request.b, request.c))
        return bytes(self._profile.i2c_pins(bus, sda, scl))

    def _i2c(self, request: Request) -> bytes:
        device = self.device(request.b, request.c, request.a)
        if device is None:
            raise OSError(errno.EIO, "no device answers")
        if request.data:
            device.write(request.data)
        return device.read(request.wanted) if request.wanted else b""
