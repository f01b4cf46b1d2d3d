"""`midge monitor`: what a running node says, live."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from midgehost.cli.port import PortOption
from midgehost.cli.words import counted
from midgehost.errors import DataError
from midgehost.records import Record

_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0)  # between tries to reach a board that went away
_FRAME_S = 0.2
_SILENCE_S = 5.0  # after which it is worth a word

Sink = Callable[[Record], None]


def command(
    port: PortOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one record a line.")] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Append records to this file.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long.")] = None,
) -> None:
    """Shows a node's signals, scores, alarms, heap and latency; comes back by itself when the line drops."""
    events = follow(port, None if seconds is None else time.monotonic() + seconds)
    with csv_sink(csv_file) as save:
        if as_json:
            _print(events, save)
        else:
            _show(port, events, save)


def follow(port: str, end: float | None) -> Generator[Record | str]:
    """Records as they come, and a line of text when the line drops, is back, or is silent; "" is a moment without news.

    Ends at `end` (of time.monotonic). Raises what the first connection raises; later ones are tried for ever.
    """
    from midgehost import connect
    from midgehost.errors import LineDropped, MidgeError

    tries = 0
    while not _over(end):
        try:
            with connect(port) as board:
                if tries:
                    yield f"the line to {port} is back"
                tries = 0
                heard = time.monotonic()
                while not _over(end):
                    for record in board.records(timeout=_FRAME_S):
                        heard = time.monotonic()
                        yield record
                    if time.monotonic() - heard > _SILENCE_S:
                        heard = float("inf")
                        yield f"{port} has said nothing for {_SILENCE_S:g} s: if no node runs on it, deploy one."
                    yield ""
        except LineDropped:
            yield f"the line to {port} dropped; trying to come back"
        except MidgeError as error:
            if tries == 0:
                raise
            if tries == 1:
                yield f"waiting: {error.what}"
        pause = _BACK_OFF_S[min(tries, len(_BACK_OFF_S) - 1)]
        tries += 1
        time.sleep(pause if end is None else max(0.0, min(pause, end - time.monotonic())))


def _over(end: float | None) -> bool:
    return end is not None and not time.monotonic() < end  # NaN is over at once


@contextmanager
def csv_sink(path: Path | None) -> Generator[Sink]:
    """Appends records as rows: integer milliseconds, node, name, value, unit. Without a path they go nowhere."""
    if path is None:
        yield lambda _: None
        return
    fresh = not path.exists() or path.stat().st_size == 0
    try:
        opened = path.open("a", newline="")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.", "Name a file in another folder.") from None
    with opened as file:
        rows = csv.writer(file)
        if fresh:
            rows.writerow(["t_ms", "node", "name", "value", "unit"])

        def save(record: Record) -> None:
            rows.writerow([record.t, record.node, record.name, record.value, record.unit])
            file.flush()

        yield save


def _print(events: Iterator[Record | str], save: Sink) -> None:
    for event in events:
        if isinstance(event, Record):
            save(event)
            print(json.dumps(event.as_dict()), flush=True)
        elif event:
            typer.echo(f"midge: {event}", err=True)


def _show(port: str, events: Iterator[Record | str], save: Sink) -> None:
    from rich.console import Console
    from rich.live import Live

    from midgehost.cli.live import LiveChart

    console = Console()
    chart = LiveChart(f"midge monitor  {port}")
    chart.status = "Ctrl-C ends"
    drawn = 0.0
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        try:
            for event in events:
                if isinstance(event, Record):
                    save(event)
                    chart.add(event)
                elif event:
                    chart.note(event)
                if console.is_terminal and time.monotonic() - drawn >= _FRAME_S:
                    drawn = time.monotonic()
                    live.update(chart.render(console.width, console.height), refresh=True)
        except KeyboardInterrupt:
            pass
    counts = chart.counts
    console.print(", ".join(counted(counts[f"{noun}s"], noun) for noun in ("record", "alarm", "alert")))
