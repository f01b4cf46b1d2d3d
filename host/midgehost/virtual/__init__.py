"""Virtual boards: what tests, demos and people without hardware open instead of a board. Extra `virtual`."""

from __future__ import annotations

from typing import Any

from midgehost import ports


def register() -> None:
    """Makes the ports `virtual`, `virtual:FLASH` and `emulated:pico` known. Imports nothing heavy."""
    ports.register("virtual", _open_virtual)
    ports.register("emulated", _open_emulated)


def _open_virtual(argument: str, options: dict[str, Any]) -> ports.Device:
    """A board that lives as long as the port is open; with an argument its flash is that file, and stays."""
    from midgehost.virtual.board import VirtualBoard

    board = VirtualBoard(argument or None, **options).start()
    return ports.Device("virtual", board.path, board.close)


def _open_emulated(argument: str, options: dict[str, Any]) -> ports.Device:
    """The stock Pico image in an emulator; `emulated:pico` is the only one so far."""
    from midgehost.errors import NotFound
    from midgehost.virtual.emulated import EmulatedPico

    if argument != "pico" or options:
        raise NotFound(f"There is no emulated board {argument!r} with these options.", "Use emulated:pico, alone.")
    pico = EmulatedPico()
    return ports.Device("emulated:pico", "", pico.close, pico)
