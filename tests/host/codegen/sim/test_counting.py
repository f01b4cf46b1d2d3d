"""Counting by block gives exactly the numbers of counting by instruction."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).with_name("count_by_instruction.py")


def _thumb(*halves: int) -> bytes:
    return struct.pack(f"<{len(halves)}H", *halves)


# With r3 = address of 4 KB. None of them branches. 16 and 32 bits, pipelined loads, LDM, LDRD, SMLAD, UDIV.
_THUMB = [
    _thumb(0x6818),  # ldr r0, [r3]
    _thumb(0x6859),  # ldr r1, [r3, #4]
    _thumb(0x6098),  # str r0, [r3, #8]
    _thumb(0x7B18),  # ldrb r0, [r3, #12]
    _thumb(0x1840),  # adds r0, r0, r1
    _thumb(0x4348),  # muls r0, r1
    _thumb(0xF8D3, 0x0010),  # ldr.w r0, [r3, #16]
    _thumb(0xE9D3, 0x0104),  # ldrd r0, r1, [r3, #16]
    _thumb(0xE893, 0x0003),  # ldm.w r3, {r0, r1}
    _thumb(0xFB20, 0x0101),  # smlad r1, r0, r1, r0
    _thumb(0xFBB0, 0xF1F1),  # udiv r1, r0, r1
    _thumb(0xB403, 0xBC03),  # push {r0, r1}; pop {r0, r1}
]
_RISCV = [
    struct.pack("<I", 0x0006A503),  # lw a0, 0(a3)
    struct.pack("<I", 0x02B50533),  # mul a0, a0, a1
    struct.pack("<H", 0x0505),  # c.addi a0, 1
    struct.pack("<H", 0x952E),  # c.add a0, a1
]


def _looped(arch: str, body: bytes) -> bytes:
    """The body, twice around, then a return of status 0."""
    if arch == "rv32imc":
        back = -(len(body) + 4)
        bits = (back >> 12 & 1) << 31 | (back >> 5 & 0x3F) << 25 | (back >> 1 & 0xF) << 8 | (back >> 11 & 1) << 7
        bne = bits | 0x00061063  # bnez a2
        return struct.pack("<I", 0x00200613) + body + struct.pack("<4I", 0xFFF60613, bne, 0x00100513, 0x00008067)
    offset = -(len(body) + 2 + 4) // 2  # bne.w reaches any of them
    bits = offset & 0xFFFFFF
    sign, j2, j1 = bits >> 19 & 1, bits >> 18 & 1, bits >> 17 & 1
    branch = _thumb(0xF040 | sign << 10 | bits >> 11 & 0x3F, 0x8000 | j1 << 13 | j2 << 11 | bits & 0x7FF)
    return _thumb(0x2202) + body + _thumb(0x3A01) + branch + _thumb(0x2001, 0x4770)


def _counts(arch: str, code: bytes) -> list[list[int]]:
    """[instructions, cycles] by block and by instruction."""
    command = [sys.executable, str(_SCRIPT), arch, code.hex()]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [[int(word) for word in line.split()] for line in lines]


@pytest.mark.parametrize("arch", ["armv7emsp", "rv32imc"])
def test_blocks_are_counted_exactly(arch: str) -> None:
    """A random routine of more than a page: blocks that end at a page, at the limit of the translator, at branches."""
    pytest.importorskip("unicorn")
    rng = random.Random(1)
    body = b"".join(rng.choices(_RISCV if arch == "rv32imc" else _THUMB, k=900))
    by_block, by_instruction = _counts(arch, _looped(arch, body))
    assert by_block == by_instruction
    assert by_block[0] > 1800


def test_an_instruction_that_its_condition_skips_takes_a_cycle() -> None:
    """ITE: one of the two is skipped; unicorn's hook of each instruction does not see it, the core fetches it."""
    pytest.importorskip("unicorn")
    ite = _thumb(0x2000, 0x2800, 0xBF0C, 0x3001, 0x3102)  # movs r0, #0; cmp r0, #0; ite eq; addeq r0, #1; addne r1, #2
    (instructions, cycles), (seen, _) = _counts("armv7emsp", ite + _thumb(0x2001, 0x4770))
    assert (instructions, cycles, seen) == (7, 7 + 2, 6)
