"""Where a file's bytes lie, against littlefs itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midgehost.models.littlefs import BLOCK_BYTES, in_block, place

littlefs = pytest.importorskip("littlefs", reason="no littlefs: pip install -e '.[virtual]'")


def test_bytes_lie_where_littlefs_puts_them() -> None:
    """A file in which each four bytes are their own offset, found again in the file system's image."""
    disk: Any = littlefs.LittleFS(block_size=BLOCK_BYTES, block_count=80)
    data = b"".join(offset.to_bytes(4, "little") for offset in range(0x5A000000, 0x5A000000 + 200_000, 4))
    with disk.open("f", "wb") as file:
        file.write(data)
    image = bytes(disk.context.buffer)
    blocks: dict[int, set[int]] = {}
    for offset in range(0, 200_000, 4):
        at = image.find(data[offset : offset + 4])
        while at % 4 or (offset and at % BLOCK_BYTES != in_block(offset)[1]):
            at = image.find(data[offset : offset + 4], at + 1)
            assert at >= 0, offset
        n, byte = in_block(offset)
        assert at % BLOCK_BYTES == byte
        blocks.setdefault(n, set()).add(at // BLOCK_BYTES)
    assert all(len(found) == 1 for found in blocks.values())


@given(st.lists(st.integers(1, 4036), max_size=40), st.integers(0, 100_000), st.sampled_from([1, 4, 16]))
def test_nothing_is_torn(sizes: Sequence[int], start: int, alignment: int) -> None:
    end = start
    for size, offset in zip(sizes, place(sizes, start, alignment), strict=True):
        assert offset >= end and in_block(offset)[1] % alignment == 0
        assert in_block(offset)[0] == in_block(offset + size - 1)[0]
        end = offset + size
    assert end <= start + (2 * sum(sizes) + 2 * BLOCK_BYTES + 100 * len(sizes))


def test_what_no_block_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="more than a block"):
        place([4090], 5000, 16)
