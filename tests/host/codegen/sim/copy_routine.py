"""A routine for tests of emulated cores: copies `row1` words from in0 to out, on each core that is always there."""

from __future__ import annotations

import struct


def thumb(*halves: int) -> bytes:
    """Machine code from its halfwords."""
    return struct.pack(f"<{len(halves)}H", *halves)


def riscv(*words: int) -> bytes:
    """Machine code from its words."""
    return struct.pack(f"<{len(words)}I", *words)


# Reads the block, then `row1` times: a word from in0 to out. Comments: the instruction.
_COPY_THUMB = thumb(
    0x6818,  # ldr r0, [r3]
    0x1040,  # asrs r0, r0, #1
    0x0080,  # lsls r0, r0, #2
    0x6841,  # ldr r1, [r0, #4]
    0x68C2,  # ldr r2, [r0, #12]
    0x6A03,  # ldr r3, [r0, #32]
    0x6808,  # 1: ldr r0, [r1]
    0x6010,  # str r0, [r2]
    0x3104,  # adds r1, #4
    0x3204,  # adds r2, #4
    0x3B01,  # subs r3, #1
    0xD1F9,  # bne 1b
    0x2001,  # movs r0, #1
    0x4770,  # bx lr
)
_COPY_RISCV = riscv(
    0x0006A503,  # lw a0, 0(a3)
    0x40155513,  # srai a0, a0, 1
    0x00251513,  # slli a0, a0, 2
    0x00452583,  # lw a1, 4(a0)
    0x00C52603,  # lw a2, 12(a0)
    0x02052683,  # lw a3, 32(a0)
    0x0005A503,  # 1: lw a0, 0(a1)
    0x00A62023,  # sw a0, 0(a2)
    0x00458593,  # addi a1, a1, 4
    0x00460613,  # addi a2, a2, 4
    0xFFF68693,  # addi a3, a3, -1
    0xFE0696E3,  # bnez a3, 1b
    0x00100513,  # li a0, 1
    0x00008067,  # ret
)
COPY = {"armv6m": _COPY_THUMB, "armv7emsp": _COPY_THUMB, "rv32imc": _COPY_RISCV}
