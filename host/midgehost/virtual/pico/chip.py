# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false
"""rp2040py's RP2040, made faster by what it lets a subclass change, and stopped where a real one faults.

What is slow in it is Python around compiled code: every bus access asks whether a subclass has replaced it (a method
bound and thrown away: here the compiled function itself lies in a slot), every instruction asks two PIO blocks whether
they run (here an empty iterator until one is used), and MicroPython divides through the SIO's registers several times a
bytecode (here two ifs instead of forty). More than twice as many instructions a second, all in all.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Final, Self

from rp2040py.clock.clock import IClock
from rp2040py.memory_map import RAM_START_ADDRESS
from rp2040py.rp2040 import RP2040
from rp2040py.sio import RPSIO

_BUS: Final = ("read_uint8", "read_uint16", "read_uint32", "write_uint8", "write_uint16", "write_uint32")
_PIO_BLOCKS: Final = (0x50200, 0x50300)
_CPUID: Final = 0x00
_UDIVIDEND, _UDIVISOR, _SDIVIDEND, _SDIVISOR = 0x60, 0x64, 0x68, 0x6C  # RP2040 data sheet, 2.3.1.7
_QUOTIENT, _REMAINDER, _CSR = 0x70, 0x74, 0x78
_READY_DIRTY: Final = 0b11


class Chip(RP2040):
    """An RP2040. `on_fault(why)` is called where a real one would stop for an unaligned word.

    `on_wake()` is called when the blocks that an instruction has to advance are others than before.
    """

    __slots__ = _BUS

    def __new__(cls, clock: IClock | None = None) -> Self:
        """The slots are filled before anything uses the bus."""
        chip = super().__new__(cls)
        for name in _BUS:
            setattr(chip, name, RP2040.__dict__[name])
        return chip

    def __init__(self, clock: IClock | None = None) -> None:
        self.on_fault: Callable[[str], None] = lambda _why: None
        # Lets code in flash through: rp2040py's Wi-Fi chip makes its driver read unaligned words, as no real one does.
        self.trusts_firmware = False
        self.on_wake: Callable[[], None] = lambda: None
        self._blocks: list[Any] = []
        super().__init__(clock)
        self._blocks = list(self.pio)
        self.pio: Any = _asleep(self._blocks)
        for base in _PIO_BLOCKS:
            self.peripherals[base] = _WakesPio(self.peripherals[base], self._wake)
        self.sio = _Sio(self)
        self.logger: Any = _Watch(self)
        bus: Any = _Bus(self)
        for channel in self.dma.channels:  # the one that calls the bus from Python
            channel.rp2040 = bus

    def reset(self, *, preserve_flash: bool = False, from_watchdog: bool = False) -> None:
        """See RP2040; the PIO blocks sleep again."""
        super().reset(preserve_flash=preserve_flash, from_watchdog=from_watchdog)
        if self._blocks:
            self.pio = _asleep(self._blocks)

    def _wake(self) -> None:
        if self.pio is not self._blocks:
            self.pio = self._blocks
            self.on_wake()


class _Bus:
    """The bus of a chip for Python code: its methods, bound as usual."""

    def __init__(self, chip: RP2040) -> None:
        for name in _BUS:
            setattr(self, name, RP2040.__dict__[name].__get__(chip))


class _Asleep(chain):  # type: ignore[type-arg]
    """The PIO blocks as whoever runs them sees them while none is in use: by number as ever, but an iteration (chain's,
    at the speed of C) finds nothing to advance."""

    blocks: list[Any]

    def __getitem__(self, number: int) -> Any:
        return self.blocks[number]


def _asleep(blocks: list[Any]) -> Any:
    sleeping = _Asleep()
    sleeping.blocks = blocks
    return sleeping


class _WakesPio:
    """A PIO block's registers: the first write wakes the blocks."""

    def __init__(self, block: Any, wake: Callable[[], None]) -> None:
        self.read_uint32 = block.read_uint32
        self.reset = block.reset
        self._block = block
        self._wake = wake

    def write_uint32_atomic(self, offset: int, value: int, atomic_type: int) -> None:
        self._wake()
        self._block.write_uint32_atomic(offset, value, atomic_type)

    def write_uint32(self, offset: int, value: int) -> None:
        self._wake()
        self._block.write_uint32(offset, value)


class _Sio(RPSIO):
    """The SIO block with a short way to its divider, which computes when it is asked."""

    def __init__(self, chip: RP2040) -> None:
        super().__init__(chip)
        self._signed = self._stale = False

    def read_uint32(self, offset: int) -> int | float:
        if offset == _CPUID:
            return 0
        if offset == _CSR:
            return self.div_csr
        if self._stale and offset in (_QUOTIENT, _REMAINDER):
            self._stale = False
            self.update_hardware_divider(self._signed)
        return super().read_uint32(offset)

    def write_uint32(self, offset: int, value: int) -> None:
        if _UDIVIDEND <= offset <= _SDIVISOR:
            if offset in (_UDIVISOR, _SDIVISOR):
                self.div_divisor = value
            else:
                self.div_dividend = value
            self._signed = offset >= _SDIVIDEND
            self._stale = True
            self.div_csr = _READY_DIRTY
            return
        if _QUOTIENT <= offset <= _REMAINDER:  # a saved state is put back
            self._stale = False
        super().write_uint32(offset, value)


class _Watch:
    """The chip's logger: an unaligned word is a fault, everything else is dropped."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip

    def warning(self, _component: str, message: str) -> None:
        chip = self._chip
        if "aligned" in message and not (chip.trusts_firmware and chip.core.pc < RAM_START_ADDRESS):
            chip.on_fault(f"an unaligned access: {message}")

    def debug(self, _component: str, _message: str) -> None: ...
    def info(self, _component: str, _message: str) -> None: ...
    def error(self, _component: str, _message: str) -> None: ...
