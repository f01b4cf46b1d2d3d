"""`midge deploy`: a node folder goes to a board, is proved there and runs."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from midgehost.cli.passphrase import FromFd, FromFile, passphrase
from midgehost.cli.port import PortOption


def command(
    node_dir: Annotated[Path, typer.Argument(help="The folder with node.toml and the models.")],
    port: PortOption = "",
    source: Annotated[bool, typer.Option("--source", help="Send .py instead of .mpy, for debugging.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Keep a main.py of your own as main.py.bak.")] = False,
    version: Annotated[int | None, typer.Option(min=1, help="Default: Unix time; it must rise.")] = None,
    expires_h: Annotated[float | None, typer.Option("--expires", min=0, help="Hours that it may be taken in.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it confirms itself.")] = False,
    passphrase_file: FromFile = None,
    passphrase_fd: FromFd = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Put a node on a board: send what changed, verify, test, try. The old node runs on if anything fails.

    A board that was adopted gets the update signed, with the key that it trusts.
    """
    from rich.console import Console

    from midgehost import connect
    from midgehost.cli.progress import transfer
    from midgehost.deploy.node_folder import build_payload
    from midgehost.deploy.protocol import Terms, deploy, resuming
    from midgehost.deploy.signing import signer
    from midgehost.keys import KeyStore
    from midgehost.tested import remember

    began = time.monotonic()
    terms = Terms(
        version=version,
        expires=None if expires_h is None else int(time.time() + 3600 * expires_h),
        signer=signer(KeyStore(), lambda: passphrase(passphrase_file, passphrase_fd)),
        confirm=not no_wait,
    )
    console = Console(quiet=as_json)
    with connect(port) as board:
        with resuming(board.transport):
            info = board.info
            console.print(f"[bold]{port}[/]  {info.title}, {info.heap_free:,} bytes of heap free")
            payload = build_payload(node_dir, info, source)
        with transfer(console) as watch:
            report = deploy(
                board.transport, info, payload, terms, force=force, progress=watch.progress, on_step=watch.step
            )
    remember(json.loads(payload.node_json)["name"], info.board.name if info.board else "", info.firmware)
    if as_json:
        print(json.dumps({"port": port, "board": info.title, **asdict(report)}))
        return
    unchanged = report.kept + report.copied
    console.print(
        f"[green]running[/] in slot {report.slot}: {len(report.sent)} files sent ({report.sent_bytes:,} bytes), "
        f"{unchanged} unchanged, {report.tested} model{'' if report.tested == 1 else 's'} tested, "
        f"{time.monotonic() - began:.1f} s"
    )
    console.print(
        f"version {report.version}, {'confirmed' if report.confirmed else 'on trial'}"
        f"{f', signed by {report.signed_by}' if report.signed_by else ''}",
        highlight=False,
    )
    for part, reason in report.disabled.items():
        console.print(f"[yellow]{part} does not work[/]: {reason}", highlight=False)
