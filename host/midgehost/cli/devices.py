"""`midge devices`: the boards that are plugged in, and what they do."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

_WIDE = 200  # columns, where no terminal says how many there are


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Only what USB says: open no port.")] = False,
    probe: Annotated[bool, typer.Option("--probe", help="Interrupt what runs to look, and start it again.")] = False,
) -> int:
    """List ports with board, firmware, node and state. A running node is asked and runs on. Exit 1 if there is none."""
    from rich.console import Console
    from rich.table import Table

    from midgehost import ports
    from midgehost.deploy.devices import find_devices

    found = find_devices(ports.plugged_in(), probe=not no_probe, interrupt=probe)
    if as_json:
        print(json.dumps([device.as_dict() for device in found]))
        return 0 if found else 1
    if not found:
        print("No board is plugged in; `midge doctor` says why one may not be seen.")
        return 1
    table = Table(box=None, header_style="bold")
    for title in ("port", "serial number", "board", "chip", "firmware", "node", "state"):
        table.add_column(title, overflow="fold")
    for device in found:
        board = device.board or " or ".join(device.maybe) or device.port.product
        state = f"{device.state}: {device.detail}" if device.detail else device.state
        cells = (device.port.path, device.port.serial_number, board, device.chip, device.firmware, device.node, state)
        table.add_row(*(cell or "-" for cell in cells))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
    return 0
