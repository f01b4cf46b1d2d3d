# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false
"""The flash chip of an emulated Pico: 2 MiB, kept in a file if there is one, torn where a power cut hits a write."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from rp2040py.rp2040 import RP2040

from midgehost.virtual.power import PowerCut, Torn

FLASH_BYTES: Final = 2 * 1024 * 1024
BLOCK_BYTES: Final = 4096
_PAGE_BYTES: Final = 256
_PROGRAM, _ERASE_SECTOR, _ERASE_BLOCK = 0x02, 0x20, 0xD8  # of every SPI NOR flash, here Winbond W25Q16JV, 8.1.2
_ERASE_BYTES: Final = {_ERASE_SECTOR: 4096, _ERASE_BLOCK: 65536}
_BOOT2_BYTES: Final = 252


class FlashChip:
    """What the chip's flash commands do to `RP2040.flash`, and to the file behind `descriptor` at once.

    rp2040py collects a command while the flash is selected and applies it when it is deselected; this takes the place
    of the applying. `on_cut` is called by the write that `cut` tears.
    """

    def __init__(
        self, chip: RP2040, descriptor: int | None, cut: PowerCut | None, on_cut: Callable[[Torn], None]
    ) -> None:
        self.writes = 0
        self._memory: Any = chip.flash
        self._ssi: Any = chip.ssi
        self._descriptor = descriptor
        self._cut = cut
        self._on_cut = on_cut
        self._ssi._apply_command = self._apply

    def _apply(self) -> None:
        command, self._ssi._tx_buffer = self._ssi._tx_buffer, bytearray()
        enabled = self._ssi._write_enabled
        opcode = command[0] if command else 0
        if opcode not in (_PROGRAM, *_ERASE_BYTES) or len(command) < 4:
            return
        self._ssi._write_enabled = False
        if not enabled:
            return
        address = int.from_bytes(command[1:4], "big") % FLASH_BYTES
        if opcode == _PROGRAM:
            self._program(address, bytes(command[4:][-_PAGE_BYTES:]))
        else:
            length = _ERASE_BYTES[opcode]
            self._write(address - address % length, b"\xff" * length)

    def _program(self, address: int, data: bytes) -> None:
        """Clears bits, never sets one; goes on at the page's start where it passes its end."""
        page = address - address % _PAGE_BYTES
        new = bytearray(self._memory[page : page + _PAGE_BYTES])
        for i, byte in enumerate(data):
            new[(address + i) % _PAGE_BYTES] &= byte
        self._write(page, bytes(new))

    def _write(self, address: int, data: bytes) -> None:
        self.writes += 1
        kept = len(data)
        cut = self._cut is not None and self._cut.write == self.writes
        if cut and self._cut:
            kept = len(data) * self._cut.share // 1000
        self._memory[address : address + kept] = data[:kept]
        if self._descriptor is not None:
            os.pwrite(self._descriptor, data[:kept], address)
        if cut:
            self._on_cut(Torn(address, len(data), kept))


def is_pico_flash(path: Path) -> bool:
    """Whether a file holds what a Pico boots from: 2 MiB, and a second stage with a valid checksum."""
    if path.stat().st_size != FLASH_BYTES:
        return False
    with path.open("rb") as file:
        stage = file.read(_BOOT2_BYTES + 4)
    return _crc32_mpeg2(stage[:_BOOT2_BYTES]) == int.from_bytes(stage[_BOOT2_BYTES:], "little")


def new_flash(image: Path, fs_bytes: int, files: Mapping[str, bytes]) -> bytes:
    """A flash that holds a stock image and a littlefs with these files, made as the firmware makes its own."""
    from rp2040py.device.load_flash import decode_block
    from rp2040py.memory_map import FLASH_START_ADDRESS

    content = bytearray(b"\xff" * FLASH_BYTES)
    uf2 = image.read_bytes()
    for at in range(0, len(uf2) - len(uf2) % 512, 512):
        block = decode_block(uf2[at : at + 512])
        offset = block.flash_address - FLASH_START_ADDRESS
        if 0 <= offset <= FLASH_BYTES - len(block.payload):  # RP2350-E10's extra block lies outside
            content[offset : offset + len(block.payload)] = block.payload
    content[-fs_bytes:] = _file_system(fs_bytes // BLOCK_BYTES, files)
    return bytes(content)


def _file_system(blocks: int, files: Mapping[str, bytes]) -> bytes:
    from littlefs import LittleFS

    disk: Any = LittleFS(
        block_size=BLOCK_BYTES,
        block_count=blocks,
        disk_version=0x00020000,
        prog_size=_PAGE_BYTES,
        read_size=32,
        lookahead_size=32,
    )
    for path, data in files.items():
        disk.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        with disk.open(path, "wb") as file:
            file.write(data)
    return bytes(disk.context.buffer)


def _crc32_mpeg2(data: bytes) -> int:
    """CRC-32/MPEG-2: what the boot ROM checks of the second stage (RP2040 data sheet, 2.8.1.3.1)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc
