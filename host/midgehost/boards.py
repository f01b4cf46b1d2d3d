"""Board files: one TOML a board in `boards/`, schema-checked. Adding a board is adding a file."""

from __future__ import annotations

import difflib
from functools import cache

import msgspec

from midgehost.errors import NotFound
from midgehost.resources import boards_dir


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One board. Sizes in bytes, clock in MHz."""

    name: str
    title: str
    chip: str
    arches: tuple[str, ...]  # mpy arches its stock images report, see DESIGN.md; empty: bytecode and viper only
    clock_mhz: int
    heap_bytes: int  # free after boot on the stock image
    flash_bytes: int
    fs_bytes: int  # the littlefs partition
    viper_cycles_per_mac: int = 70  # sizes the slices of a viper plan, see inference
    flash_cycles_per_byte: float = 7.0  # of weights that are read from flash while the model runs
    default_i2c: dict[str, int] = msgspec.field(default_factory=lambda: {"i2c": 0, "sda": 4, "scl": 5})
    notes: tuple[str, ...] = ()


@cache
def all_boards() -> dict[str, Board]:
    """Every board file by name."""
    found: dict[str, Board] = {}
    for path in sorted(boards_dir().glob("*.toml")):
        board = msgspec.toml.decode(path.read_bytes(), type=Board)
        found[board.name] = board
    return found


def board(name: str) -> Board:
    """The board of that name. Raises NotFound, naming the nearest."""
    boards = all_boards()
    if name in boards:
        return boards[name]
    near = difflib.get_close_matches(name, boards, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known boards: {', '.join(boards)}."
    raise NotFound(f"There is no board file named {name!r}.", hint)
