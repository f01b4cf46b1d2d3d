"""`--port` of every command: what it says, else MIDGE_PORT, else the project's midge.toml, else the one board that is
plugged in.

    def command(port: PortOption = "") -> None: ...
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from midgehost import ports
from midgehost.errors import Ambiguous, HostError, MidgeError, NotFound

SETTINGS = "midge.toml"
_HELP = "A device, USB serial number or node name, virtual:FLASH_FILE ... Default: midge.toml, or the only board."


class BadSettings(MidgeError):
    """A midge.toml that does not read."""

    code = "host.settings"

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        super().__init__(f"{path} does not read: {why}.", 'Write port = "/dev/ttyACM0", or another port.')


def default_port(folder: Path | None = None, listing: Callable[[], list[ports.Port]] = ports.plugged_in) -> str:
    """The project's port, or else the one board that is plugged in. Raises NotFound, Ambiguous, BadSettings."""
    return project_port(folder or Path.cwd()) or only_board(listing())


def project_port(folder: Path) -> str:
    """What the nearest midge.toml at or above `folder` says; a path in it starts there. Empty: nothing."""
    for above in (folder, *folder.parents):
        path = above / SETTINGS
        if not path.is_file():
            continue
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise HostError(error) from None
        except ValueError as error:
            raise BadSettings(path, str(error)) from None
        port = settings.pop("port", "")
        if settings or not isinstance(port, str):
            raise BadSettings(path, f"there is no setting {next(iter(settings))!r}" if settings else "port is no text")
        return str(above / port) if port.startswith((".", "~")) else port
    return ""


def only_board(listed: list[ports.Port]) -> str:
    """The path of the only board; the first of the several ports that one board may have."""
    boards: dict[tuple[str, str], ports.Port] = {}
    for port in listed:
        if port.is_board:
            boards.setdefault((port.serial_number, port.location.partition(":")[0] or port.path), port)
    if len(boards) > 1:
        raise Ambiguous("the board", [ports.describe([port]) for port in boards.values()])
    if not boards:
        raise NotFound("No board is plugged in.", "`midge doctor` says why; --port virtual:FLASH_FILE needs none.")
    return next(iter(boards.values())).path


def _chosen(given: str) -> str:
    return given or default_port()


def _chosen_or_virtual(given: str) -> str:
    return given or project_port(Path.cwd()) or "virtual"


PortOption = Annotated[
    str, typer.Option("--port", envvar="MIDGE_PORT", callback=_chosen, show_default=False, help=_HELP)
]
PortOrVirtual = Annotated[
    str,
    typer.Option("--port", envvar="MIDGE_PORT", callback=_chosen_or_virtual, show_default="virtual", help=_HELP),
]
