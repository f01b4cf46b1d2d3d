"""The virtual board: stock MicroPython as a process, a flash image, a serial line and peripherals.

    with VirtualBoard("flash.img") as board:
        subprocess.run(["mpremote", "connect", board.path, "exec", "print(1)"])

Everything that happens to the board happens in its engine's thread; methods may be called from any.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from midgehost.errors import BoardError, NotFound, Timeout
from midgehost.ports import Port
from midgehost.virtual.engine import Chip, Engine, Firmware
from midgehost.virtual.flash_image import FlashImage
from midgehost.virtual.line import Line
from midgehost.virtual.peripherals import Peripherals
from midgehost.virtual.pins import Pins
from midgehost.virtual.power import PowerCut, Torn
from midgehost.virtual.process import heap_bytes, require_interpreter
from midgehost.virtual.profile import PROFILES

_USB = (0x2E8A, 0x0005)  # a Pico that runs MicroPython
_BOOT_S = 20.0  # generous: 0.1 s on an idle machine


class Sensor(Protocol):
    """Something that is wired to the board before it starts."""

    def attach(self, peripherals: Peripherals) -> None: ...


class VirtualBoard:
    """One board. `flash` None is a fresh flash that is gone at the end. `heap` and `flash_bytes` default to the
    profile's; `link` is a path that always names the board's line; `bps` and `noise` are faults of the line (Line);
    `usb_away` makes its USB native: the port is away for so many seconds after a hard reset, and has another name then.
    `on_bootloader` is called in the engine's thread when the board has left its line for its boot ROM (VirtualPico).

    Raises Missing or NotFound where the interpreter cannot run, Busy where another board has the flash or the link.
    """

    def __init__(
        self,
        flash: str | Path | None = None,
        *,
        heap: str | None = None,
        profile: str = "pico",
        sensors: Sequence[Sensor] = (),
        flash_bytes: int | None = None,
        link: str | Path | None = None,
        bps: int | None = None,
        noise: float = 0.0,
        seed: int = 0,
        usb_away: float | None = None,
        on_bootloader: Callable[[], None] | None = None,
    ) -> None:
        require_interpreter()
        if profile not in PROFILES:
            raise NotFound(f"There is no profile {profile!r}.", f"Profiles: {', '.join(PROFILES)}.")
        self.profile = PROFILES[profile]
        program_heap = heap_bytes(heap or self.profile.heap)
        self._image = FlashImage(flash, flash_bytes or self.profile.flash_bytes)
        self.flash = self._image.path
        digest = hashlib.sha256(str(self.flash).encode()).digest()
        unique_id = digest[: self.profile.unique_id_bytes]
        chip = Chip(self.profile, program_heap, self.flash, unique_id)
        self._engine = Engine(chip, Line(Path(link) if link else None, bps, noise, seed))
        self._engine.on_bootloader = on_bootloader
        self._engine.usb_away_s = usb_away
        self._unique_id = unique_id.hex().upper()
        for sensor in sensors:
            sensor.attach(self._engine.peripherals)

    @property
    def path(self) -> str:
        """The serial port to open; empty while unplugged."""
        return self._engine.line.path

    @property
    def port(self) -> Port:
        """The board as the operating system lists it: with native USB as hardware, else as the virtual board it is."""
        if self._engine.usb_away_s is None:
            return Port(self.path, self._unique_id, virtual=f"virtual {self.profile.name}")
        return Port(self.path, self._unique_id, *_USB, "Board in FS mode", "1-1:1.0")

    @property
    def pins(self) -> Pins:
        """The board's pins: levels, history, inputs to drive."""
        return self._engine.peripherals.pins

    @property
    def peripherals(self) -> Peripherals:
        """What is wired to the board."""
        return self._engine.peripherals

    @property
    def running(self) -> bool:
        """False while the power is off."""
        return self._engine.running

    @property
    def boots(self) -> list[str]:
        """Why the board booted, oldest first: power, hard, watchdog, soft, crash."""
        return self._engine.boots

    @property
    def torn(self) -> list[Torn]:
        """The flash writes that power cuts tore."""
        return self._engine.torn

    def start(self) -> Self:
        """Plugs the board in: the line exists and the board has booted, up to boot.py."""
        if not self._engine.line.plugged:
            try:
                self._engine.call(self._engine.line.plug)
                self.power_cycle()
            except BaseException:
                self.close()
                raise
        return self

    def install(self, firmware: Firmware) -> None:
        """Other firmware, from the next boot on: what the board then says of itself."""
        self._engine.firmware = firmware

    def close(self) -> None:
        """Ends the board and its line. Its flash stays, if it was given one."""
        self._engine.stop()
        self._image.release()

    def cut_power(self) -> None:
        """Takes the power away, between two flash writes. The line stays, silent."""
        self._engine.call(self._engine.power_off)

    def power_cycle(self, cut: PowerCut | None = None) -> None:
        """Takes the power away and gives it back; `cut` takes it away again in the middle of a flash write."""
        engine = self._engine
        engine.call(lambda: engine.power_on(cut))
        deadline = time.monotonic() + _BOOT_S
        while time.monotonic() < deadline:
            if engine.complaint and not engine.running:
                raise BoardError(*_no_boot(engine.complaint))
            if engine.booted or not engine.running:  # not running: cut while it made its file system
                return
            time.sleep(0.002)
        raise Timeout(self.path, "booting", _BOOT_S)

    def plan_cuts(self, *cuts: PowerCut | None) -> None:
        """Cuts the power in the middle of a flash write of the next resets' boots, one of these for each; None lets
        that boot be. A cut ends the plan."""
        self._engine.planned_cuts[:] = cuts

    def wait_ready(self, timeout: float = 10.0) -> bool:
        """Waits until boot.py and main.py have ended and the REPL is there."""
        return self._engine.ready.wait(timeout)

    def wait_off(self, timeout: float = 10.0) -> bool:
        """Waits until the power is off, as after a PowerCut."""
        deadline = time.monotonic() + timeout
        while self.running and time.monotonic() < deadline:
            time.sleep(0.002)
        return not self.running

    def unplug(self) -> None:
        """Pulls the line: the client's next read fails. The board runs on."""
        self._engine.call(self._engine.line.unplug)

    def replug(self) -> None:
        """Gives the board a new line, at a new path (`link` follows)."""
        self.unplug()
        self._engine.call(self._engine.line.plug)

    def inject(self, garbage: bytes) -> None:
        """Sends bytes to the client as if the board had."""
        self._engine.call(lambda: self._engine.line.send(garbage))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _no_boot(complaint: str) -> tuple[str, str]:
    """What to say of an interpreter that printed this instead of booting."""
    errors = [line for line in complaint.splitlines() if "Error" in line]
    why = errors[-1] if errors else "its interpreter ended"
    return f"The virtual board could not boot: {why}.", "Give it more heap, or another flash image."
