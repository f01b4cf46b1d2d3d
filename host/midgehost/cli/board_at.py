"""The board that is to be flashed: found, asked who it is, sent into its bootloader, awaited and asked again.

Joins what knows nothing of each other: ports and drives, and the transport over which a running board answers.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from midgehost import boards, connect, firmware_cache, ports
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import Ambiguous, Busy, FlashError, LineDropped, MidgeError, NotFound, RemoteError, Timeout
from midgehost.flash import bootsel
from midgehost.flash.backend import WrongBoard

if TYPE_CHECKING:
    from midgehost.boards import Board
    from midgehost.deploy.probe import BoardInfo
    from midgehost.flash.backend import Request

_LEAVE_S: Final = 3.0  # for a board to leave its REPL
_DRIVE_S: Final = 6.0  # for a drive to be mounted, after the board answered
_TOUCH_S: Final = 4.0  # and after it did not
_BACK_S: Final = 10.0  # for a port to come back: a first boot makes the file system
_POLL_S: Final = 0.1


class NotBack(FlashError):
    """All is written, and the board does not answer."""

    code = "flash.not_back"

    def __init__(self, where: str, why: str) -> None:
        self.where, self.why = where, why
        super().__init__(
            f"The image is written, but no board answers at {where}: {why.rstrip('.')}.",
            "Press its reset button or plug it in again, then look with `midge devices`.",
        )


class WrongFirmware(FlashError):
    """All is written, and the board answers as something else."""

    code = "flash.wrong_firmware"

    def __init__(self, port: str, found: str, written: str) -> None:
        self.port, self.found, self.written = port, found, written
        super().__init__(f"{port} answers as {found}, not as {written}, which was written.", "Flash it once more.")


@dataclass(frozen=True)
class Place:
    """Where the board is. `name` is its port as the user wrote it, `path` what pyserial opens; both empty for a board
    that is only there as a drive. `info` is its answer, None if it gave none."""

    board: Board
    name: str = ""
    path: str = ""
    drive: bootsel.Drive | None = None
    info: BoardInfo | None = None
    seen: ports.Port | None = None
    before: frozenset[str] = frozenset()  # paths of the ports that were there before

    @property
    def arch(self) -> str | None:
        """Of the image that the board runs, where its kind has several."""
        arch = self.info.arch if self.info else None
        return arch if any(image.arch == arch for image in self.board.firmware) else None

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a person should know first: boards with one chip can be told apart by their firmware only."""
        if self.info is None:
            return ()
        found = self.info.board
        if found is None or found.name == self.board.name:
            return ()
        return (f"{self.name} runs the firmware of {found.name}, you name it {self.board.name}",)


def look(port: str | None, name: str | None, usual: str = "") -> Place:
    """Finds the board and asks it, without changing it.

    `name` is of a board file, None what the board answers. Without a port it is the drive that is there, else at the
    `usual` port, else the only board. Raises NotFound, Ambiguous, Busy, NoDrive, WrongBoard.
    """
    target = boards.board(name) if name else None
    before = frozenset(found.path for found in ports.plugged_in())
    if port is not None and Path(port).is_dir():
        return _at_drive(target, bootsel.drive_at(Path(port)), before)
    if port is None:
        drive = _only_drive(target)
        if drive is not None:
            return _at_drive(target, drive, before)
        port = usual or _only_port(target)
    if target is not None and not _uses_drive(
        target
    ):  # esptool asks the chip itself, and a bare one answers nobody else
        with ports.open_port(port) as device:
            return Place(target, port, device.path, seen=_seen(device.path), before=before)
    path, info, error = _ask(port)
    if target is None:
        target = _answered(port, info, error)
    found = info.board if info else None
    if info and found and found.chip != target.chip:
        raise WrongBoard(port, info.machine, target.name)
    place = Place(target, port, path, None, info, _seen(path), before)
    if info is None and _uses_drive(target):
        drive = _only_drive(target)
        if drive is not None:  # it was in BOOTSEL mode all the time
            return replace(place, drive=drive)
    if error is not None and not path:
        raise error
    return place


def into_bootloader(place: Place, request: Request, on_step: Callable[[str], None]) -> Request:
    """The request with the port that the backend writes to: a drive, which a running board is reset into, or the serial
    port. Raises NoDrive, Ambiguous."""
    if not _uses_drive(place.board):
        return replace(request, port=place.path)
    if place.drive is not None:
        return replace(request, port=str(place.drive.folder))
    board_id = _board_id(place.board)
    others = frozenset(drive.folder for drive in bootsel.drives(board_id))
    on_step("asking for BOOTSEL")
    if place.info is not None:
        with (
            contextlib.suppress(LineDropped, Timeout, RemoteError),
            SerialTransport(place.path, place.name) as transport,
        ):
            transport.exec("import machine\nmachine.bootloader()", _LEAVE_S)
        drive = bootsel.find(board_id, _DRIVE_S, others)
    else:
        bootsel.touch(place.path)
        drive = bootsel.find(board_id, _TOUCH_S, others)
    return replace(request, port=str(drive.folder))


