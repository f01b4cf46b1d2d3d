"""The file that is a virtual board's flash. One board at a time has it: two would write over each other."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable
from pathlib import Path

from midgehost.errors import BoardError, Busy

_BLOCK = 4096
_LEAST_BYTES = 8 * _BLOCK
_ERASED = b"\xff" * 256


def was_flash(path: Path) -> bool:
    """Whether one of the two blocks where a file system begins is its own, or ends erased as all flash once was."""
    with path.open("rb") as file:
        blocks = [file.read(_BLOCK) for _ in range(2)]
    return any(b[8:16] == b"littlefs" or b[510:512] == b"\x55\xaa" or b.endswith(_ERASED) for b in blocks)


class FlashImage:
    """Holds the file at `path`; a new one gets `fresh()`, by default `nbytes` erased ones. None is a file that is gone
    at the end. `recognise` tells whether a file is a flash at all.

    Raises Busy while another board has it, BoardError for a file that is no flash image.
    """

    def __init__(
        self,
        path: str | Path | None,
        nbytes: int,
        fresh: Callable[[], bytes] | None = None,
        recognise: Callable[[Path], bool] = was_flash,
    ) -> None:
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if path is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="midge-board-")
            path = Path(self._scratch.name) / "flash.img"
        self.path = Path(path).resolve()
        self._fresh = not self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        except OSError as error:
            raise self._unusable(path, error.strerror) from None
        try:
            self._claim(path, fresh or (lambda: b"\xff" * nbytes), recognise)
        except BaseException:
            self.release()
            raise

    def _claim(self, name: str | Path, fresh: Callable[[], bytes], recognise: Callable[[Path], bool]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(str(name), "End the board that runs on it, or name another flash image.") from None
        if self._fresh:
            self._file.write(fresh())
            self._file.flush()
        size = self.path.stat().st_size
        if size < _LEAST_BYTES or size % _BLOCK:
            raise self._unusable(name, f"it has {size} bytes")
        if not recognise(self.path):
            raise self._unusable(name, "it holds something else, which the board would overwrite")

    @staticmethod
    def _unusable(name: str | Path, why: str | None) -> BoardError:
        return BoardError(f"{name} is no flash image: {why}.", "Name another file, or a new one.")

    def release(self) -> None:
        """Lets another board have the file."""
        self._file.close()
        if self._scratch is not None:
            self._scratch.cleanup()
