"""`midge remove`: the board as it was before midge."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    port: Annotated[str, typer.Option(help="/dev/ttyACM0, serial:<USB serial number>, virtual:FLASH_FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Take everything off a board that midge put there; a main.py kept as main.py.bak comes back."""
    from midgehost import connect
    from midgehost.deploy.protocol import remove

    with connect(port) as board:
        count = remove(board.transport)
    print(json.dumps({"port": port, "removed": count}) if as_json else f"{port}: {count} files removed")
