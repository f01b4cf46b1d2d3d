"""`midge restore`: a board's files as they were in a backup."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from midgehost.cli.port import PortOption


def command(
    file: Annotated[Path, typer.Argument(help="An image that `midge backup` wrote.")],
    port: PortOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: files that the backup does not hold go.")] = False,
    with_trust: Annotated[bool, typer.Option("--with-trust", help="Adopt a board with the backup's keys.")] = False,
    fit: Annotated[bool, typer.Option("--fit", help="Onto a file system of another size, if the files fit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """Make a board's files those of a backup: write what differs, remove the rest. Run it again after a lost line."""
    from rich.console import Console

    from midgehost import connect
    from midgehost.cli.progress import transfer
    from midgehost.cli.words import counted
    from midgehost.deploy.backup import BackupError, load, restore
    from midgehost.deploy.protocol import resuming

    console = Console(quiet=as_json)
    content = load(file)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise BackupError("A restore removes files that the backup does not hold.", "Give --yes to allow it.")
        holds = f"{counted(len(content.files), 'file')} of {content.origin.title}"
        typer.confirm(f"{file} holds {holds}. Make {port} the same? Its other files go", abort=True)
    with connect(port) as board:
        with resuming(board.transport):
            info = board.info
            console.print(f"[bold]{port}[/]  {info.title}")
        with transfer(console) as watch:
            done = restore(
                board.transport,
                info,
                content,
                with_trust=with_trust,
                fit=fit,
                progress=watch.progress,
                on_step=watch.step,
            )
    if as_json:
        report = {"written": len(done.written), "bytes": done.written_bytes, "kept": done.kept, "removed": done.removed}
        print(json.dumps({"port": port, "file": str(file), **report, "runs": done.runs}))
    else:
        what = f"{counted(len(done.written), 'file')} written ({done.written_bytes:,} bytes)"
        console.print(f"[green]restored[/] {what}, {done.kept} unchanged, {done.removed} removed", highlight=False)
        if done.runs is False:
            console.print("[yellow]the node does not speak[/]: run `midge monitor`, or deploy it again")
    return 1 if done.runs is False else 0
