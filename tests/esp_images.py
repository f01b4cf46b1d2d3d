"""ESP32 images made from nothing: a second-stage bootloader, a partition table and an app, as a stock image has them.

Formats: Espressif's "Firmware Image Format" and "Partition Tables". The segments hold seeded noise, no code.
"""

from __future__ import annotations

import hashlib
import random
import struct

CHIP_IDS = {"esp32": 0, "esp32s2": 2, "esp32c3": 5, "esp32s3": 9, "esp32c6": 13}
MACHINES = {
    "esp32": "Generic ESP32 module with ESP32",
    "esp32s2": "Generic ESP32S2 module with ESP32S2",
    "esp32c3": "ESP32C3 module with ESP32C3",
    "esp32s3": "Generic ESP32S3 module with ESP32S3",
    "esp32c6": "ESP32C6 module with ESP32C6",
}
OFFSETS = {"esp32": 0x1000, "esp32s2": 0x1000, "esp32c3": 0, "esp32s3": 0, "esp32c6": 0}
TABLE, APP, VFS = 0x8000, 0x10000, 0x200000
PARTITIONS = (
    (1, 2, 0x9000, 0x6000, b"nvs"),
    (1, 1, 0xF000, 0x1000, b"phy_init"),
    (0, 0, APP, 0x1F0000, b"factory"),
    (1, 0x81, VFS, 0x200000, b"vfs"),
)


def image(
    chip: str,
    segments: list[tuple[int, bytes]],
    *,
    hashed: bool = True,
    flash_size: int = 2,  # the code in the header: 1 MB << code
    entry: int = 0x40080400,
) -> bytes:
    """One image: header, segments, checksum, SHA-256."""
    made = struct.pack("<4BI", 0xE9, len(segments), 2, flash_size << 4, entry)
    made += struct.pack("<4BHBHH4xB", 0xEE, 0, 0, 0, CHIP_IDS[chip], 0, 0, 0xFFFF, hashed)
    checksum = 0xEF
    for address, content in segments:
        made += struct.pack("<2I", address, len(content)) + content
        for byte in content:
            checksum ^= byte
    made += bytes(15 - len(made) % 16) + bytes([checksum])
    return made + (hashlib.sha256(made).digest() if hashed else b"")


def partition_table(partitions: tuple[tuple[int, int, int, int, bytes], ...] = PARTITIONS) -> bytes:
    """The entries, their MD5, and erased flash up to the end of the table."""
    made = b"".join(
        struct.pack("<2sBBII16sI", b"\xaaP", kind, subtype, offset, size, label, 0)
        for kind, subtype, offset, size, label in partitions
    )
    made += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(made).digest()
    return made.ljust(0xC00, b"\xff")


def app(
    chip: str,
    nbytes: int = 40_000,
    version: str = "v1.26.1",
    seed: int = 1,
    *,
    flash_size: int = 2,
    project: str = "micropython",
) -> bytes:
    """An app image: an app description (esp_app_desc_t) and MicroPython's banner at the begin of its first segment."""
    text = lambda content, size: content.encode().ljust(size, b"\0")  # noqa: E731
    description = struct.pack("<II8x", 0xABCD5432, 0) + text(version, 32) + text(project, 32)
    description += text("10:00:00", 16) + text("Sep 11 2025", 16) + text("v5.4.2", 32) + bytes(32 + 80)
    description += f"MicroPython {version} on 2025-09-11; {MACHINES[chip]}\r\n".encode().ljust(96, b"\0")
    chance, half = random.Random(seed), nbytes // 8 * 4
    segments = [(0x3C000020, description + chance.randbytes(half)), (0x42000020, chance.randbytes(half))]
    return image(chip, segments, flash_size=flash_size)


def merged(
    chip: str,
    nbytes: int = 40_000,
    seed: int = 1,
    *,
    flash_size: int = 2,
    app_chip: str = "",
    version: str = "v1.26.1",
    project: str = "micropython",
) -> bytes:
    """What micropython.org has under ESP32_GENERIC: bootloader, partition table and app, gaps erased."""
    bootloader = image(chip, [(0x3FFF0030, random.Random(seed).randbytes(4000))], flash_size=flash_size)
    base = OFFSETS[chip]
    made = bootloader.ljust(TABLE - base, b"\xff") + partition_table()
    content = app(app_chip or chip, nbytes, version, seed, flash_size=flash_size, project=project)
    return made.ljust(APP - base, b"\xff") + content
