"""A virtual Pico as a person has it on the desk: a board that runs, or a BOOTSEL drive that takes firmware.

    with VirtualPico(Path("RPI-RP2"), link="board") as pico:
        ...  # `machine.bootloader()` or 1200 baud: the line vanishes, the folder appears; a UF2 file: the line is back

It is a VirtualBoard, whose interpreter stays what it is whatever is flashed; but it answers with the version and board
that the image names, and the image's bytes lie in its flash before the file system, as on a Pico.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.bootsel import BootselDrive
from midgehost.virtual.engine import Firmware

_VERSION = re.compile(rb"MicroPython v(\d+)\.(\d+)\.(\d+)")
_MACHINE = re.compile(rb"Raspberry Pi [ -~]{1,40} with RP2[-\w]+")


class VirtualPico:
    """Runs from the start, with the interpreter as its firmware; `blank`: nothing is flashed yet, it is a drive.

    `options` are VirtualBoard's. `restart_s` is BootselDrive's.
    """

    def __init__(self, drive: Path, *, blank: bool = False, restart_s: float | None = None, **options: Any) -> None:
        self.board = VirtualBoard(**options, on_bootloader=self._enter_bootsel)
        self.drive = BootselDrive(drive, restart_s=restart_s, on_boot=self._boot)
        self._file_system_at = len(self.drive.flash.data) - self.board.flash.stat().st_size
        self._blank = blank
        self.board.install(Firmware(machine="Raspberry Pi Pico with RP2040"))

    @property
    def path(self) -> str:
        """The serial port; empty while it is a drive."""
        return self.board.path

    def start(self) -> Self:
        """Plugs it in."""
        if self._blank:
            self._enter_bootsel()
        else:
            self.board.start()
        return self

    def close(self) -> None:
        """Ends the board, its line and its drive."""
        self.drive.unplug()
        self.board.close()

    def _enter_bootsel(self) -> None:
        self.drive.flash.data[self._file_system_at :] = self.board.flash.read_bytes()
        self.drive.plug()

    def _boot(self, flash: bytes) -> None:
        with self.board.flash.open("r+b") as file:
            file.write(flash[self._file_system_at :])
        version, machine = _VERSION.search(flash), _MACHINE.search(flash)
        self.board.install(
            Firmware(
                version=(*(int(part) for part in version.groups()), "") if version else (),
                machine=machine.group().decode() if machine else "",
            )
        )
        self.board.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
