"""What every test shares: where the data of the project's shared folder lies, the board for the device tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
collect_ignore = ["device"]  # runs on boards: tests/bench/test_device.py
# Operator generators and the detectors' references serve tests/host/codegen too.
sys.path[:0] = [str(ROOT / "tests" / "host" / "models"), str(ROOT / "tests" / "host")]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which board the device tests run on."""
    parser.addoption("--port", default="virtual", help="for tests/bench/test_device.py: any port that midge knows")


@pytest.fixture(scope="session", autouse=True)
def own_runtime_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Virtual boards of other processes are none of ours, and they do not look at ours: a look holds a port."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The shared data folder (real models, golden vectors, recordings); tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MIDGE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the shared data folder is absent: put it at ../shared/data or point MIDGE_DATA at it")
    return folder


@pytest.fixture(scope="session")
def models_dir(data_dir: Path) -> Path:
    """The shared models with their golden vectors."""
    return data_dir / "models"
