"""`midge backup`: a board's files as one littlefs image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from midgehost.cli.port import PortOption


def command(
    file: Annotated[Path, typer.Argument(help="The image to write; an older one is replaced when the new is whole.")],
    port: PortOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Save a board's files in a littlefs image, each checked by its SHA-256. The node is stopped meanwhile.

    The image is as large as the board's file system; it can be restored, flashed, or run by a virtual board. It holds
    what the board holds, Wi-Fi passwords and shared keys too: only you may read it.
    """
    from rich.console import Console

    from midgehost import connect
    from midgehost.cli.progress import transfer
    from midgehost.cli.words import counted
    from midgehost.deploy.backup import read_board, require_place, save
    from midgehost.deploy.protocol import resuming

    require_place(file)  # before a node is stopped for it
    console = Console(quiet=as_json)
    with connect(port) as board:
        with resuming(board.transport):
            info = board.info
            console.print(f"[bold]{port}[/]  {info.title}")
        with transfer(console) as watch:
            content = read_board(board.transport, info, progress=watch.progress, on_step=watch.step)
    size = save(content, file)
    if as_json:
        report = {"port": port, "file": str(file), "files": len(content.files), "folders": len(content.folders)}
        print(json.dumps(report | {"bytes": content.nbytes, "image_bytes": size, "file_system": content.origin.kind}))
        return
    what = f"{counted(len(content.files), 'file')} ({content.nbytes:,} bytes)"
    console.print(f"[green]saved[/] {what} in {file}, an image of {size:,} bytes", highlight=False, soft_wrap=True)
    if content.origin.kind != "littlefs":
        console.print(f"The board's own file system is {content.origin.kind}: restore this image, do not flash it.")
