"""What a firmware image says of itself: format, MicroPython version, and the board it was built for.

Stock images carry the text of the REPL's banner, `MicroPython v1.26.1 on 2025-09-11` and `Raspberry Pi Pico with
RP2040` (py/modsys.c, MICROPY_BANNER_*). This names an image; whether it is sound and fits a board is for
`flash.backend.Backend.check`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from midgehost.boards import Board, FirmwareImage, all_boards
from midgehost.flash import uf2_image
from midgehost.flash.backend import BadImage

_ESP_MAGIC: Final = b"\xe9"  # esp_image_header_t
_VERSION: Final = re.compile(rb"MicroPython v(\d[\w.+-]*) on (\d{4})-(\d\d)-(\d\d)")
_MACHINE: Final = re.compile(rb"[A-Za-z][\w .()/-]{2,60} with (?:RP2|ESP32)[\w-]*")


@dataclass(frozen=True)
class Recognised:
    """`date` as in the names on micropython.org, YYYYMMDD; `machines` may hold sys.implementation._machine."""

    format: str  # uf2 | bin
    family: int | None  # of UF2 blocks
    version: str
    date: str
    machines: frozenset[str]

    def of_board(self, board: Board) -> FirmwareImage | None:
        """The image of that board's file that this one is, or None."""
        if board.flash is None or board.flash.format != self.format:
            return None
        if not any(map(board.answers, self.machines)):
            return None
        return next((image for image in board.firmware if image.family == self.family), None)

    def board(self) -> tuple[Board, FirmwareImage] | None:
        """The one board that it is for; None if that is none or several."""
        fitting = [(board, image) for board in all_boards().values() if (image := self.of_board(board))]
        return fitting[0] if len(fitting) == 1 else None


def recognise(path: Path, data: bytes) -> Recognised:
    """What an image says of itself. Raises BadImage for what is no MicroPython image, or a damaged UF2 file."""
    family: int | None = None
    if data[:4] == b"UF2\n":
        kind = "uf2"
        try:
            image = uf2_image.parse(data)
        except uf2_image.Malformed as error:
            raise BadImage(str(path), str(error)) from None
        family, content = image.family, image.memory
    elif data[:1] == _ESP_MAGIC:
        kind, content = "bin", data
    else:
        raise BadImage(str(path), "it begins like neither a UF2 file nor an ESP32 image")
    banner = _VERSION.search(content)
    if banner is None:
        raise BadImage(str(path), "there is no MicroPython in it")
    version, *date = (group.decode() for group in banner.groups())
    machines = frozenset(match.group().decode() for match in _MACHINE.finditer(content))
    return Recognised(kind, family, version, "".join(date), machines)
