"""What a firmware image says of itself: format, MicroPython version, and the board it was built for.

Stock images carry the text of the REPL's banner, `MicroPython v1.26.1 on 2025-09-11` and `Raspberry Pi Pico with
RP2040` (py/modsys.c, MICROPY_BANNER_*). A UF2 file cuts it into 256-byte pieces, so its payload is joined first. This
names an image; whether it is sound and fits a board is for `flash.backend.Backend.check`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from midgehost.boards import Board, FirmwareImage, all_boards
from midgehost.flash.backend import BadImage

_UF2_START: Final = 0x0A324655, 0x9E5D5157  # https://github.com/microsoft/uf2
_UF2_END: Final = 0x0AB16F30
_UF2_BLOCK: Final = 512
_ESP_MAGIC: Final = 0xE9  # esp_image_header_t
_VERSION: Final = re.compile(rb"MicroPython v(\d[\w.+-]*) on (\d{4})-(\d\d)-(\d\d)")
_MACHINE: Final = re.compile(rb"[A-Za-z][\w .()/-]{2,60} with (?:RP2|ESP32)[\w-]*")


@dataclass(frozen=True)
class Recognised:
    """`date` as in the names on micropython.org, YYYYMMDD; `machines` may hold sys.implementation._machine."""

    format: str  # uf2 | bin
    families: frozenset[int]
    version: str
    date: str
    machines: frozenset[str]

    def of_board(self, board: Board) -> FirmwareImage | None:
        """The image of that board's file that this one is, or None."""
        if board.flash is None or board.flash.format != self.format:
            return None
        if not any(re.search(pattern, machine) for pattern in board.machine for machine in self.machines):
            return None
        return next((image for image in board.firmware if image.family in self.families or not self.families), None)

    def board(self) -> tuple[Board, FirmwareImage] | None:
        """The one board that it is for; None if that is none or several."""
        fitting = [(board, image) for board in all_boards().values() if (image := self.of_board(board))]
        return fitting[0] if len(fitting) == 1 else None


def recognise(path: Path, data: bytes) -> Recognised:
    """What an image says of itself. Raises BadImage for what is no MicroPython image, or a file that ends too early."""
    families: frozenset[int] = frozenset()
    if data[:8] == struct.pack("<2I", *_UF2_START):
        kind = "uf2"
        content, families = _uf2_payload(path, data)
    elif data[:1] == bytes([_ESP_MAGIC]):
        kind, content = "bin", data
    else:
        raise BadImage(str(path), "it begins like neither a UF2 file nor an ESP32 image")
    banner = _VERSION.search(content)
    if banner is None:
        raise BadImage(str(path), "there is no MicroPython in it")
    version, *date = (group.decode() for group in banner.groups())
    machines = frozenset(match.group().decode() for match in _MACHINE.finditer(content))
    return Recognised(kind, families, version, "".join(date), machines)


def _uf2_payload(path: Path, data: bytes) -> tuple[bytes, frozenset[int]]:
    """The payloads of all blocks, joined in the file's order, and their families."""
    if len(data) % _UF2_BLOCK:
        raise BadImage(str(path), f"its {len(data):,} bytes are no whole number of UF2 blocks")
    payload = bytearray()
    families: set[int] = set()
    for at in range(0, len(data), _UF2_BLOCK):
        *start, _flags, _address, nbytes, _number, _count, family = struct.unpack_from("<8I", data, at)
        (end,) = struct.unpack_from("<I", data, at + _UF2_BLOCK - 4)
        if tuple(start) != _UF2_START or end != _UF2_END or nbytes > 476:
            raise BadImage(str(path), f"block {at // _UF2_BLOCK} is damaged")
        payload += data[at + 32 : at + 32 + nbytes]
        families.add(family)
    return bytes(payload), frozenset(families)
