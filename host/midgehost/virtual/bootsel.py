"""A folder that behaves like the drive of a board in BOOTSEL mode. Any tool may copy to it, `cp` and file managers too.

    with BootselDrive(Path("RPI-RP2"), on_boot=start_the_board) as drive:
        subprocess.run(["cp", "firmware.uf2", drive.folder])

The folder exists while the board is in BOOTSEL mode. When a file is complete it vanishes, and what a board does at its
start happens: `on_boot` is called with the flash, or the drive comes back because the flash holds nothing to start.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from midgehost.errors import BoardError
from midgehost.virtual.boot_rom import BLOCK, Nor, Rom, starts

_POLL_S = 0.02
_INFO = "UF2 Bootloader {info}\r\nModel: {title}\r\nBoard-ID: {board_id}\r\n"
_INDEX = '<html><head><meta http-equiv="refresh" content="0;URL=\'https://raspberrypi.com\'"/></head></html>\n'
_OWN = frozenset({"INFO_UF2.TXT", "INDEX.HTM"})


@dataclass
class _Seen:
    """How far a file on the drive has been read."""

    inode: int
    offset: int = 0


class BootselDrive:
    """One board's drive and flash. `restart_s` None is as long as the ROM takes (1 s, 0.5 s on the RP2350).

    `on_boot` runs in the drive's thread. Raises BoardError for a folder that is somebody's.
    """

    def __init__(
        self,
        folder: Path,
        chip: str = "rp2040",
        *,
        flash_bytes: int = 2 << 20,
        restart_s: float | None = None,
        on_boot: Callable[[bytes], None] | None = None,
    ) -> None:
        self.folder = folder
        self.chip = chip
        self.flash = Nor(flash_bytes)
        self.rom = Rom(chip, self.flash)
        self.boots = 0  # how often the board has started from flash
        self._restart_s = self.rom.kind.restart_s if restart_s is None else restart_s
        self._on_boot = on_boot
        self._ending = threading.Event()
        self._booted = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def plugged(self) -> bool:
        """Whether the drive is there."""
        return self._thread is not None and self._thread.is_alive()

    def plug(self) -> Self:
        """The board enters BOOTSEL mode: the drive appears."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise BoardError(f"{self.folder} is not empty.", "Name a folder that does not exist yet.")
        self._appear()
        self._ending.clear()
        self._thread = threading.Thread(target=self._serve, name=f"BOOTSEL {self.folder.name}", daemon=True)
        self._thread.start()
        return self

    def unplug(self) -> None:
        """Pulls the cable: the drive vanishes, whatever is being written."""
        self._ending.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._vanish()

    def wait_boot(self, count: int = 1, timeout: float = 10.0) -> bool:
        """Waits until the board has started from flash `count` times in all."""
        with self._booted:
            return self._booted.wait_for(lambda: self.boots >= count, timeout)

    def __enter__(self) -> Self:
        return self.plug()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()

    def _appear(self) -> None:
        self.rom = Rom(self.chip, self.flash)
        self.flash.erased.clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "INDEX.HTM").write_text(_INDEX)
        fresh = self.folder / ".info"  # whoever finds it finds all of it
        kind = self.rom.kind
        fresh.write_text(_INFO.format(info=kind.info, title=kind.title, board_id=kind.board_id), newline="")
        fresh.rename(self.folder / "INFO_UF2.TXT")

    def _vanish(self) -> None:
        (self.folder / "INFO_UF2.TXT").unlink(missing_ok=True)
        while self.folder.exists():  # a copy may be making a file just now
            shutil.rmtree(self.folder, ignore_errors=True)

    def _serve(self) -> None:
        seen: dict[str, _Seen] = {}
        while not self._ending.wait(_POLL_S):
            if not self._look_around(seen):
                continue
            time.sleep(self._restart_s)
            self._vanish()
            if starts(self.chip, self.flash.data):
                self._boot()
                return
            seen.clear()
            self._appear()

    def _look_around(self, seen: dict[str, _Seen]) -> bool:
        """Hands the ROM what has come; True when it has a whole file."""
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self.folder.rglob("*")):
                if path.name in _OWN or path.is_symlink() or not path.is_file():  # FAT has no links
                    continue
                if self._read(path, seen):
                    return True
        return False

    def _read(self, path: Path, seen: dict[str, _Seen]) -> bool:
        with path.open("rb") as file:
            status = path.stat()
            known = seen.setdefault(str(path), _Seen(status.st_ino))
            if status.st_ino != known.inode or status.st_size < known.offset:
                known.inode, known.offset = status.st_ino, 0
            file.seek(known.offset)
            while len(sector := file.read(BLOCK)) == BLOCK:
                known.offset += BLOCK
                if self.rom.write(sector):
                    return True
        return False

    def _boot(self) -> None:
        if self._on_boot is not None:
            self._on_boot(bytes(self.flash.data))
        with self._booted:
            self.boots += 1
            self._booted.notify_all()
