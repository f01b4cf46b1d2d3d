"""What the tests of emulated boards share: the skip where there is no stock image."""

from __future__ import annotations

from pathlib import Path

import pytest

from midgehost.errors import NotFound
from midgehost.virtual.emulated import find_image


def stock_image(kind: str = "pico", version: str | None = None) -> Path:
    """The image in the cache, or a skip that says how to get one."""
    try:
        return find_image(kind, version)
    except NotFound as error:
        pytest.skip(str(error))
