"""Which firmware each node was last deployed and proved on: `<state>/tested.json`, for `midge upgrade`."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from midgehost.resources import state_dir, write_whole


@dataclass(frozen=True)
class ProvedOn:
    """The board's name (empty: no board file fits) and MicroPython's version, `1.26.1`."""

    board: str
    version: str


def remember(node: str, board: str, version: str) -> None:
    """Records that a node was verified on that board and firmware. Replaces what was known of the node.

    The record is a help, never a need: where none can be written, none is.
    """
    known = _read()
    known[node] = ProvedOn(board, version)
    path = _path()
    table = {name: asdict(one) for name, one in sorted(known.items())}
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(table, indent=1).encode())


def tested(node: str) -> ProvedOn | None:
    """What was recorded of a node, if anything was."""
    return _read().get(node)


def _read() -> dict[str, ProvedOn]:
    try:
        table = json.loads(_path().read_text(encoding="utf-8"))
        return {name: ProvedOn(str(one["board"]), str(one["version"])) for name, one in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # nothing was recorded, or nothing readable


def _path() -> Path:
    return state_dir() / "tested.json"
