"""The device tests on a virtual board."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from device_files import device_tests, files_for, run_test

from midgehost.deploy.transport import SerialTransport
from midgehost.virtual.board import VirtualBoard


@pytest.fixture(scope="module")
def line() -> Iterator[SerialTransport]:
    """A board with the device modules and the test files."""
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        for path, data in files_for(sorted({path for path, _ in device_tests()}), "x64").items():
            line.put(path, data)
        yield line


@pytest.mark.parametrize(("path", "function"), device_tests(), ids=lambda value: getattr(value, "stem", value))
def test_on_the_virtual_board(line: SerialTransport, path: Path, function: str) -> None:
    line.restart()
    run_test(line, path, function)
