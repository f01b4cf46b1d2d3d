"""A call's weights: streams of groups of rows, listed at their head, cut over several calls where tiles are limited."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from midgehost.codegen.armv6m.ladder import Row

_GROUP_CYCLES: Final = 40_000  # a row of a call is about as long as this or shorter


@dataclass(frozen=True)
class Part:
    """The rows of one call, from `first` on, in groups of `size` (the last may be smaller); and their stream: the byte
    offset of each group's stream, then those."""

    first: int
    rows: Sequence[Row]
    groups: int
    size: int
    stream: bytes

    @property
    def cycles(self) -> float:
        return sum(row.cycles for row in self.rows)


def parts(rows: Sequence[Row], end: Sequence[int], tile_bytes: int | None) -> list[Part] | None:
    """All rows in one part, or in as many as it takes to fit `tile_bytes`; None where one row does not fit.

    `end` are the words that end a group's stream.
    """
    found: list[Part] = []
    first = 0
    while first < len(rows):
        last = len(rows)
        while True:
            part = _part(first, rows[first:last], end)
            if tile_bytes is None or len(part.stream) <= tile_bytes:
                break
            if last - first == 1:
                return None
            last = first + max(1, min(last - first - 1, (last - first) * tile_bytes // len(part.stream)))
        found.append(part)
        first += len(part.rows)
    return found


def _part(first: int, rows: Sequence[Row], end: Sequence[int]) -> Part:
    groups = max(1, -(-int(sum(row.cycles for row in rows)) // _GROUP_CYCLES))
    size = -(-len(rows) // groups)
    groups = -(-len(rows) // size)
    words: list[int] = []
    offsets: list[int] = []
    for group in range(groups):
        offsets.append(4 * (groups + len(words)))
        for row in rows[group * size : (group + 1) * size]:
            words += row.words
        words += end
    return Part(first, rows, groups, size, struct.pack(f"<{groups + len(words)}i", *offsets, *words))