def wait(place: Place) -> tuple[str, BoardInfo]:
    """The port that the board came back on, perhaps under another name, and its answer. Raises NotBack."""
    end = time.monotonic() + _BACK_S
    why = "no port appeared"
    while True:
        for port in _candidates(place):
            try:
                with connect(port) as board:
                    return port, board.info
            except NotFound:
                continue
            except MidgeError as error:
                why = error.what
        if time.monotonic() > end:
            raise NotBack(place.name or f"any port of a {place.board.title}", why)
        time.sleep(_POLL_S)


def require(port: str, info: BoardInfo, target: Board, version: str) -> None:
    """Raises WrongBoard, WrongFirmware unless that is what was written."""
    found = info.board
    if found is not None and found.chip != target.chip:
        raise WrongBoard(port, info.machine, target.name, "the image is written all the same")
    have, want = tuple(info.version[:3]), firmware_cache.age(version)[0][:3]
    if have != want or (found is not None and found.name != target.name):
        answer = f"{info.machine or info.platform}, {info.implementation} {'.'.join(map(str, have))}"
        raise WrongFirmware(port, answer, f"{target.name} {version}")


def _ask(port: str) -> tuple[str, BoardInfo | None, MidgeError | None]:
    """(path, answer, why there is none). Raises Busy, Ambiguous."""
    path = port if re.search(r"[/\\]|^COM\d+$", port) and "://" not in port and Path(port).exists() else ""
    try:
        with connect(port) as board:
            path = getattr(board.transport, "path", "")
            return path, board.info, None
    except (Busy, Ambiguous):
        raise
    except MidgeError as error:
        return path or (port if "://" in port else ""), None, error


def _seen(path: str) -> ports.Port | None:
    return ports.find(path, ports.plugged_in()) if path else None


def _answered(port: str, info: BoardInfo | None, error: MidgeError | None) -> Board:
    """The board that answers so. Raises NotFound."""
    if info is None:
        why = error.what.rstrip(".") if error else "nothing answers"
        raise NotFound(f"The board at {port} cannot be asked what it is: {why}.", "Name it with --board.")
    found = info.board
    if found is None:
        raise NotFound(f"No board file describes {info.machine!r} at {port}.", "Name its board with --board.")
    return found


def _at_drive(target: Board | None, drive: bootsel.Drive, before: frozenset[str]) -> Place:
    fitting = [board for board in boards.all_boards().values() if _board_id(board) == drive.board_id]
    if target is None:
        if len(fitting) != 1:
            which = " or ".join(f"--board {board.name}" for board in fitting) or "--board NAME"
            raise NotFound(f"The drive at {drive.folder} is an {drive.chip}; which board is it?", f"Say {which}.")
        target = fitting[0]
    elif drive.board_id != _board_id(target):
        raise WrongBoard(str(drive.folder), f"an {drive.chip}", target.name)
    return Place(target, drive=drive, before=before)


def _only_drive(target: Board | None) -> bootsel.Drive | None:
    """The drive that is there already. Raises Ambiguous, NoDrive (it may not be written to)."""
    if target is not None and not _uses_drive(target):
        return None
    board_id = _board_id(target) if target else ""
    return bootsel.find(board_id) if bootsel.drives(board_id) else None


def _only_port(target: Board | None) -> str:
    """The port of the only board that it may be. Raises NotFound, Ambiguous, NoDrive."""
    found = [p for p in ports.plugged_in() if p.is_board and (target is None or _may_be(p, target))]
    if len(found) > 1:
        raise Ambiguous(target.name if target else "the board", [p.path for p in found])
    if found:
        return found[0].path
    if target is None:
        raise NotFound("No board is plugged in.", "Plug one in, or hold BOOTSEL while you plug in a Pico.")
    if _uses_drive(target):
        bootsel.find(_board_id(target))  # raises: it says why there is none
    raise NotFound(f"No {target.title} is plugged in.", "Plug it in with a data cable, or name its --port.")


def _candidates(place: Place) -> Iterable[str]:
    """Ports that the board may have come back on."""
    if place.name:
        yield place.name
    for found in ports.plugged_in():
        known = place.seen is not None and bool(place.seen.serial_number) and place.seen.same_board(found)
        fresh = not place.name and found.path not in place.before
        if known or (fresh and _may_be(found, place.board)):
            yield found.path


def _may_be(port: ports.Port, board: Board) -> bool:
    """Whether such a board may be at that port, as far as can be told without asking it."""
    if port.virtual:
        return port.virtual.rpartition(" ")[2] == board.name
    return port.usb_id in (*board.usb.running, *board.usb.bootloader)


def _uses_drive(board: Board) -> bool:
    return board.flash is not None and board.flash.method == "uf2"


def _board_id(board: Board) -> str:
    return board.flash.drive if board.flash is not None else ""
