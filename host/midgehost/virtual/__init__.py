"""Virtual boards: what tests, demos and people without hardware open instead of a board. Extra `virtual`."""

from __future__ import annotations

from typing import Any

from midgehost import ports, urls
from midgehost.virtual.esp.environment import environment


def register() -> None:
    """Makes the ports `virtual[:FLASH]`, `virtual:esp32[-s3|-c3|-c6]`, `vboard://NAME` and
    `emulated:pico[-w][@VERSION][:FLASH]` known. Imports nothing heavy."""
    ports.register("virtual", _open_virtual)
    ports.register("vboard", _open_vboard)
    urls.register("vboard", environment)
    ports.register("emulated", _open_emulated)


def _open_virtual(argument: str, options: dict[str, Any]) -> ports.Device:
    """A board that lives as long as the port is open; with an argument its flash is that file, and stays, or it is a
    board with that Espressif chip and empty flash."""
    from midgehost.virtual.board import VirtualBoard

    if argument.startswith("esp32"):
        from midgehost.virtual.esp.board import EspBoard

        esp = EspBoard(argument, **options).start()
        return ports.Device(f"virtual:{argument}", _known(esp.url), esp.close)
    board = VirtualBoard(argument or None, **options).start()
    return ports.Device("virtual", board.path, board.close)


def _open_vboard(argument: str, options: dict[str, Any]) -> ports.Device:
    """A virtual board that runs in another process, with DTR and RTS."""
    url = _known(f"vboard:{argument}")
    return ports.Device(url, url)


def _known(url: str) -> str:
    """The URL, which pyserial knows from now on."""
    from midgehost.virtual.esp.environment.midge_vboard import install

    install()
    return url


def _open_emulated(argument: str, options: dict[str, Any]) -> ports.Device:
    """`emulated:pico`, `emulated:pico-w`: the stock image in an emulator. `pico@1.24.1` names its version,
    `pico:FLASH` a file that keeps its flash."""
    from midgehost.virtual.emulated import TIME_SCALE, kind_and_argument
    from midgehost.virtual.pico.board import EmulatedBoard

    kind, version, flash = kind_and_argument(argument)
    board = EmulatedBoard(kind, version=version, flash=flash, **options).start()
    return ports.Device(f"emulated:{kind}", board.path, board.close, time_scale=TIME_SCALE)
