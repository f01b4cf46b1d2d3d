"""Stock firmware: what micropython.org offers, and how it comes into the cache."""

from __future__ import annotations

from midgehost.firmware_cache import Image, find

__all__ = ["Image", "find"]
