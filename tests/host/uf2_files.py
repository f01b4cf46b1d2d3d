"""UF2 files for tests, made and read without the code under test: sound ones, and mutations of them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping, Sequence

RP2040, ABSOLUTE, ARM, RISCV, ARM_NS = 0xE48BFF56, 0xE48BFF57, 0xE48BFF59, 0xE48BFF5A, 0xE48BFF5B
BASE = 0x10000000
PICO = "Raspberry Pi Pico with RP2040"
MACHINES = {RP2040: PICO, ARM: "Raspberry Pi Pico2 with RP2350", RISCV: "Raspberry Pi Pico2 with RP2350-RISCV"}
# The RP2350 data sheet's smallest IMAGE_DEFs (5.9.5)
_IMAGE_DEF = {
    ARM: bytes.fromhex("d3deffff 42012110 ff010000 00000000 793512ab"),
    RISCV: bytes.fromhex("d3deffff 42010111 ff010000 00000000 793512ab"),
}


def block(
    address: int,
    page: bytes,
    number: int,
    count: int,
    family: int = RP2040,
    *,
    flags: int = 0x2000,
    size: int = 256,
    rest: bytes = b"",
) -> bytes:
    """One block of 512 bytes."""
    head = struct.pack("<8I", 0x0A324655, 0x9E5D5157, flags, address, size, number, count, family)
    return head + (page + rest).ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30)


def uf2(pages: Mapping[int, bytes] | Sequence[tuple[int, bytes]], family: int = RP2040) -> bytes:
    """A file of these pages."""
    listed = list(pages.items()) if isinstance(pages, Mapping) else list(pages)
    return b"".join(block(a, page, n, len(listed), family) for n, (a, page) in enumerate(listed))


def program(family: int = RP2040, nbytes: int = 10_000, machine: str | None = None, version: str = "1.26.1") -> bytes:
    """Flash content that a ROM starts, with MicroPython's banner in it. Seeded by what it is."""
    chance = random.Random(f"{family}{nbytes}{machine}{version}")
    memory = bytearray(chance.randbytes(nbytes))
    if family == RP2040:
        memory[:256] = sealed(bytes(memory[:252]))
    else:
        memory[0x100 : 0x100 + 20] = _IMAGE_DEF[family]
    name = MACHINES[family] if machine is None else machine
    said = b"\0MicroPython v%s on 2025-09-11; %s\0" % (version.encode(), name.encode())
    if name:
        memory[0x1000 : 0x1000 + len(said)] = said
    return bytes(memory)


def sealed(boot2: bytes) -> bytes:
    """252 bytes and the CRC-32/MPEG-2 that the RP2040's ROM wants behind them, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in boot2:
        for bit in range(7, -1, -1):
            crc = (crc << 1) ^ (0x04C11DB7 if (crc >> 31) ^ (byte >> bit & 1) else 0)
            crc &= 0xFFFFFFFF
    return boot2 + struct.pack("<I", crc)


def paged(memory: bytes, base: int = BASE) -> dict[int, bytes]:
    """Pages of 256 bytes, the last filled up with 0xff."""
    return {base + at: memory[at : at + 256].ljust(256, b"\xff") for at in range(0, len(memory), 256)}


def stock(family: int = RP2040, **what: str | int) -> bytes:
    """A file as micropython.org has it: for the RP2350 with picotool's block against E10 in front."""
    file = uf2(paged(program(family, **what)), family)  # type: ignore[arg-type]
    return file if family == RP2040 else e10_block() + file


def e10_block(*, ignorable: bool = True) -> bytes:
    """What picotool's `gen_abs_block` writes; older ones without the extension."""
    extension = {"flags": 0xA000, "rest": struct.pack("<I", 0x9957E304)} if ignorable else {}
    return block(0x10FFFF00, b"\xef" * 256, 0, 2, ABSOLUTE, **extension)  # type: ignore[arg-type]


def flashed(file: bytes, before: bytes) -> bytes:
    """What a flash that held `before` holds after this file, which is taken at its word: written sectors are erased.

    A block against E10 is not written by midge.
    """
    after = bytearray(before)
    pages = []
    for at in range(0, len(file), 512):
        *_, address, size, _, _, family = struct.unpack_from("<8I", file, at)
        if family != ABSOLUTE:
            pages.append((address - BASE, file[at + 32 : at + 32 + size]))
    for sector in {offset & -4096 for offset, _ in pages}:
        after[sector : sector + 4096] = b"\xff" * 4096
    for offset, page in pages:
        after[offset : offset + len(page)] = page
    return bytes(after)


