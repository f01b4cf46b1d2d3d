"""`midge deploy`: a node folder goes to a board, is proved there and runs."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def command(
    node_dir: Annotated[Path, typer.Argument(help="The folder with node.toml and the models.")],
    port: Annotated[str, typer.Option(help="/dev/ttyACM0, serial:<USB serial number>, virtual:FLASH_FILE")],
    source: Annotated[bool, typer.Option("--source", help="Send .py instead of .mpy, for debugging.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Keep a main.py of your own as main.py.bak.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Put a node on a board: send what changed, verify, test, start. The old node runs on if anything fails."""
    from rich.console import Console

    from midgehost import connect
    from midgehost.boards import identify
    from midgehost.cli.progress import transfer
    from midgehost.deploy.node_folder import build_payload
    from midgehost.deploy.protocol import deploy, resuming
    from midgehost.tested import remember

    began = time.monotonic()
    console = Console(quiet=as_json)
    with connect(port) as board:
        with resuming(board.transport):
            info = board.info
            console.print(f"[bold]{port}[/]  {info.title}, {info.heap_free:,} bytes of heap free")
            payload = build_payload(node_dir, info, source)
        with transfer(console) as watch:
            report = deploy(board.transport, info, payload, force=force, progress=watch.progress, on_step=watch.step)
    fitting = identify(info.platform, info.machine)
    remember(json.loads(payload.node_json)["name"], fitting.name if fitting else "", ".".join(map(str, info.version)))
    if as_json:
        print(json.dumps({"port": port, "board": info.title, **asdict(report)}))
        return
    unchanged = report.kept + report.copied
    console.print(
        f"[green]running[/] in slot {report.slot}: {len(report.sent)} files sent ({report.sent_bytes:,} bytes), "
        f"{unchanged} unchanged, {report.tested} model{'' if report.tested == 1 else 's'} tested, "
        f"{time.monotonic() - began:.1f} s"
    )
    for part, reason in report.disabled.items():
        console.print(f"[yellow]{part} does not work[/]: {reason}", highlight=False)
