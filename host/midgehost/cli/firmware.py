"""`midge firmware`: stock images on this computer, and on micropython.org."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from midgehost.boards import Board
    from midgehost.firmware_cache import Image
    from midgehost.flash.images import Offer

app = typer.Typer(help="Stock MicroPython images: list, get, add.", no_args_is_help=True)
_Arch = Annotated[str | None, typer.Option(help="Of a board with several images, e.g. rv32imc for a Pico 2.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def root() -> None:
    """Stock MicroPython images: list, get, add."""


@app.command("list")
def list_images(
    board: Annotated[str | None, typer.Argument(help="Of this board, with what micropython.org offers.")] = None,
    arch: _Arch = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask micropython.org.")] = False,
    as_json: _Json = False,
) -> None:
    """Shows the cached images; for one board also the newest that micropython.org has."""
    from midgehost.boards import board as find_board
    from midgehost.firmware_cache import all_images, folder, of_board
    from midgehost.flash.images import Offline, offers

    target = find_board(board) if board else None
    cached = all_images() if target is None else of_board(target, arch)
    available: list[Offer] = []
    unreachable = ""
    if target is not None and not offline:
        try:
            available = offers(target, arch)
        except Offline as error:
            unreachable = str(error)
    if as_json:
        table = {
            "folder": str(folder()),
            "cached": [_described(image) for image in cached],
            "available": [{"name": offer.name, "version": offer.version, "date": offer.date} for offer in available],
        }
        print(json.dumps(table | ({"offline": unreachable} if unreachable else {})))
        return
    _show(cached, available, unreachable, target)


@app.command()
def get(
    board: Annotated[str, typer.Argument(help="A board of `midge boards`.")],
    version: Annotated[str | None, typer.Option(help="E.g. 1.26.1; default: the newest release.")] = None,
    arch: _Arch = None,
    as_json: _Json = False,
) -> None:
    """Downloads a board's image from micropython.org, unless it is in the cache."""
    from rich.console import Console

    from midgehost.boards import board as find_board
    from midgehost.cli.progress import transfer
    from midgehost.flash import images

    target = find_board(board)
    with transfer(Console(quiet=as_json, stderr=True)) as watch:
        watch.step("downloading")
        image = images.get(target, version, arch, watch.progress)
    _say(image, as_json)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="An image, .uf2 or .bin.")],
    board: Annotated[str | None, typer.Option(help="What it is for; default: what the image says.")] = None,
    as_json: _Json = False,
) -> None:
    """Takes an image that is already on this computer into the cache."""
    from midgehost.boards import board as find_board
    from midgehost.flash import images

    _say(images.add(file, find_board(board) if board else None), as_json)


def _described(image: Image) -> dict[str, object]:
    from midgehost.firmware_cache import board_of

    known = board_of(image.file)
    return {"board": known[0].name if known else None, "arch": known[1].arch if known else None, **image.as_dict()}


def _say(image: Image, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_described(image)))
        return
    print(f"{image.path}: {image.nbytes:,} bytes, SHA-256 {image.sha256}")


def _show(cached: list[Image], available: list[Offer], unreachable: str, target: Board | None) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from midgehost.firmware_cache import folder

    console = Console(highlight=False)
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("board", "arch", "version"):
        table.add_column(heading)
    table.add_column("bytes", justify="right")
    table.add_column("SHA-256")
    for image in cached:
        row = _described(image)
        table.add_row(str(row["board"]), str(row["arch"]), image.version, f"{image.nbytes:,}", image.sha256[:16])
    if cached:
        console.print(table)
    else:
        console.print(f"No image in {folder()} yet.", soft_wrap=True)
    if available:
        have = {image.version for image in cached}
        newest = [f"[green]{o.version}[/]" if o.version in have else o.version for o in available if o.release]
        console.print(f"On micropython.org: {', '.join(newest[:8])}")
    elif unreachable:
        console.print(f"[yellow]{unreachable}[/]", soft_wrap=True)
    elif target is None:
        console.print("`midge firmware list BOARD` shows what micropython.org has for a board.")