# --- mutations: each takes a sound file and chance, and returns another file


def _blocks(file: bytes) -> list[bytearray]:
    return [bytearray(file[at : at + 512]) for at in range(0, len(file), 512)]


def _flip(file: bytes, chance: random.Random, first: int, last: int) -> bytes:
    """One bit of the bytes `first` to `last` of some block."""
    mutant = bytearray(file)
    at = chance.randrange(len(file) // 512) * 512 + chance.randint(first, last)
    mutant[at] ^= 1 << chance.randrange(8)
    return bytes(mutant)


def _set(file: bytes, chance: random.Random, offset: int, value: int, every: bool = False) -> bytes:
    blocks = _blocks(file)
    for one in blocks if every else [chance.choice(blocks)]:
        struct.pack_into("<I", one, offset, value)
    return b"".join(blocks)


def _moved(file: bytes, chance: random.Random) -> bytes:
    blocks = _blocks(file)
    by = chance.choice([0x100, 0x80, 0x200000, 0x1000000, -0x1000, 0x10000000])
    for one in blocks:
        struct.pack_into("<I", one, 12, (struct.unpack_from("<I", one, 12)[0] + by) & 0xFFFFFFFF)
    return b"".join(blocks)


def _duplicated(file: bytes, chance: random.Random) -> bytes:
    blocks = _blocks(file)
    blocks.insert(chance.randrange(len(blocks)), bytearray(chance.choice(blocks)))
    return b"".join(blocks)


def _dropped(file: bytes, chance: random.Random) -> bytes:
    blocks = _blocks(file)
    del blocks[chance.randrange(len(blocks))]
    return b"".join(blocks)


def _dropped_and_renumbered(file: bytes, chance: random.Random) -> bytes:
    blocks = _blocks(_dropped(file, chance))
    for number, one in enumerate(blocks):
        struct.pack_into("<2I", one, 20, number, len(blocks))
    return b"".join(blocks)


def _swapped(file: bytes, chance: random.Random) -> bytes:
    blocks = _blocks(file)
    one, other = chance.sample(range(len(blocks)), 2)
    blocks[one], blocks[other] = blocks[other], blocks[one]
    return b"".join(blocks)


def _overlapping(file: bytes, chance: random.Random) -> bytes:
    blocks = _blocks(file)
    one, other = chance.sample(range(len(blocks)), 2)
    blocks[one][12:16] = blocks[other][12:16]
    return b"".join(blocks)


def _family(file: bytes, chance: random.Random) -> bytes:
    family = chance.choice([ABSOLUTE, ARM, RISCV, ARM_NS, 0xADA52840, 0])
    return _set(file, chance, 28, family, every=chance.random() < 0.5)


def _garbage(file: bytes, chance: random.Random) -> bytes:
    junk = chance.randbytes(512 * chance.randint(1, 3) - chance.choice([0, 0, 1]))
    at = chance.choice([0, len(file), 512 * chance.randrange(len(file) // 512)])
    return file[:at] + junk + file[at:]


MUTATIONS: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "bit of a header": lambda file, chance: _flip(file, chance, 0, 31),
    "bit of a payload": lambda file, chance: _flip(file, chance, 32, 287),
    "bit behind a payload": lambda file, chance: _flip(file, chance, 288, 511),
    "cut off": lambda file, chance: file[: chance.randrange(len(file))],
    "cut between blocks": lambda file, chance: file[: 512 * chance.randrange(len(file) // 512)],
    "block twice": _duplicated,
    "block missing": _dropped,
    "block missing, renumbered": _dropped_and_renumbered,
    "blocks swapped": _swapped,
    "blocks overlap": _overlapping,
    "other family": _family,
    "garbage between": _garbage,
    "other place": _moved,
    "other count": lambda file, chance: _set(file, chance, 24, chance.randrange(100), every=chance.random() < 0.5),
    "other size": lambda file, chance: _set(file, chance, 16, chance.choice([0, 255, 476, 512, 1 << 31])),
    "other flags": lambda file, chance: _set(file, chance, 8, chance.choice([0, 1, 0x1000, 0x2001, 0x6000])),
}


def mutants(file: bytes, count: int, seed: int) -> list[tuple[str, bytes]]:
    """(mutation, file), every mutation in turn; seeded."""
    chance = random.Random(seed)
    names = list(MUTATIONS)
    return [(name := names[n % len(names)], MUTATIONS[name](file, chance)) for n in range(count)]
