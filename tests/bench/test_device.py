"""The device tests on a virtual board, or on another one with `--port`: /dev/ttyACM0, emulated:pico ..."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from device_files import device_tests, files_for, run_test

from midgehost import connect
from midgehost.deploy.transport import Transport


@pytest.fixture(scope="module")
def line(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """A board with the device modules and the test files; an emulated one has them when it boots."""
    port = request.config.getoption("--port")
    paths = sorted({path for path, _ in device_tests()})
    emulated = port.startswith("emulated:")
    options = {"files": files_for(paths, "armv6m"), "pace": None} if emulated else {}
    with connect(port, **options) as board:
        if not emulated:
            for path, data in files_for(paths, board.info.arch).items():
                board.transport.put(path, data)
        yield board.transport


@pytest.mark.parametrize(("path", "function"), device_tests(), ids=lambda value: getattr(value, "stem", value))
def test_on_a_board(line: Transport, path: Path, function: str) -> None:
    line.restart()
    run_test(line, path, function)
