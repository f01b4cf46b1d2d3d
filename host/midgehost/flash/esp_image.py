"""What an ESP32 image must hold before anything is erased for it.

A stock image (`ESP32_GENERIC-<date>-v<version>.bin`) is a copy of flash from the chip's boot offset on: second-stage
bootloader, partition table at 0x8000, app in the first app partition. Bootloader and app are ESP images: header,
segments, a checksum, mostly an SHA-256. Formats: Espressif, "Firmware Image Format", "Partition Tables" and "App Image
Format" (esp_app_desc_t).
"""

from __future__ import annotations

import functools
import hashlib
import operator
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = 0xE9
_HEADER: Final = struct.Struct("<4BI4xHBHH4xB")
_CHECKSUM_SEED: Final = 0xEF
_SHA256_BYTES: Final = 32
_MOST_SEGMENTS: Final = 16
_TABLE: Final = 0x8000  # in flash
_TABLE_BYTES: Final = 0xC00
_SECTOR: Final = 0x1000
_ENTRY: Final = struct.Struct("<2sBBII16s4x")
_ENTRY_MAGIC: Final = b"\xaaP"
_MD5_MAGIC: Final = b"\xeb\xeb"
_APP: Final = 0  # partition type
_APP_ALIGNMENT: Final = 0x10000
_DESCRIPTION: Final = struct.Struct("<I12x32s32s")  # magic, version, project
_DESCRIPTION_MAGIC: Final = 0xABCD5432
_ERASED: Final = 0xFF

# esp_chip_id_t; esptool's names
CHIPS: Final = {
    0: "esp32",
    2: "esp32s2",
    5: "esp32c3",
    9: "esp32s3",
    12: "esp32c2",
    13: "esp32c6",
    16: "esp32h2",
    18: "esp32p4",
    20: "esp32c61",
    23: "esp32c5",
}
_OTHER_FILES: Final = {
    b"UF2\n": "it is a UF2 file",
    b"\x7fELF": "it is an ELF file, not the image made from it",
    b"PK\x03\x04": "it is a ZIP archive",
    b"\x1f\x8b": "it is a gzip archive",
    b"<": "it is a web page",
}


class Malformed(Exception):
    """The bytes are no sound image; the words follow 'not a usable firmware image:'."""


class OtherChip(Exception):
    """An image for another chip: its name, esptool's."""

    def __init__(self, chip: str) -> None:
        super().__init__(chip)
        self.chip = chip


@dataclass(frozen=True)
class Section:
    """One ESP image. `start` and `end` are offsets in flash, `flash_bytes` is the flash that its header expects."""

    start: int
    end: int
    first_segment: int  # where its content begins
    flash_bytes: int


@dataclass(frozen=True)
class Partition:
    """One entry of the partition table, in bytes of flash."""

    label: str
    kind: int
    subtype: int
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class EspImage:
    """A sound image. `version` and `project` are what its app says of itself, empty if it says nothing."""

    chip: str
    bootloader: Section
    partitions: tuple[Partition, ...]
    app: Section
    project: str
    version: str


def parse(data: bytes, chip: str, offset: int) -> EspImage:
    """Reads an image that is to be written at `offset` of that chip's flash. Raises Malformed, OtherChip."""
    flash = _Flash(data, offset)
    if why := next((why for begin, why in _OTHER_FILES.items() if data.startswith(begin)), ""):
        raise Malformed(why)
    if data[:1] == bytes([_ERASED]):
        raise Malformed(f"it begins with erased flash, so it is no image for offset {offset:#x}")
    bootloader = _section(flash, offset, chip, "its bootloader", offset + len(data))
    if _description(flash, bootloader) is not None:
        raise Malformed("it is an app alone, as for an update over the air, without a bootloader")
    if bootloader.end > _TABLE:
        raise Malformed("its bootloader is larger than its place")
    partitions = _partitions(flash)
    apps = [
        _section(flash, part.start, chip, f"its app {part.label}", part.end)
        for part in partitions
        if part.kind == _APP and flash.has_more_than_erased(part.start)
    ]
    if not apps:
        raise Malformed("it has no app")
    project, version = _description(flash, apps[0]) or ("", "")
    return EspImage(chip, bootloader, partitions, apps[0], project, version)


