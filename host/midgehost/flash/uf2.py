"""The UF2 backend: Raspberry Pi's boards are flashed by copying a file to the drive that their boot ROM shows.

The ROM has no way to complain. It takes the file and restarts, which makes the drive vanish, or it stays. So everything
is checked here before the first byte, and what the drive does afterwards is the verdict.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from midgehost import firmware_cache
from midgehost.boards import Board
from midgehost.errors import FlashError
from midgehost.flash import binary_info, uf2_image
from midgehost.flash.backend import BadImage, Progress, Reason, Request, WrongBoard, WrongImage
from midgehost.flash.binary_info import BinaryInfo
from midgehost.flash.bootsel import CHIPS, HOLD, Drive, drive_at
from midgehost.flash.uf2_image import BLOCK, FLASH_BASE, PAGE, Malformed, Uf2

_CHUNK: Final = 32 << 10  # bytes between two fsyncs: what is not on the drive yet is no progress
_STALL_S: Final = 10.0  # without a chunk: eight sectors erased take 0.4 s, 3 s at their worst (W25Q16JV data sheet)
_ACCEPT_S: Final = 6.0  # for the drive to vanish: the RP2040's ROM restarts after 1 s, the RP2350's after 0.5 s
_POLL_S: Final = 0.05
_NAME: Final = "FIRMWARE.UF2"


class Refused(FlashError):
    """The boot ROM did not take the file: the drive is still there."""

    code = "flash.refused"

    def __init__(self, drive: Path, chip: str) -> None:
        self.drive, self.chip = drive, chip
        super().__init__(
            f"The {chip} has all of the file and is still in BOOTSEL mode after {_ACCEPT_S:g} s: it refused the image.",
            "Unplug it, plug it in again with BOOTSEL held, and try another cable; its firmware may be incomplete now.",
        )


class Interrupted(FlashError):
    """Writing ended before all was written."""

    code = "flash.interrupted"

    def __init__(self, what: str, done: int, total: int) -> None:
        self.done, self.total = done, total
        super().__init__(f"{what} after {done:,} of {total:,} bytes; the board's firmware may be incomplete now.", HOLD)


@dataclass(frozen=True)
class Checked:
    """An image that may go to the board. `doubts` are what a person should read first."""

    image: Uf2
    info: BinaryInfo
    doubts: tuple[str, ...]


class Uf2Backend:
    """Flashes RP2040 and RP2350, Arm and RISC-V."""

    name = "uf2"

    def supports(self, request: Request) -> Reason | None:
        """See `Backend.supports`."""
        if request.board.flash is None or request.board.flash.method != "uf2":
            return Reason("uf2.board", f"{request.board.name} has no BOOTSEL drive")
        if request.image.suffix.lower() != ".uf2":
            return Reason("uf2.suffix", f"a BOOTSEL drive takes .uf2 files, {request.image.name} is none")
        return None

    def check(self, request: Request) -> Sequence[str]:
        """See `Backend.check`. Raises BadImage, WrongImage, ChangedImage."""
        return _checked(request).doubts

    def flash(self, request: Request, progress: Progress) -> None:
        """See `Backend.flash`. Raises NoDrive, WrongBoard, Interrupted, Refused too.

        Returns when the board has restarted into the image, or cannot be seen any more: whether it came back is for
        the caller to find out.
        """
        image = _checked(request).image
        drive = drive_at(Path(request.port))
        wanted = request.board.flash.drive if request.board.flash else ""
        if drive.board_id != wanted:
            raise WrongBoard(str(drive.folder), drive.chip, f"{request.board.name} ({CHIPS.get(wanted, wanted)})")
        drive.require_writable()
        _Copy(drive, _file(image, request)).run(progress)
        end = time.monotonic() + _ACCEPT_S
        while drive.present:
            if time.monotonic() > end:
                raise Refused(drive.folder, drive.chip)
            time.sleep(_POLL_S)


def read_info(request: Request) -> BinaryInfo:
    """What the image says of itself: version and board. Raises what `check` raises."""
    return _checked(request).info


def _checked(request: Request) -> Checked:
    board, path = request.board, request.image
    known = _families(board)
    data = _read(path, board)
    family = _first_family(data)
    if family is not None and family not in known:
        raise WrongImage(str(path), uf2_image.family_name(family), board.name)
    try:
        image = uf2_image.parse(data)
    except Malformed as error:
        raise BadImage(str(path), str(error)) from None
    if image.family not in known:
        raise WrongImage(str(path), uf2_image.family_name(image.family), board.name)
    if image.end > FLASH_BASE + board.flash_bytes:
        raise BadImage(str(path), f"it ends at 0x{image.end:08x}, behind the {board.flash_bytes:,} bytes of flash")
    if why := binary_info.boots(image):
        raise BadImage(str(path), why)
    _hold_against_cache(path, data)
    info = binary_info.read(image)
    return Checked(image, info, _require_board(path, board, info))


def _read(path: Path, board: Board) -> bytes:
    most = (board.flash_bytes // PAGE + 1) * BLOCK
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise BadImage(str(path), (error.strerror or str(error)).lower()) from None
    if len(data) > most:
        raise BadImage(str(path), f"it is larger than an image that fills the {board.flash_bytes:,} bytes of flash")
    return data


def _families(board: Board) -> frozenset[int]:
    return frozenset(image.family for image in board.firmware if image.family is not None)


def _first_family(data: bytes) -> int | None:
    """Of the first block that is no absolute one, if the file begins as a UF2 at all: a file for another chip may be
    perfect, and is not to be called damaged."""
    for at in range(0, min(len(data), 2 * BLOCK), BLOCK):
        family = uf2_image.family_at(data, at)
        if family != uf2_image.ABSOLUTE:
            return family
    return None


def _hold_against_cache(path: Path, data: bytes) -> None:
    """UF2 has no checksum: a stock image of a name that the cache knows must be that image."""
    for cached in firmware_cache.all_images():
        if cached.path.name == path.name and cached.sha256 != hashlib.sha256(data).hexdigest():
            why = "its SHA-256 is not the one that was recorded when the image of this name came into the cache"
            raise BadImage(str(path), why)


def _require_board(path: Path, board: Board, info: BinaryInfo) -> tuple[str, ...]:
    """Boards with one chip have one family: what tells a Pico from a Pico W is the image's own text.

    Returns doubts. Raises WrongImage.
    """
    if info.machine:
        if not any(re.search(pattern, info.machine) for pattern in board.machine):
            raise WrongImage(str(path), info.machine, board.name)
        return ()
    if info.sdk_board:
        if info.sdk_board.replace("_", "-") != board.name:
            raise WrongImage(str(path), f"the board {info.sdk_board}", board.name)
        return (f"{path.name} is no MicroPython image",)
    return (f"{path.name} does not say which board it is for; its chip is the right one",)


def _file(image: Uf2, request: Request) -> bytes:
    """What goes to the drive: the image without a block against RP2350-E10.

    That block is for boards with a partition table, which stock firmware has not; on an RP2350 A2 its address wraps
    round to the last sector of flash, and would erase the end of the file system. With `erase`, pages of 0xff fill the
    rest of flash: a ROM erases what it writes to.
    """
    memory = image.memory
    if request.erase:
        memory = memory.ljust(request.board.flash_bytes, b"\xff")
    return uf2_image.serialise(image.family, image.start, memory)


class _Copy:
    """Writes a file to a drive, in a thread of its own: an fsync on a dead USB device cannot be interrupted."""

    def __init__(self, drive: Drive, data: bytes) -> None:
        self._drive, self._data = drive, data
        self._done = 0
        self._error: OSError | None = None
        self._moved = threading.Event()
        self._ended = False

    def run(self, progress: Progress) -> None:
        """Raises Interrupted. The drive vanishing with the last chunk is how a ROM says that it has everything."""
        total = len(self._data)
        threading.Thread(target=self._write, name="copy to BOOTSEL", daemon=True).start()
        while not self._ended:
            if not self._moved.wait(_STALL_S):
                raise Interrupted(f"The drive at {self._drive.folder} takes nothing any more", self._done, total)
            self._moved.clear()
            progress(self._done, total)
        if self._error is None:
            return
        if self._drive.present:
            what = f"Writing to the drive at {self._drive.folder} failed ({self._error.strerror or self._error})"
            raise Interrupted(what, self._done, total)
        if total - self._done > _CHUNK:
            raise Interrupted(f"The drive at {self._drive.folder} vanished", self._done, total)

    def _write(self) -> None:
        try:
            descriptor = os.open(self._drive.folder / _NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                while self._done < len(self._data):
                    written = 0
                    chunk = memoryview(self._data)[self._done : self._done + _CHUNK]
                    while written < len(chunk):
                        written += os.write(descriptor, chunk[written:])
                    _synchronise(descriptor)
                    self._done += len(chunk)
                    self._moved.set()
                    if self._done < len(self._data) and not self._drive.present:
                        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            finally:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        except OSError as error:
            self._error = error
        finally:
            self._ended = True
            self._moved.set()


def _synchronise(descriptor: int) -> None:
    """fsync, where the file system has one."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
