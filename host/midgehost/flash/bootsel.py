"""Finds boards in BOOTSEL mode: the drives that the boot ROM of an RP2040 or RP2350 shows, with `INFO_UF2.TXT` on them.

`MIDGE_BOOTSEL` names the places to look instead of this system's usual ones: drives, or folders that hold drives.
"""

from __future__ import annotations

import contextlib
import os
import re
import string
import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from midgehost.errors import Ambiguous, FlashError

INFO = "INFO_UF2.TXT"
CHIPS = {"RPI-RP2": "RP2040", "RP2350": "RP2350"}  # by Board-ID, which is the drive's label too
HOLD = "Hold its BOOTSEL button while you plug it in, then run the command again."
_LABELS = Path("/dev/disk/by-label")
_MOUNTS = Path("/proc/mounts")
_POLL_S = 0.1
_TOUCH_BAUD = 1200


class NoDrive(FlashError):
    """No board shows a BOOTSEL drive that can be written to. Nothing was touched."""

    code = "flash.no_drive"
    exit_code = 2

    def __init__(self, what: str, do: str = HOLD) -> None:
        super().__init__(what, do)


@dataclass(frozen=True)
class Drive:
    """A mounted BOOTSEL drive. `device` is what is mounted there, as /proc/mounts says; empty where nothing says so."""

    folder: Path
    board_id: str
    device: str = ""

    @property
    def chip(self) -> str:
        """For messages."""
        return CHIPS.get(self.board_id, self.board_id)

    @property
    def present(self) -> bool:
        """False once the board has left BOOTSEL mode, also where its mount point stays behind."""
        if self.device.startswith("/") and not Path(self.device).exists():
            return False
        return _board_id(self.folder) == self.board_id

    def require_writable(self) -> None:
        """Raises NoDrive."""
        if not os.access(self.folder, os.W_OK):
            do = f"Run: sudo mount -o remount,rw,uid={_user()} {self.folder}"
            raise NoDrive(f"The BOOTSEL drive at {self.folder} may not be written to by you.", do)


def drive_at(folder: Path) -> Drive:
    """The drive that is mounted at a folder. Raises NoDrive."""
    board_id = _board_id(folder)
    if not board_id:
        raise NoDrive(f"{folder} is no BOOTSEL drive: it has no {INFO}.")
    return Drive(folder, board_id, _mounts().get(str(folder.resolve()), ""))


def drives(board_id: str = "") -> list[Drive]:
    """Every mounted BOOTSEL drive, of that Board-ID if one is given."""
    mounts = _mounts()
    found: dict[str, Drive] = {}
    for folder in _places(mounts):
        name = _board_id(folder)
        if name and board_id in ("", name):
            place = str(folder.resolve())
            found.setdefault(place, Drive(folder, name, mounts.get(place, "")))
    return sorted(found.values(), key=lambda drive: str(drive.folder))


def find(board_id: str, timeout: float = 0.0, besides: Collection[Path] = ()) -> Drive:
    """The one drive of that Board-ID, writable; waits up to `timeout` seconds for it. Drives at the folders `besides`
    do not count. Raises NoDrive, Ambiguous."""
    end = time.monotonic() + timeout
    while True:
        found = [drive for drive in drives(board_id) if drive.folder not in besides]
        if len(found) > 1:
            raise Ambiguous("BOOTSEL", [str(drive.folder) for drive in found])
        if found:
            found[0].require_writable()
            return found[0]
        if time.monotonic() >= end:
            raise _none_found(board_id)
        time.sleep(_POLL_S)


def touch(path: str) -> None:
    """Asks a running board to enter BOOTSEL mode by opening and closing its serial port at 1200 baud.

    MicroPython's rp2 port listens to it (MICROPY_HW_USB_CDC_1200BPS_TOUCH), also while a program keeps its REPL busy.
    Never raises: whether it helped, the drive shows.
    """
    import serial

    def open_and_close() -> None:
        with serial.serial_for_url(path, baudrate=_TOUCH_BAUD, timeout=0, write_timeout=0) as port:
            port.dtr = False

    with contextlib.suppress(OSError, ValueError):
        open_and_close()


def _none_found(board_id: str) -> NoDrive:
    for label in sorted(CHIPS):
        device = _LABELS / label
        if board_id in ("", label) and device.exists() and not os.environ.get("MIDGE_BOOTSEL"):
            do = f"Run: udisksctl mount -b {device}"
            return NoDrive(f"The BOOTSEL drive {label} is plugged in, but not mounted.", do)
    others = [f"{drive.folder} ({drive.chip})" for drive in drives()]
    if others:
        return NoDrive(f"No {CHIPS.get(board_id, board_id)} is in BOOTSEL mode, but {', '.join(others)} is.")
    return NoDrive("No board is in BOOTSEL mode.")


def _board_id(folder: Path) -> str:
    """Board-ID of the drive at that folder; empty if it is none, or has gone."""
    try:
        with (folder / INFO).open("rb") as file:
            text = file.read(4096).decode("ascii", "replace")
    except OSError:
        return ""
    match = re.search(r"^Board-ID:[ \t]*(\S+)", text, re.M)
    return match[1] if match else ""


def _places(mounts: Iterable[str]) -> list[Path]:
    """Folders that may be a drive."""
    told = os.environ.get("MIDGE_BOOTSEL")
    if told:
        roots = [Path(part) for part in told.split(os.pathsep) if part]
        return [*roots, *_inside(roots)]
    if sys.platform == "win32":
        return [Path(f"{letter}:\\") for letter in string.ascii_uppercase]
    if sys.platform == "darwin":
        return _inside([Path("/Volumes")])
    media = _inside([Path("/media"), Path("/run/media")])
    return [*(Path(mount) for mount in mounts), *media, *_inside(media)]


def _inside(folders: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        with contextlib.suppress(OSError):
            found += sorted(path for path in folder.iterdir() if path.is_dir())
    return found


def _mounts() -> dict[str, str]:
    """The device of every FAT file system by its mount point; empty where there is no /proc."""
    found: dict[str, str] = {}
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return found
    for line in lines:
        device, mount, kind, *_ = line.split(" ")
        if kind in ("vfat", "msdos", "fuseblk"):
            found[_unescaped(mount)] = _unescaped(device)
    return found


def _unescaped(text: str) -> str:
    """A space is \\040 in /proc/mounts."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0