@dataclass(frozen=True)
class _Flash:
    """The flash as it will be: `data` from `offset` on."""

    data: bytes
    offset: int

    def read(self, start: int, length: int, what: str) -> bytes:
        at = start - self.offset
        if at < 0 or at + length > len(self.data):
            raise Malformed(f"it ends in the middle of {what}: {len(self.data):,} bytes")
        return self.data[at : at + length]

    def has_more_than_erased(self, start: int) -> bool:
        at = start - self.offset
        return 0 <= at < len(self.data) and self.data[at] != _ERASED


def _section(flash: _Flash, start: int, chip: str, what: str, limit: int) -> Section:
    """One ESP image at `start`, with its segments, checksum and hash. Raises Malformed, OtherChip."""
    magic, count, _, size_and_speed, _, chip_id, _, _, _, hashed = _HEADER.unpack(flash.read(start, _HEADER.size, what))
    if magic != _MAGIC:
        raise Malformed(f"{what} does not begin with 0x{_MAGIC:02x} but with 0x{magic:02x}")
    if CHIPS.get(chip_id) != chip:
        raise OtherChip(CHIPS.get(chip_id, f"the chip number {chip_id}"))
    if not 0 < count <= _MOST_SEGMENTS:
        raise Malformed(f"{what} has {count} segments")
    at, checksum = start + _HEADER.size, _CHECKSUM_SEED
    for _ in range(count):
        (length,) = struct.unpack("<4xI", flash.read(at, 8, what))
        checksum = functools.reduce(operator.xor, flash.read(at + 8, length, what), checksum)
        at += 8 + length
    at += 15 - (at - start) % 16  # the checksum is the last byte of a row of 16
    if flash.read(at, 1, what)[0] != checksum:
        raise Malformed(f"the checksum of {what} is wrong")
    end = at + 1
    if hashed:
        found = flash.read(end, _SHA256_BYTES, what)
        if hashlib.sha256(flash.read(start, end - start, what)).digest() != found:
            raise Malformed(f"the SHA-256 of {what} is wrong")
        end += _SHA256_BYTES
    if end > limit:
        raise Malformed(f"{what} is larger than its place")
    return Section(start, end, start + _HEADER.size + 8, 1 << 20 + (size_and_speed >> 4))


def _partitions(flash: _Flash) -> tuple[Partition, ...]:
    """The partition table, checked against its MD5 and itself."""
    table = flash.read(_TABLE, _TABLE_BYTES, "its partition table")
    found: list[Partition] = []
    for at in range(0, _TABLE_BYTES, _ENTRY.size):
        magic, kind, subtype, start, size, label = _ENTRY.unpack_from(table, at)
        if magic == _MD5_MAGIC:
            if hashlib.md5(table[:at]).digest() != table[at + 16 : at + 32]:
                raise Malformed("the MD5 of its partition table is wrong")
            break
        if magic == b"\xff\xff":
            break
        if magic != _ENTRY_MAGIC:
            raise Malformed("there is no partition table in it")
        name = label.rstrip(b"\0").decode(errors="replace")
        found.append(Partition(name, kind, subtype, start, size))
    if not found:
        raise Malformed("there is no partition table in it")
    _require_disjoint(found)
    return tuple(found)


def _require_disjoint(partitions: Iterable[Partition]) -> None:
    end = _TABLE + _SECTOR
    for part in sorted(partitions, key=lambda part: part.start):
        if part.start < end or part.start % (_APP_ALIGNMENT if part.kind == _APP else _SECTOR):
            raise Malformed(f"its partition {part.label} begins at {part.start:#x}, where it cannot be")
        end = part.end


def _description(flash: _Flash, section: Section) -> tuple[str, str] | None:
    """The (project, version) of an app, None for a bootloader."""
    try:
        told = flash.read(section.first_segment, _DESCRIPTION.size, "its app description")
    except Malformed:
        return None
    magic, version, project = _DESCRIPTION.unpack(told)
    if magic != _DESCRIPTION_MAGIC:
        return None
    return _text(project), _text(version)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")
