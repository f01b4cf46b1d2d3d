"""What a chip checks between reset and an app, and what it prints: the ROM, then ESP-IDF's second-stage bootloader.

Formats: Espressif's "Firmware Image Format" and "Partition Tables". The code in an image is not run.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass, field

from midgehost.virtual.engine import Firmware
from midgehost.virtual.esp.chips import Chip
from midgehost.virtual.esp.nor import NorFlash

_MAGIC = 0xE9
_HEADER = 24
_HASHED = 23  # header byte: an SHA-256 follows the checksum
_TABLE, _TABLE_BYTES = 0x8000, 0xC00
_ENTRY = struct.Struct("<2sBBII16sI")
_ENTRY_MAGIC, _MD5_MAGIC = b"\xaaP", b"\xeb\xeb"
_APP, _DATA = 0, 1
_BANNER = re.compile(
    rb"MicroPython v(\d+)\.(\d+)\.(\d+)-?([\w.]*)[\w.+-]* on [\d-]{10}; ([\w .()/-]+ with ESP32[\w-]*)"
)
_SHOWN = 3  # times of an endless loop


@dataclass(frozen=True)
class Boot:
    """`text` is printed. `vfs` is where the app's file system lies, (offset, size); None where nothing boots.
    `firmware` is what the app's own text says that it is."""

    text: str
    vfs: tuple[int, int] | None = None
    firmware: Firmware = field(default_factory=Firmware)


class _Damaged(Exception):
    """An image or table that does not boot; the words are the chip's."""


def boot(chip: Chip, flash: NorFlash) -> Boot:
    """Starts the chip from its flash."""
    text = f"{chip.banner}rst:0x1 ({chip.cause}),boot:{chip.spi_boot}\r\n"
    try:
        segments, entry = _image(flash, chip, chip.boot_offset)
    except _Damaged as damage:
        return Boot(text + f"{damage}\r\n" * _SHOWN + "ets_main.c 329\r\n")
    text += "".join(f"load:{address:#010x},len:{length:#x}\r\n" for address, length in segments)
    text += f"entry {entry:#010x}\r\n"
    try:
        app, vfs = _partitions(flash)
        segments, _ = _image(flash, chip, app)
    except _Damaged as damage:
        return Boot(text + f"E (40) boot: {damage}\r\n" * _SHOWN)
    return Boot(text, vfs, _firmware(flash.read(app, sum(length for _, length in segments))))


def _firmware(app: bytes) -> Firmware:
    banner = _BANNER.search(app)
    if banner is None:
        return Firmware()
    major, minor, patch, rest, machine = (group.decode() for group in banner.groups())
    return Firmware((int(major), int(minor), int(patch), rest), machine)


def _image(flash: NorFlash, chip: Chip, start: int) -> tuple[list[tuple[int, int]], int]:
    """The (address, length) of an image's segments and its entry point."""
    header = flash.read(start, _HEADER)
    magic, count, _, _, entry = struct.unpack_from("<4BI", header)
    if magic != _MAGIC:
        raise _Damaged(f"invalid header: {int.from_bytes(header[:4], 'little'):#010x}")
    if (image_id := int.from_bytes(header[12:14], "little")) != chip.image_id:
        raise _Damaged(f"mismatch chip ID, expected {chip.image_id}, found {image_id}")
    if not 0 < count <= 16:
        raise _Damaged(f"invalid segment count {count}")
    segments: list[tuple[int, int]] = []
    checksum, at = 0xEF, start + _HEADER
    for _ in range(count):
        address, length = struct.unpack("<2I", flash.read(at, 8))
        if at + 8 + length > flash.size - 64:
            raise _Damaged(f"invalid segment length {length:#x}")
        segments.append((address, length))
        for byte in flash.read(at + 8, length):
            checksum ^= byte
        at += 8 + length
    at += 15 - (at - start) % 16  # the checksum is the last byte of a row of 16
    if (read := flash.read(at, 1)[0]) != checksum:
        raise _Damaged(f"Checksum failed. Calculated {checksum:#x} read {read:#x}")
    at += 1
    if header[_HASHED] and hashlib.sha256(flash.read(start, at - start)).digest() != flash.read(at, 32):
        raise _Damaged("Image hash failed - image is corrupt")
    return segments, entry


def _partitions(flash: NorFlash) -> tuple[int, tuple[int, int]]:
    """Where the partition table has the app, and the file system."""
    table = flash.read(_TABLE, _TABLE_BYTES)
    app: int | None = None
    vfs: tuple[int, int] | None = None
    for at in range(0, _TABLE_BYTES, _ENTRY.size):
        magic, kind, _, offset, size, label, _ = _ENTRY.unpack_from(table, at)
        if magic == _MD5_MAGIC:
            if hashlib.md5(table[:at]).digest() != table[at + 16 : at + 32]:
                raise _Damaged("Failed to verify partition table")
            break
        if magic != _ENTRY_MAGIC:
            raise _Damaged("Failed to verify partition table")
        if kind == _APP and app is None:
            app = offset
        elif kind == _DATA and label.rstrip(b"\0") == b"vfs":  # the name that MicroPython looks for
            vfs = offset, size
    if app is None:
        raise _Damaged("No bootable app partitions in the partition table")
    if vfs is None:
        raise _Damaged("No file system in the partition table")  # a chip would boot, MicroPython without files
    return app, vfs
