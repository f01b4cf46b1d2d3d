# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false
"""Connects the virtual boards' peripherals (sensors, pins) to an emulated chip, so that a sensor is wired to either
kind of board in the same way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from rp2040py.gpio_pin import GPIOPinState
from rp2040py.peripherals.i2c import I2CMode
from rp2040py.rp2040 import RP2040

from midgehost.virtual.boot import _ops
from midgehost.virtual.peripherals import I2CDevice, Peripherals
from midgehost.virtual.profile import PICO

_FUNCTION_I2C: Final = 3  # RP2040 data sheet, 2.19.2
_FIRST_ADC_PIN: Final = 26
_ROOM_TEMPERATURE: Final = 876  # counts of channel 4: 27 degrees
_PULLS: Final = {GPIOPinState.INPUT_PULL_UP: _ops.PULL_UP, GPIOPinState.INPUT_PULL_DOWN: _ops.PULL_DOWN}


class Wiring:
    """What hangs on a Pico's pins: `peripherals`, connected to one chip after the other (`connect`)."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.peripherals = Peripherals(PICO, lambda _pin, _edge: None, now)
        self.chip: RP2040 | None = None

    def connect(self, chip: RP2040) -> None:
        """A chip that has just got its power."""
        self.chip = chip
        self.peripherals.power_on()
        pins = self.peripherals.pins
        for number, gpio in enumerate(chip.gpio):
            gpio.add_listener(self._follower(number))
            driven = pins.driven(number)
            if driven is not None:
                gpio.set_input_value(bool(driven))
        chip.adc.channel_values[4] = _ROOM_TEMPERATURE
        chip.adc.on_adc_read = self._converter(chip.adc)
        for number, bus in enumerate(chip.i2c):
            _HardwareBus(bus, lambda address, bus=number: self._on_bus(chip, bus, address))
        for sda, scl in self.peripherals.buses():
            _BitBus(chip, sda, scl, self.peripherals)

    def drive(self, pin: int, level: int | None) -> None:
        """What `Pins.drive` does to the chip."""
        if self.chip is not None and level is None:
            self.chip.gpio[pin].release_input()
        elif self.chip is not None:
            self.chip.gpio[pin].set_input_value(bool(level))

    def _follower(self, number: int) -> Callable[[GPIOPinState, GPIOPinState], None]:
        pins = self.peripherals.pins

        def follow(state: GPIOPinState, _before: GPIOPinState) -> None:
            if state in (GPIOPinState.LOW, GPIOPinState.HIGH):
                pins.output(number, int(state == GPIOPinState.HIGH))
            else:
                pins.configure(number, _ops.PIN_IN, _PULLS.get(state, 0))

        return follow

    def _converter(self, adc: Any) -> Callable[[int], None]:
        convert = adc.on_adc_read

        def read(channel: int) -> None:
            if channel != 4:
                with suppress(OSError):  # a recording that is over: no converter fails, it reads what was there last
                    adc.channel_values[channel] = self.peripherals.reading(_FIRST_ADC_PIN + channel)
            convert(channel)

        return read

    def _on_bus(self, chip: RP2040, bus: int, address: int) -> I2CDevice | None:
        """What answers on the pins that the program gave to a hardware bus (data sheet, 2.19.2: bus 0 has pins 0, 1, 4,
        5, ..., even ones are SDA)."""
        for sda, scl in self.peripherals.buses():
            pins = chip.gpio[sda], chip.gpio[scl]
            if sda >> 1 & 1 == bus == scl >> 1 & 1 and all(pin.function_select == _FUNCTION_I2C for pin in pins):
                return self.peripherals.device(sda, scl, address)
        return None


class _Transfer:
    """One device's part in transfers, byte by byte. What is written reaches it when the bus goes on to something else;
    a device that raises OSError does not acknowledge."""

    def __init__(self, find: Callable[[int], I2CDevice | None]) -> None:
        self._find = find
        self._device: I2CDevice | None = None
        self._written = bytearray()
        self._next: int | None = None

    def connect(self, address: int, *, reads: bool) -> bool:
        """Whether a device acknowledges its address."""
        self.finish()
        self._device = self._find(address)
        if self._device is None:
            return False
        try:
            self._next = self._device.read(1)[0] if reads else None
        except OSError:
            self._device = None
        return self._device is not None

    def write(self, value: int) -> None:
        self._written.append(value)

    def read(self, *, more: bool) -> int:
        """The byte that the device sends; it prepares another where the bus wants `more`."""
        value = 0xFF if self._next is None else self._next
        self._next = None
        if more and self._device is not None:
            try:
                self._next = self._device.read(1)[0]
            except OSError:
                self._next = None
        return value

    def finish(self) -> None:
        """The end of a transfer, or of its part before a repeated start."""
        written, self._written = bytes(self._written), bytearray()
        if written and self._device is not None:
            try:
                self._device.write(written)
            except OSError:
                self._device = None


