"""Virtual boards for tests: a fresh one, or one that a module shares."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from midgehost.virtual.board import VirtualBoard

ROOT = Path(__file__).resolve().parents[2]
FAN = ROOT / "models" / "fan"
Mpremote = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def board() -> Iterator[VirtualBoard]:
    """A fresh board."""
    with VirtualBoard() as board:
        assert board.wait_ready()
        yield board


@pytest.fixture(scope="module")
def shared_board() -> Iterator[VirtualBoard]:
    """A board for the whole module."""
    with VirtualBoard() as board:
        assert board.wait_ready()
        yield board


@pytest.fixture(scope="module")
def mpremote(shared_board: VirtualBoard) -> Mpremote:
    """Runs the real mpremote on the shared board; asserts that it succeeds unless `code` says otherwise."""

    def run(*arguments: str, code: int = 0, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("mpremote")), "connect", shared_board.path, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run
