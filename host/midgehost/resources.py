"""Where files lie: midge's own, in a checkout or in an installed wheel, and those that it keeps for a person."""

from __future__ import annotations

import os
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def firmware_dir() -> Path:
    """The folder that holds the device package `midge/`."""
    packed = _HERE / "_firmware"
    return packed if packed.is_dir() else _HERE.parents[1] / "firmware"


def boards_dir() -> Path:
    """The folder of board files, one TOML a board."""
    packed = _HERE / "_boards"
    return packed if packed.is_dir() else _HERE.parents[1] / "boards"


def models_dir() -> Path:
    """The folder of the models that midge ships, one folder a model."""
    packed = _HERE / "_models"
    return packed if packed.is_dir() else _HERE.parents[1] / "models"


def cache_dir() -> Path:
    """Where midge keeps what it can make or fetch again (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "midge"


def config_dir() -> Path:
    """Where a person's own settings and board files lie (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "midge"


def state_dir() -> Path:
    """Where midge keeps what it learnt and cannot make again (XDG base directory specification)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "midge"


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that a reader, or the next start after a crash, finds the old content or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
