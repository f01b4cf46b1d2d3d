"""What an image for an RP2 chip says of itself.

The Pico SDK's binary info (`pico/binary_info/structure.h`) is a table that the image's first bytes point to;
MicroPython's own name of the board stands in the image as the text that becomes `sys.implementation._machine`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Generator
from dataclasses import dataclass

from midgehost.flash.uf2_image import FLASH_BASE, FLASH_END, RP2350_ARM, RP2350_RISCV, Uf2

_MARK, _MARK_END = struct.pack("<I", 0x7188_EBF2), struct.pack("<I", 0xE71A_A390)
_MARK_WITHIN = 1024  # bytes; 512 on the RP2040
_ID_AND_STRING, _TAG = 6, 0x5052  # "RP"
_BLOCK_DEVICE, _MICROPYTHON_TAG = 7, 0x504D  # "MP": its file system (ports/rp2/rp2_flash.c)
_PROGRAM, _VERSION, _BOARD = 0x0203_1C86, 0x11A9_BC3A, 0xB63C_FFBB
_MOST_ENTRIES = 1024
_MACHINE = re.compile(rb"([A-Za-z0-9][ -:<-~]{0,80} with RP2(?:040|350(?:-RISCV)?))\0")

_BOOT2 = 256  # bytes: loaded from the start of flash by the RP2040's ROM, the last four are a CRC-32
_CRC_POLYNOMIAL = 0x04C1_1DB7
_IMAGE_DEF_WITHIN = 4096
_IMAGE_DEF = struct.Struct("<IBBH")  # mark, item type, words, flags
_IMAGE_DEF_MARK, _IMAGE_TYPE = 0xFFFF_DED3, 0x42
# Image type, processor and chip; not security and try-before-you-buy (RP2350 datasheet, 5.9.3.1).
_FLAGS_MASK, _FLAGS = 0x770F, {RP2350_ARM: 0x1001, RP2350_RISCV: 0x1101}


@dataclass(frozen=True)
class BinaryInfo:
    """Empty texts where the image does not say."""

    program: str = ""
    version: str = ""  # 1.26.1
    sdk_board: str = ""  # pico_w
    machine: str = ""  # Raspberry Pi Pico W with RP2040


def read(image: Uf2) -> BinaryInfo:
    """Never raises: what is not there, or points to nowhere, is left empty."""
    texts = _texts(image.memory, image.start)
    machine = _MACHINE.search(image.memory)
    return BinaryInfo(
        program=texts.get(_PROGRAM, ""),
        version=texts.get(_VERSION, "").removeprefix("v"),
        sdk_board=texts.get(_BOARD, ""),
        machine=machine[1].decode() if machine else "",
    )


def file_system(image: Uf2) -> tuple[int, int] | None:
    """Where the firmware keeps its files: (offset in flash, bytes); None where the image does not say."""
    memory = image.memory
    for entry in _entries(memory, image.start):
        if entry + 16 <= len(memory):
            kind, tag, _, address, size = struct.unpack_from("<HHIII", memory, entry)
            if (kind, tag) == (_BLOCK_DEVICE, _MICROPYTHON_TAG) and FLASH_BASE <= address < FLASH_END:
                return address - FLASH_BASE, size
    return None


def _texts(memory: bytes, base: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in _entries(memory, base):
        kind, tag, identity, text = struct.unpack_from("<HHII", memory, entry)
        if (kind, tag) == (_ID_AND_STRING, _TAG) and 0 <= text - base < len(memory):
            raw = memory[text - base : text - base + 128].partition(b"\0")[0]
            found.setdefault(identity, raw.decode("ascii", "replace"))
    return found


def _entries(memory: bytes, base: int) -> Generator[int]:
    """Where the entries lie that the table points to; at least 12 bytes each."""
    at = memory.find(_MARK, 0, _MARK_WITHIN)
    if at < 0 or memory[at + 16 : at + 20] != _MARK_END:
        return
    start, end = struct.unpack_from("<II", memory, at + 4)
    for pointer in range(start - base, min(end - base, start - base + 4 * _MOST_ENTRIES), 4):
        if not 0 <= pointer <= len(memory) - 4:
            return
        entry = struct.unpack_from("<I", memory, pointer)[0] - base
        if 0 <= entry <= len(memory) - 12:
            yield entry


def boots(image: Uf2) -> str:
    """Why the chip's ROM would not start the image; empty if it would.

    RP2040: the CRC-32 of its first 256 bytes (data sheet, 2.8.1.3.1). RP2350: an IMAGE_DEF for this processor in the
    first 4 KB (data sheet, 5.9).
    """
    if image.start != FLASH_BASE:
        return "it holds nothing for the start of flash"
    memory = image.memory
    if image.family not in _FLAGS:
        (stored,) = struct.unpack_from("<I", memory, _BOOT2 - 4)
        return "" if _crc32(memory[: _BOOT2 - 4]) == stored else "the CRC of its first 256 bytes is wrong"
    for at in range(0, min(_IMAGE_DEF_WITHIN, len(memory) - _IMAGE_DEF.size), 4):
        mark, kind, _, flags = _IMAGE_DEF.unpack_from(memory, at)
        if mark == _IMAGE_DEF_MARK and kind == _IMAGE_TYPE:
            if flags & _FLAGS_MASK == _FLAGS[image.family]:
                return ""
            return "the program in it is for another processor than its blocks say"
    return "it holds no program that the chip would start"


def _crc32(data: bytes) -> int:
    """Most significant bit first, all ones before, nothing after."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (_CRC_POLYNOMIAL if crc & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return crc
