"""Virtual boards: what tests, demos and people without hardware open instead of a board. Extra `virtual`."""

from __future__ import annotations

from typing import Any

from midgehost import ports, urls
from midgehost.virtual.esp.environment import environment, midge_vboard


def register() -> None:
    """Makes the ports `virtual[:FLASH]`, `emulated:pico[-w][@VERSION][:FLASH]` and `vboard://NAME` (an ESP32 with DTR
    and RTS that runs in another process) known. Imports nothing heavy."""
    ports.register("virtual", _open_virtual)
    urls.register("vboard", midge_vboard.install, environment)
    ports.register("emulated", _open_emulated)


def _open_virtual(argument: str, options: dict[str, Any]) -> ports.Device:
    """A board that lives as long as the port is open; with an argument its flash is that file, and stays."""
    from midgehost.virtual.board import VirtualBoard

    board = VirtualBoard(argument or None, **options).start()
    return ports.Device("virtual", board.path, board.close)


def _open_emulated(argument: str, options: dict[str, Any]) -> ports.Device:
    """`emulated:pico`, `emulated:pico-w`: the stock image in an emulator. `pico@1.24.1` names its version,
    `pico:FLASH` a file that keeps its flash."""
    from midgehost.virtual.emulated import TIME_SCALE, kind_and_argument
    from midgehost.virtual.pico.board import EmulatedBoard

    kind, version, flash = kind_and_argument(argument)
    board = EmulatedBoard(kind, version=version, flash=flash, **options).start()
    return ports.Device(f"emulated:{kind}", board.path, board.close, time_scale=TIME_SCALE)
