"""Flash backends: each declares what it can do; nobody else needs to know.

A new backend is a new file and one line in `flash/__init__.py`. `choose` has no ladder of ifs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from midgehost.boards import Board
from midgehost.errors import FlashError

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)


@dataclass(frozen=True)
class Reason:
    """Why a backend cannot serve a request, in words for the person who asked."""

    code: str
    text: str


@dataclass(frozen=True)
class Request:
    """What to write where. `port` is a serial port or pyserial URL (esptool), or a BOOTSEL drive's folder (UF2)."""

    board: Board
    image: Path
    port: str
    erase: bool = False  # the whole flash first, file system included


class Backend(Protocol):
    """One way to write a firmware image."""

    name: str

    def supports(self, request: Request) -> Reason | None:
        """None if `flash` can serve the request, else why not. Touches no hardware."""
        ...

    def check(self, request: Request) -> Sequence[str]:
        """Holds the image's own header against the board. Touches no hardware. Raises WrongImage, BadImage.

        Returns what a person should know all the same, a sentence each.
        """
        ...

    def flash(self, request: Request, progress: Progress) -> None:
        """Checks, writes and verifies the image. Raises FlashError; the message says what state the board is in."""
        ...


class NoBackend(FlashError):
    """No backend serves the request."""

    code = "flash.no_backend"
    exit_code = 2

    def __init__(self, board: str, refusals: Sequence[Reason]) -> None:
        self.board, self.refusals = board, tuple(refusals)
        super().__init__(
            f"{board} cannot be flashed so: {'; '.join(reason.text for reason in refusals)}.",
            "Choose another image or port; `midge boards` says how each board is flashed.",
        )


class BadImage(FlashError):
    """The file is no firmware image, or a damaged one."""

    code = "flash.bad_image"
    exit_code = 2

    def __init__(self, path: str, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path} is not a usable firmware image: {why}; nothing was written.", "Download it again.")


class WrongImage(FlashError):
    """A sound image, for another board."""

    code = "flash.wrong_image"
    exit_code = 2

    def __init__(self, path: str, found: str, board: str) -> None:
        self.path, self.found, self.board = path, found, board
        super().__init__(
            f"{path} is for {found}, not for {board}; nothing was written.",
            f"Run `midge firmware get {board}`, or name the right board.",
        )


class WrongBoard(FlashError):
    """Another board than the named one is at the port. `done` is what has happened to it."""

    code = "flash.wrong_board"

    def __init__(self, port: str, found: str, board: str, done: str = "nothing was written") -> None:
        self.port, self.found, self.board = port, found, board
        super().__init__(f"{port} is {found}, not {board}; {done}.", "Name the right board, or another port.")


def choose(backends: Sequence[Backend], request: Request) -> Backend:
    """The first backend that supports the request. Raises NoBackend with every refusal."""
    refusals: list[Reason] = []
    for backend in backends:
        reason = backend.supports(request)
        if reason is None:
            return backend
        refusals.append(reason)
    raise NoBackend(request.board.name, refusals)
