"""Where a firmware image keeps the board's files: another place, or another size, and they are gone after flashing.

MicroPython makes its file system anew when what it finds has another size than the firmware says (the mount fails,
and `_boot.py` of the port formats).
"""

from __future__ import annotations

from dataclasses import dataclass

from midgehost.boards import Board
from midgehost.flash import binary_info, esp_image, uf2_image

_LABELS = ("vfs", "ffat")  # of the partition; the second is that of old images (ports/esp32)


@dataclass(frozen=True)
class Region:
    """A piece of flash, in bytes."""

    start: int
    size: int


def file_system(data: bytes, board: Board) -> Region | None:
    """The file system's place in flash; None where the image does not say, or is not sound."""
    try:
        if board.flash is None:
            return None
        if board.flash.method == "uf2":
            found = binary_info.file_system(uf2_image.parse(data))
            return Region(*found) if found else None
        image = esp_image.parse(data, board.flash.chip, board.flash.offset)
    except (uf2_image.Malformed, esp_image.Malformed, esp_image.OtherChip):
        return None
    return next((Region(part.start, part.size) for part in image.partitions if part.label in _LABELS), None)
