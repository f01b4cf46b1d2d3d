"""`midge monitor`: what a running node says, live."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from midgehost.records import Record

_BACK_OFF = (0.5, 1.0, 2.0, 5.0)  # s, between tries to reach a board that went away
_FRAME_S = 0.2


def command(
    port: Annotated[str, typer.Option(help="/dev/ttyACM0, serial:<USB serial number>, a virtual board's path")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one record a line.")] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Append records to this file.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long.")] = None,
) -> None:
    """Shows a node's signals, scores, alarms, heap and latency; comes back by itself when the line drops."""
    end = None if seconds is None else time.monotonic() + seconds
    writer = _CsvFile(csv_file) if csv_file else None
    events = follow(port, end)
    if as_json:
        for event in events:
            if isinstance(event, Record):
                print(json.dumps(event.as_dict()), flush=True)
                if writer:
                    writer.add(event)
            else:
                typer.echo(f"midge: {event}", err=True)
        return
    _show(port, events, writer)


def follow(port: str, end: float | None) -> Iterator[Record | str]:
    """Records as they come, and a line of text whenever the line drops or is back; "" is a moment without news."""
    from midgehost import connect
    from midgehost.errors import LineDropped, MidgeError

    tries = 0
    while end is None or time.monotonic() < end:
        try:
            with connect(port) as board:
                if tries:
                    yield f"the line to {port} is back"
                tries = 0
                while end is None or time.monotonic() < end:
                    yield from board.records(timeout=_FRAME_S)
                    yield ""
        except LineDropped:
            yield f"the line to {port} dropped; trying again"
        except MidgeError as error:
            if tries == 0:
                raise
            if tries == 1:
                yield f"waiting: {error.what}"
        tries += 1
        time.sleep(_BACK_OFF[min(tries, len(_BACK_OFF)) - 1])


def _show(port: str, events: Iterator[Record | str], writer: _CsvFile | None) -> None:
    from rich.console import Console
    from rich.live import Live

    from midgehost.cli.live import LiveChart

    console = Console()
    chart = LiveChart(f"midge monitor  {port}")
    chart.status = "Ctrl-C ends"
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        drawn = 0.0
        try:
            for event in events:
                if isinstance(event, Record):
                    chart.add(event)
                    if writer:
                        writer.add(event)
                elif event:
                    chart.note(event)
                if time.monotonic() - drawn >= _FRAME_S:
                    drawn = time.monotonic()
                    live.update(chart.render(console.width, console.height), refresh=True)
        except KeyboardInterrupt:
            pass
    counts = chart.counts
    console.print(f"{counts['records']:,} records, {counts['alarms']} alarms, {counts['alerts']} alerts")


class _CsvFile:
    """Records as rows: integer milliseconds, node, name, value, unit."""

    def __init__(self, path: Path) -> None:
        fresh = not path.exists()
        self._file = path.open("a", newline="")
        self._rows: Any = csv.writer(self._file)
        if fresh:
            self._rows.writerow(["t_ms", "node", "name", "value", "unit"])

    def add(self, record: Record) -> None:
        self._rows.writerow([record.t, record.node, record.name, record.value, record.unit])
        self._file.flush()
