"""`midge remove`: the board as it was before midge."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from midgehost.cli.port import PortOption


def command(
    port: PortOption = "",
    forget: Annotated[bool, typer.Option("--forget", help="The keys that an adopted board trusts, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Take everything off a board that midge put there; a main.py kept as main.py.bak comes back."""
    from midgehost import connect
    from midgehost.deploy.protocol import remove

    with connect(port) as board:
        done = remove(board.transport, forget=forget)
    if as_json:
        print(json.dumps({"port": port, "removed": done.files, "adopted": done.adopted}))
        return
    print(f"{port}: {done.files} files removed")
    if done.adopted:
        print("It stays adopted: its keys and its version floor are kept. With --forget they go too.")
