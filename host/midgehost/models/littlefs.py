"""Where the bytes of a littlefs file lie: what must not be torn goes into one block.

Block 0 of a file is all data; block n begins with ctz(n) + 1 words of 4 bytes that lead to earlier blocks. Source:
littlefs DESIGN.md ("CTZ skip-lists") and `lfs_ctz_index` in lfs.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

BLOCK_BYTES: Final = 4096  # of the file system of every stock image for rp2 and ESP32
_PAYLOAD: Final = BLOCK_BYTES - 8  # of a block on average, in a long file


def in_block(offset: int) -> tuple[int, int]:
    """(block of the file, byte in that block) of a file's byte."""
    n = offset // _PAYLOAD
    if n:
        n = (offset - 4 * ((n - 1).bit_count() + 2)) // _PAYLOAD
    return n, offset - _PAYLOAD * n - 4 * n.bit_count()


def place(sizes: Sequence[int], start: int, alignment: int) -> list[int]:
    """An offset from `start` on for each size, in order: aligned in its block and not torn between two.

    Raises ValueError for what no block holds.
    """
    offsets: list[int] = []
    at = start
    for size in sizes:
        _, byte = in_block(at)
        at += -byte % alignment
        byte += -byte % alignment
        if byte + size > BLOCK_BYTES:
            at += BLOCK_BYTES - byte
            _, byte = in_block(at)
            at += -byte % alignment
            byte += -byte % alignment
            if byte + size > BLOCK_BYTES:
                raise ValueError(f"{size} bytes are more than a block holds")
        offsets.append(at)
        at += size
    return offsets
