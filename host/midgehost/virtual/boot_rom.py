"""What the boot ROM of an RP2040 or RP2350 does with the sectors that a host writes to its drive, and with the flash.

Written from the ROMs' sources (`virtual_disk.c` of pico-bootrom-rp2040, `usb_virtual_disk.c` of pico-bootrom-rp2350)
and on purpose without the host's parser: it proves that one. It takes what a ROM takes, with its errata: the RP2040
erases by a block's number (E14), and the RP2350 A2 writes an absolute block behind the end of flash (E10) to where its
address wraps round to. Two things are stricter: images for RAM are not run, other writes behind the end of flash are
refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

FLASH_BASE = 0x10000000
BLOCK, PAGE, SECTOR = 512, 256, 4096
ABSOLUTE = 0xE48BFF57


@dataclass(frozen=True)
class RomKind:
    """One chip's ROM. `restart_s` is how long after the last block it restarts, `most_blocks` what it can count.

    The RP2040's, the `first`, erases by block number, and gives a transfer up at the first block that it cannot take.
    """

    title: str
    board_id: str
    info: str
    families: frozenset[int]
    restart_s: float
    most_blocks: int
    first: bool


ROMS: Mapping[str, RomKind] = {
    "rp2040": RomKind("Raspberry Pi RP2", "RPI-RP2", "v3.0", frozenset({0xE48BFF56}), 1.0, 123_360, True),
    "rp2350": RomKind(
        "Raspberry Pi RP2350", "RP2350", "v1.0", frozenset({ABSOLUTE, 0xE48BFF59, 0xE48BFF5A}), 0.5, 131_072, False
    ),
}


class Nor:
    """NOR flash: erasing sets a sector's bits, programming clears bits. `data` may be written to by others."""

    def __init__(self, nbytes: int) -> None:
        self.data = bytearray(b"\xff" * nbytes)
        self.erased: set[int] = set()  # offsets of sectors, since the drive appeared

    def erase(self, offset: int) -> None:
        """The sector that begins there."""
        self.data[offset : offset + SECTOR] = b"\xff" * SECTOR
        self.erased.add(offset)

    def program(self, offset: int, page: bytes) -> None:
        """A page, into what was erased before, or what is left of it."""
        held = int.from_bytes(self.data[offset : offset + PAGE], "little")
        self.data[offset : offset + PAGE] = (held & int.from_bytes(page, "little")).to_bytes(PAGE, "little")


@dataclass
class _Transfer:
    """A file that is coming in: its blocks may come in any order, and twice."""

    count: int
    family: int
    valid: set[int] = field(default_factory=set[int])
    erased: set[int] = field(default_factory=set[int])


class Rom:
    """The ROM between two resets. `log` says why sectors were not taken, without repetition."""

    def __init__(self, chip: str, flash: Nor) -> None:
        self.kind = ROMS[chip]
        self.log: list[str] = []
        self._flash = flash
        self._transfer: _Transfer | None = None

    @property
    def progress(self) -> tuple[int, int]:
        """(blocks taken, blocks that the file has); zeros while nothing is coming in."""
        return (len(self._transfer.valid), self._transfer.count) if self._transfer else (0, 0)

    def write(self, sector: bytes) -> bool:
        """512 bytes that the host wrote somewhere on the drive. True when a file is complete: the ROM restarts."""
        magic_0, magic_1, flags, address, size, number, count, family = struct.unpack_from("<8I", sector)
        (magic_end,) = struct.unpack_from("<I", sector, 508)
        if (magic_0, magic_1, magic_end) != (0x0A324655, 0x9E5D5157, 0x0AB16F30):
            return self._ignore("a sector that is no UF2 block")
        if not flags & 0x2000 or flags & 1 or size != PAGE:
            return self._ignore("a block without family, not for main flash, or of another size")
        if family not in self.kind.families:
            return self._ignore("a block of another chip family")
        return self._take(address, number, count, family, sector[32 : 32 + PAGE])

    def _take(self, address: int, number: int, count: int, family: int, page: bytes) -> bool:
        offset = address - FLASH_BASE
        if family == ABSOLUTE and 0 <= offset < 16 << 20:
            offset %= len(self._flash.data)
        inside = 0 <= offset < len(self._flash.data) and not address % PAGE
        if not inside and self.kind.first:
            return self._reject("a block that goes to no page of flash")
        if self._transfer is None or (self._transfer.count, self._transfer.family) != (count, family):
            if count > self.kind.most_blocks:
                return self._reject("a file with more blocks than can be counted")
            self._transfer = _Transfer(count, family)
        if not inside:
            return self._ignore("a block that goes to no page of flash")
        if number >= count:
            return self._reject("a block whose number is too large")
        if number not in self._transfer.valid:
            self._flash_page(self._transfer, number, offset, page)
        return len(self._transfer.valid) == count

    def _flash_page(self, transfer: _Transfer, number: int, offset: int, page: bytes) -> None:
        group = number * PAGE // SECTOR if self.kind.first else offset // SECTOR
        if group not in transfer.erased:
            transfer.erased.add(group)
            self._flash.erase(offset - offset % SECTOR)
        self._flash.program(offset, page)
        transfer.valid.add(number)

    def _ignore(self, what: str) -> bool:
        if what not in self.log:
            self.log.append(what)
        return False

    def _reject(self, what: str) -> bool:
        if self.kind.first:
            self._transfer = None
        return self._ignore(what)


def starts(chip: str, flash: bytes | bytearray) -> bool:
    """Whether the ROM would start what lies in flash, or come back as a drive."""
    if chip == "rp2040":
        # CRC-32/MPEG-2 of the first 252 bytes: zlib's with every bit the other way round, and without the last xor
        mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in flash[:252])
        crc = int(f"{zlib.crc32(mirrored) ^ 0xFFFFFFFF:032b}"[::-1], 2)
        return crc == int.from_bytes(flash[252:256], "little")
    return any(flash[at : at + 4] == b"\xd3\xde\xff\xff" for at in range(0, SECTOR, 4))
