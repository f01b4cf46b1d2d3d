"""Virtual boards: what tests, demos and people without hardware open instead of a board. Extra `virtual`."""

from __future__ import annotations

from typing import Any

from midgehost import ports


def register() -> None:
    """Makes the ports `virtual`, `virtual:FLASH` and `emulated:pico` known. Imports nothing heavy."""
    ports.register("virtual", _open_virtual)


def _open_virtual(argument: str, options: dict[str, Any]) -> ports.Device:
    """A board that lives as long as the port is open; with an argument its flash is that file, and stays."""
    from midgehost.virtual.board import VirtualBoard

    board = VirtualBoard(argument or None, **options).start()
    return ports.Device("virtual", board.path, board.close)
