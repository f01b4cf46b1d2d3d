"""`midge flash`: stock firmware onto a board, which is greeted afterwards. Finding and asking it is `board_at`'s."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from midgehost.boards import Board
    from midgehost.cli.progress import Watch


@dataclass(frozen=True)
class Written:
    """What `--json` prints. `port`, `version` and `machine` are the board's answer; empty for other firmware."""

    board: str
    image: str
    erased: bool
    port: str = ""
    version: str = ""
    machine: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Order:
    """What the command line asks for."""

    board: str | None
    port: str | None
    firmware: str | None
    arch: str | None
    erase: bool


def command(
    board: Annotated[str | None, typer.Option(help="A board of `midge boards`; default: what answers.")] = None,
    port: Annotated[str | None, typer.Option(help="/dev/ttyACM0, serial:NUMBER, or a BOOTSEL drive's folder.")] = None,
    firmware: Annotated[str | None, typer.Option(help="A file, or a version; default: newest in the cache.")] = None,
    arch: Annotated[str | None, typer.Option(help="Of a board with several images, e.g. rv32imc for a Pico 2.")] = None,
    erase: Annotated[bool, typer.Option("--erase", help="All of the flash first, the board's files too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write stock MicroPython to a board, wait for it and greet it. The image is checked before anything is erased."""
    from rich.console import Console

    from midgehost.cli.progress import transfer

    began = time.monotonic()
    said = Console(quiet=as_json, highlight=False, soft_wrap=True)
    with transfer(Console(quiet=as_json, stderr=True)) as watch:
        written = write(Order(board, port, firmware, arch, erase), said, watch)
    report = {**asdict(written), "seconds": round(time.monotonic() - began, 1)}
    if as_json:
        print(json.dumps(report))
    elif written.version:
        what = f"{written.machine or written.board} runs MicroPython {written.version} at {written.port}"
        said.print(f"[green]flashed[/]: {what}, {report['seconds']} s")
    else:
        said.print(f"[green]flashed[/]: {written.image}; it is no MicroPython, so the board was not asked")


def write(order: Order, said: Console, watch: Watch) -> Written:
    """Writes the image, waits for the board and greets it. Raises FlashError, NotFound, WrongBoard."""
    from midgehost.cli import board_at
    from midgehost.cli.port import project_port
    from midgehost.flash import BACKENDS
    from midgehost.flash.backend import Request, choose

    watch.step("looking at the board")
    usual = os.environ.get("MIDGE_PORT") or project_port(Path.cwd())
    place = board_at.look(order.port, order.board, usual)
    image, version = find_image(place.board, order.firmware, order.arch or place.arch, watch)
    request = Request(place.board, image, place.path, order.erase)
    backend = choose(BACKENDS, request)
    for doubt in (*place.doubts, *backend.check(request)):
        said.print(f"[yellow]{doubt}[/]")
    request = board_at.into_bootloader(place, request, watch.step)
    watch.step(f"writing {image.name}")
    backend.flash(request, watch.progress)
    if not version:
        return Written(place.board.name, image.name, order.erase)
    watch.step("waiting for the board")
    port, info = board_at.wait(place)
    board_at.require(port, info, place.board, version)
    answered = info.firmware
    return Written(place.board.name, image.name, order.erase, port, answered, info.machine)


def find_image(board: Board, wanted: str | None, arch: str | None, watch: Watch) -> tuple[Path, str]:
    """The image and its version, "" if it is no MicroPython. One that is not in the cache is downloaded."""
    from midgehost.errors import NotFound
    from midgehost.flash import images
    from midgehost.flash.backend import BadImage
    from midgehost.flash.recognise import recognise

    if wanted is not None and (Path(wanted).suffix.lower() in (".uf2", ".bin") or Path(wanted).exists()):
        path = Path(wanted)
        try:
            return path, recognise(path, path.read_bytes()).version
        except BadImage:  # other firmware, or a damaged file: the backend's check says which
            return path, ""
    version = wanted.removeprefix("v") if wanted else None
    try:
        found = images.find(board, version, arch)
    except NotFound:
        watch.step("downloading")
        found = images.get(board, version, arch, watch.progress)
    return found.path, found.version
