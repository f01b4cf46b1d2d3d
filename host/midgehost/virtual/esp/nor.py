"""A NOR flash chip in a file: erasing sets a sector's bits, programming only clears them."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import tempfile
from pathlib import Path

from midgehost.errors import BoardError, Busy

SECTOR = 4096


class OutOfFlash(Exception):
    """An access that the chip does not have."""


class NorFlash:
    """`nbytes` of flash in the file `path`; None is a file that is gone at the end. A new file is erased flash.

    Raises Busy while another board has the file, BoardError for a file of another size.
    """

    def __init__(self, path: str | Path | None, nbytes: int) -> None:
        self.size = nbytes
        self._file = tempfile.TemporaryFile() if path is None else Path(path).open("a+b")  # noqa: SIM115 close() does
        try:
            self._claim(str(path))
        except BaseException:
            self._file.close()
            raise
        self._bytes = mmap.mmap(self._file.fileno(), nbytes)

    def _claim(self, name: str) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(name, "End the board that runs on it, or name another flash file.") from None
        found = self._file.seek(0, 2)
        if found == 0:
            self._file.write(b"\xff" * self.size)
            self._file.flush()
        elif found != self.size:
            raise BoardError(
                f"{name} has {found:,} bytes, the board's flash {self.size:,}.", "Name another file, or a new one."
            )

    def close(self) -> None:
        """Lets another board have the file."""
        self._bytes.flush()
        self._bytes.close()
        self._file.close()

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return self._bytes[offset : offset + length]

    def md5(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        with memoryview(self._bytes) as view:
            return hashlib.md5(view[offset : offset + length]).digest()

    def erase(self, offset: int, length: int) -> None:
        """Erases whole sectors; both numbers are multiples of SECTOR."""
        self._check(offset, length)
        if offset % SECTOR or length % SECTOR:
            raise OutOfFlash(f"{offset:#x} and {length:#x} are no whole sectors")
        self._bytes[offset : offset + length] = b"\xff" * length

    def program(self, offset: int, data: bytes) -> None:
        """Clears the bits that are 0 in `data`."""
        self._check(offset, len(data))
        old = self._bytes[offset : offset + len(data)]
        new = int.from_bytes(old, "little") & int.from_bytes(data, "little")
        self._bytes[offset : offset + len(data)] = new.to_bytes(len(data), "little")

    def replace(self, offset: int, data: bytes) -> None:
        """What somebody else has erased and programmed there."""
        self._check(offset, len(data))
        self._bytes[offset : offset + len(data)] = data

    def _check(self, offset: int, length: int) -> None:
        if not 0 <= offset <= offset + length <= self.size:
            raise OutOfFlash(f"{offset:#x} to {offset + length:#x} of {self.size:#x}")
