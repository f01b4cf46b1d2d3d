"""`midge board`: start a virtual board and keep it running."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from midgehost.errors import NotFound

app = typer.Typer(help="Virtual boards that any serial tool can open.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Virtual boards that any serial tool can open."""


@app.command()
def start(
    kind: Annotated[str, typer.Argument(help="`virtual`: MicroPython on a pty.")] = "virtual",
    flash: Annotated[Path | None, typer.Option(help="Keep the board's flash in this file.")] = None,
    heap: Annotated[str | None, typer.Option(help="Heap limit, e.g. 192k; the profile's by default.")] = None,
    profile: Annotated[str, typer.Option(help="What it pretends to be: esp32 or pico.")] = "pico",
    accel: Annotated[Path | None, typer.Option(help="A CSV recording for an MPU-6050 at 0x68, in g.")] = None,
    columns: Annotated[str, typer.Option(help="The recording's three columns.")] = "x,y,z",
    adc: Annotated[list[str] | None, typer.Option(help="PIN=FILE:COLUMN, values 0 to 1; repeatable.")] = None,
    rate: Annotated[float | None, typer.Option(help="Play at this many Hz; default: one sample a reading.")] = None,
    end: Annotated[str, typer.Option(help="After the last sample: hold, loop or stop.")] = "loop",
    link: Annotated[Path | None, typer.Option(help="A symbolic link that always names the board's port.")] = None,
) -> None:
    """Starts a board, prints the path of its serial port and stays until Ctrl-C."""
    from midgehost.virtual.board import VirtualBoard
    from midgehost.virtual.sensors import AnalogueInput, Mpu6050, Recording

    if kind != "virtual":
        raise NotFound(f"There is no board to start called {kind!r}.", "Start `virtual`.")
    if end not in ("hold", "loop", "stop"):
        raise NotFound(f"A recording cannot end with {end!r}.", "Choose hold, loop or stop.")
    sensors: list[Mpu6050 | AnalogueInput] = []
    if accel is not None:
        if len(columns.split(",")) != 3:
            raise NotFound(f"--columns {columns!r} does not name three axes.", "Write them as x,y,z.")
        sensors.append(Mpu6050(Recording.read(accel, columns.split(","), rate, end)))
    for wiring in adc or []:
        pin, _, source = wiring.partition("=")
        path, _, column = source.rpartition(":")
        if not (pin.isascii() and pin.isdigit()) or not path:
            raise NotFound(f"--adc {wiring!r} does not read.", "Write PIN=FILE:COLUMN, e.g. 26=room.csv:co2.")
        sensors.append(AnalogueInput(int(pin), Recording.read(path, [column], rate, end)))
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: ended.set())
    with VirtualBoard(flash, heap=heap, profile=profile, sensors=sensors, link=link) as board:
        print(board.path, flush=True)
        while not ended.wait(0.5):
            pass
