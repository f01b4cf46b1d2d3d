"""What a caller is told while something goes on: bytes done, and what is done now."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)
Step = Callable[[str], None]


def say_nothing(_: str) -> None:
    """A Step where nobody watches."""


def shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    """The progress of one file within that of all of them."""
    if progress is None:
        return None
    return lambda n, _: progress(done + n, total)
