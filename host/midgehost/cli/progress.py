"""The bar of a transfer: what is done now, bytes, time left."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Watch:
    """The callbacks that the library takes."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID = bars.add_task("connecting", total=None)

    def step(self, name: str) -> None:
        """What is done now."""
        self._bars.update(self._task, description=name)

    def progress(self, done: int, total: int) -> None:
        """Bytes over the line."""
        self._bars.update(self._task, completed=done, total=total)


@contextmanager
def transfer(console: Console) -> Generator[Watch]:
    """A bar while a transfer runs; it goes away at the end."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield Watch(bars)
