"""What an ESP32 image runs: the virtual MicroPython board, its file system in the flash's vfs partition.

The partition is copied out when it starts and copied back when it stops.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from midgehost.errors import MidgeError
from midgehost.virtual.board import Sensor, VirtualBoard
from midgehost.virtual.engine import Firmware
from midgehost.virtual.esp.nor import SECTOR, NorFlash


class Program:
    """MicroPython on one board."""

    def __init__(self, flash: NorFlash, sensors: Sequence[Sensor]) -> None:
        self._flash = flash
        self._folder = tempfile.TemporaryDirectory(prefix="midge-esp-")
        self._vfs = Path(self._folder.name) / "vfs.img"
        self._where = 0, 0
        self._starting: threading.Thread | None = None
        self._line = -1
        self.board = VirtualBoard(self._vfs, profile="esp32", sensors=sensors)

    def start(self, firmware: Firmware, vfs: tuple[int, int], started: Callable[[str | None], None]) -> None:
        """Boots that firmware with the file system at `vfs`, (offset, size), of the flash. `started` is called from
        another thread, with an error's text or None."""
        self._where = offset, size = vfs
        self.board.install(firmware)
        self._vfs.write_bytes(self._flash.read(offset, size))
        self._starting = threading.Thread(target=self._start, args=(started,), name="virtual ESP32 boots", daemon=True)
        self._starting.start()

    def _start(self, started: Callable[[str | None], None]) -> None:
        try:
            if self.board.path:
                self.board.power_cycle()
            else:
                self.board.start()
        except MidgeError as error:
            started(str(error))
        else:
            started(None)

    def connect(self) -> None:
        """Opens its line; it has started."""
        if self._line < 0:
            self._line = os.open(self.board.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def fileno(self) -> int:
        return self._line

    def read(self) -> bytes:
        """What it has printed."""
        try:
            return os.read(self._line, 4096)
        except OSError:
            return b""

    def write(self, data: bytes) -> int:
        """How much of the client's bytes it takes now."""
        try:
            return os.write(self._line, data)
        except OSError:
            return 0

    def stop(self) -> None:
        """Takes its power away; its files are in the flash again."""
        if self._starting is None:
            return
        self._starting.join()
        self._starting = None
        self.board.cut_power()
        while self._line >= 0 and self.read():
            pass  # what it printed before its end was never sent
        offset, size = self._where
        now = self._vfs.read_bytes()
        for at in range(0, size, SECTOR):
            if (sector := now[at : at + SECTOR]) != self._flash.read(offset + at, SECTOR):
                self._flash.replace(offset + at, sector)

    def close(self) -> None:
        self.stop()
        if self._line >= 0:
            os.close(self._line)
        self.board.close()
        self._folder.cleanup()
