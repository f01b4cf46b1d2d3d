"""UF2 files as the boot ROMs of RP2040 and RP2350 take them, read so strictly that what passes is flashed exactly.

Format: the UF2 specification (microsoft/uf2). What the ROMs do with a block: `virtual_disk.c` of pico-bootrom-rp2040,
`usb_virtual_disk.c` of pico-bootrom-rp2350. UF2 has no checksum, and a ROM passes over a block that it does not like
without a word, so every doubt is a refusal here. Holes are one: a damaged address looks like one, and the RP2040 erases
a sector for every 16 blocks by their number (erratum E14), which goes wrong around holes.

`uf2utils` reads the same format and is not used: it makes its errors for wrong magic numbers without raising them,
looks at neither the last magic number nor the numbering, and slices whatever payload size it finds. What it would do
for us is the one `struct` line below.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

BLOCK, PAGE = 512, 256  # bytes: of the file, of flash in one of its blocks
FLASH_BASE, FLASH_END = 0x1000_0000, 0x1200_0000  # where flash is mapped; the RP2040 uses half of it

RP2040, ABSOLUTE, DATA, RP2350_ARM, RP2350_RISCV, RP2350_ARM_NS = range(0xE48B_FF56, 0xE48B_FF5C)
FAMILIES: Mapping[int, str] = {
    RP2040: "RP2040",
    ABSOLUTE: "any RP2 chip (absolute)",
    DATA: "RP2350 (data)",
    RP2350_ARM: "RP2350 (Arm)",
    RP2350_RISCV: "RP2350 (RISC-V)",
    RP2350_ARM_NS: "RP2350 (Arm, non-secure)",
}

_HEADER = struct.Struct("<8I")
_MAGIC_0, _MAGIC_1, _MAGIC_END = 0x0A32_4655, 0x9E5D_5157, 0x0AB1_6F30
_FAMILY_PRESENT, _EXTENSIONS_PRESENT = 0x2000, 0x8000
# The block that picotool puts in front of an RP2350 image against erratum RP2350-E10.
_E10_ADDRESS, _E10_COUNT, _E10_FILL, _E10_IGNORE = 0x10FF_FF00, 2, 0xEF, 0x9957_E304


class Malformed(ValueError):
    """The file cannot be trusted; the text says why, to follow "is not a usable firmware image: "."""


@dataclass(frozen=True)
class Uf2:
    """A sound file: one piece of memory, without holes."""

    family: int
    start: int  # its address
    memory: bytes
    has_e10_block: bool = False

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.start + len(self.memory)


def family_name(family: int) -> str:
    """For messages."""
    return FAMILIES.get(family, f"chip family {family:08x}")


def family_at(data: bytes, at: int) -> int | None:
    """The chip family of the block there; None if it has none, or is none."""
    if len(data) < at + BLOCK:
        return None
    magic_0, magic_1, flags, *_, family = _HEADER.unpack_from(data, at)
    return family if (magic_0, magic_1) == (_MAGIC_0, _MAGIC_1) and flags & _FAMILY_PRESENT else None


def parse(data: bytes) -> Uf2:
    """Reads a whole file. Raises Malformed at the first thing that is not as it should be."""
    if not data or len(data) % BLOCK:
        raise Malformed(f"it has {len(data):,} bytes, which are no whole blocks of {BLOCK}: it is cut off, or no UF2")
    blocks = [_Block.read(data, at) for at in range(0, len(data), BLOCK)]
    e10 = blocks[0].is_e10
    if e10:
        del blocks[0]
    if not blocks:
        raise Malformed("it has no blocks")
    family, start = blocks[0].family, blocks[0].address
    for number, block in enumerate(blocks):
        block.check(number, len(blocks))
        if block.family != family:
            raise Malformed(f"block {number} is for another chip family, {block.family:08x}, than the first")
        if block.address != start + number * PAGE:
            where = f"0x{block.address:08x}, not to 0x{start + number * PAGE:08x}"
            raise Malformed(f"block {number} goes to {where}: blocks are missing, overlap or are swapped")
    return Uf2(family, start, b"".join(block.payload for block in blocks), e10)


def serialise(family: int, start: int, memory: bytes) -> bytes:
    """A file of this memory, whole pages, without a block against E10."""
    count = len(memory) // PAGE
    return b"".join(
        _HEADER.pack(_MAGIC_0, _MAGIC_1, _FAMILY_PRESENT, start + number * PAGE, PAGE, number, count, family)
        + memory[number * PAGE : (number + 1) * PAGE].ljust(BLOCK - _HEADER.size - 4, b"\0")
        + struct.pack("<I", _MAGIC_END)
        for number in range(count)
    )


class _Block(NamedTuple):
    number_in_file: int
    flags: int
    address: int
    size: int
    number: int  # as the block says
    of: int  # so many blocks
    family: int
    payload: bytes
    rest: bytes

    @classmethod
    def read(cls, data: bytes, at: int) -> _Block:
        magic_0, magic_1, flags, address, size, number, of, family = _HEADER.unpack_from(data, at)
        (magic_end,) = struct.unpack_from("<I", data, at + BLOCK - 4)
        if (magic_0, magic_1, magic_end) != (_MAGIC_0, _MAGIC_1, _MAGIC_END):
            raise Malformed(f"block {at // BLOCK} does not have UF2's magic numbers")
        body = data[at + _HEADER.size : at + BLOCK - 4]
        return cls(at // BLOCK, flags, address, size, number, of, family, body[:PAGE], body[PAGE:])

    @property
    def is_e10(self) -> bool:
        """Exactly what picotool writes (`gen_abs_block`), with or without the mark for later ROMs to ignore it."""
        if self.flags == _FAMILY_PRESENT | _EXTENSIONS_PRESENT:
            rest_fits = self.rest == struct.pack("<I", _E10_IGNORE).ljust(len(self.rest), b"\0")
        else:
            rest_fits = self.flags == _FAMILY_PRESENT and not any(self.rest)
        expected = (_E10_ADDRESS, PAGE, 0, _E10_COUNT, ABSOLUTE, bytes([_E10_FILL]) * PAGE)
        found = (self.address, self.size, self.number, self.of, self.family, self.payload)
        return rest_fits and found == expected

    def check(self, number: int, count: int) -> None:
        """Raises Malformed for a block that a ROM would pass over, or that is not number `number` of `count`."""
        where = f"block {self.number_in_file}"
        if self.flags != _FAMILY_PRESENT:
            raise Malformed(f"{where} has the flags 0x{self.flags:x}: it is not for a chip's main flash")
        if self.size != PAGE:
            raise Malformed(f"{where} has {self.size} bytes where the chip takes {PAGE}")
        if self.of != count:
            raise Malformed(f"{where} is one of {self.of:,} blocks, the file has {count:,}")
        if self.number != number:
            raise Malformed(f"{where} says that it is number {self.number}")
        if self.address % PAGE:
            raise Malformed(f"{where} goes to 0x{self.address:08x}, which is not a multiple of {PAGE}")
        if not FLASH_BASE <= self.address < FLASH_END:
            raise Malformed(f"{where} goes to 0x{self.address:08x}, which is not in flash")
        if any(self.rest):
            raise Malformed(f"{where} has something behind its payload: the file is damaged")