class _HardwareBus:
    """One of the chip's I2C controllers. A transfer takes no time."""

    def __init__(self, bus: Any, find: Callable[[int], I2CDevice | None]) -> None:
        self._bus = bus
        self._transfer = _Transfer(find)
        bus.on_connect, bus.on_write_byte, bus.on_read_byte = self._connect, self._write, self._read
        bus.on_stop = self._stop

    def _connect(self, address: int, mode: I2CMode) -> None:
        self._bus.complete_connect(self._transfer.connect(address, reads=mode == I2CMode.READ))

    def _write(self, value: int) -> None:
        self._transfer.write(value)
        self._bus.complete_write(True)

    def _read(self, acknowledge: bool) -> None:
        self._bus.complete_read(self._transfer.read(more=acknowledge))

    def _stop(self) -> None:
        self._transfer.finish()
        self._bus.complete_stop()


class _BitBus:
    """Two pins as an I2C bus that a program drives bit by bit: SoftI2C, and what the rp2 port does for `scan`."""

    def __init__(self, chip: RP2040, sda: int, scl: int, peripherals: Peripherals) -> None:
        self._sda, self._scl = chip.gpio[sda], chip.gpio[scl]
        self._transfer = _Transfer(lambda address: peripherals.device(sda, scl, address))
        self._levels = True, True  # as the program drives them
        self._bits: list[int] | None = None  # of the byte under way; None between stop and start
        self._addressed = False
        self._byte: int | None = None  # the one that the device sends next
        self._sending = False  # the byte under way is the device's
        for pin in (self._sda, self._scl):
            pin.set_input_value(True)  # the bus has pull-ups
            pin.add_listener(self._changed)

    def _changed(self, _new: GPIOPinState, _old: GPIOPinState) -> None:
        if self._sda.function_select == _FUNCTION_I2C:  # the controller's, which drives no pads here
            return
        sda, scl = self._sda.value != GPIOPinState.LOW, self._scl.value != GPIOPinState.LOW
        (was_sda, was_scl), self._levels = self._levels, (sda, scl)
        if scl and was_scl and sda != was_sda:
            self._stop() if sda else self._start()
        elif self._bits is not None and scl and not was_scl:
            self._clock_rises(self._bits, sda)
        elif self._bits is not None and was_scl and not scl:
            self._clock_falls(self._bits)

    def _start(self) -> None:
        self._transfer.finish()
        self._bits, self._byte = [], None
        self._addressed = self._sending = False

    def _stop(self) -> None:
        self._transfer.finish()
        self._bits = None
        self._pull(low=False)

    def _pull(self, *, low: bool) -> None:
        self._sda.set_input_value(not low)

    def _clock_rises(self, bits: list[int], sda: bool) -> None:
        if len(bits) == 8 and self._sending:  # the program's acknowledgement: low asks for more
            self._byte = None if sda else self._transfer.read(more=True)
        bits.append(int(sda))

    def _clock_falls(self, bits: list[int]) -> None:
        if len(bits) == 8 and not self._sending:
            self._pull(low=self._take(int("".join(map(str, bits)), 2)))
            return
        if len(bits) == 9:
            bits.clear()
            self._sending = self._byte is not None
        sends_bit = self._byte is not None and self._sending and len(bits) < 8
        self._pull(low=sends_bit and not (self._byte or 0) >> 7 - len(bits) & 1)

    def _take(self, value: int) -> bool:
        """A byte of the program; whether somebody acknowledges it."""
        if self._addressed:
            self._transfer.write(value)
            return True
        self._addressed = self._transfer.connect(value >> 1, reads=bool(value & 1))
        if self._addressed and value & 1:
            self._byte = self._transfer.read(more=True)
        return self._addressed
