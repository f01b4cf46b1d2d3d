"""A small model of hand-made Thumb routines, as a bundle: it copies 64 bytes, reading weights and parameters.

Routine `mix` computes word r of the output as in0[r] + weights[r] + params[0]; the two calls of the model use weights
that take the parameter away again, so the output is the input only if every pointer and every slice is right.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from midgehost.codegen.asm.thumb import R0, R1, R2, R3, R4, R5, R6, R7, Thumb
from midgehost.codegen.mpy import write_module
from midgehost.models.bundle import Bundle, Machine, TensorInfo, Vector
from midgehost.models.kernels import Kernel
from midgehost.models.plan import NOTHING, PlannedCall

WORDS = 16
NBYTES = 4 * WORDS
SECRETS = (7, -123456789)  # the parameters of the two calls


def mix() -> bytes:
    """Thumb code of the routine; status 1 for a block of another abi."""
    a = Thumb()
    a.push((R4, R5, R6, R7))
    a.ldr(R0, R3)
    a.lsrs_imm(R0, R0, 1)
    a.lsls_imm(R0, R0, 2)
    a.ldr(R1, R0, 0)
    a.cmp_imm(R1, 1)
    a.bcond("ne", "refuse")
    a.ldr(R1, R0, 4)
    a.ldr(R2, R0, 12)
    a.ldr(R3, R0, 16)
    a.ldr(R4, R0, 20)
    a.ldr(R4, R4)
    a.ldr(R5, R0, 28)
    a.ldr(R6, R0, 32)
    a.lsls_imm(R5, R5, 2)
    a.lsls_imm(R6, R6, 2)
    a.label("row")
    a.ldr_reg(R7, R1, R5)
    a.ldr_reg(R0, R3, R5)
    a.adds(R7, R7, R0)
    a.adds(R7, R7, R4)
    a.str_reg(R7, R2, R5)
    a.adds_imm(R5, R5, 4)
    a.cmp(R5, R6)
    a.bcond("ne", "row")
    a.movs(R0, 1)
    a.b("done")
    a.label("refuse")
    a.movs(R0, 3)
    a.label("done")
    a.pop((R4, R5, R6, R7))
    a.bx(14)
    return a.code()


def endless() -> bytes:
    """A routine that never returns, as after a wild jump; a breakpoint first, for the emulator."""
    a = Thumb()
    a.emit(b"\x00\xbe")  # bkpt 0
    a.label("here")
    a.b("here")
    return a.code()


def weights(secret: int) -> bytes:
    return struct.pack(f"<{WORDS}i", *[-secret] * WORDS)


def bundle(arch: str = "armv6m", code: bytes | None = None, **meta: Any) -> Bundle:
    """The model with both plans; `meta` changes META's part for machine code.

    With residence "flash" there are six tiles, each in a block of its own; three calls use 1, 0 and 5. For an
    arch that is not armv6m the code has to be given, and the machine code's plan has its output where its input lies:
    code that does nothing but return status 0 is right.
    """
    where = 128 if code is None else 0
    source, copied, mixed = (TensorInfo("x", (NBYTES,), "int8", 1.0, 0, at, NBYTES) for at in (0, 128, where))
    info = {
        "abi": 1,
        "arch": arch,
        "arena_bytes": 192,
        "board": "any",
        "heap_bytes": 1000,
        "levels": ["machine", "viper", "portable"],
        "machine": {
            "arch": arch,
            "arena_bytes": 192,
            "heap_bytes": 2000,
            "oldest_firmware": "1.23",
            "residence": "ram",
            "scratch_bytes": 64,
            **meta,
        },
        "name": "copy",
        "scratch_bytes": 0,
    }
    copy = PlannedCall(Kernel.COPY, 0, NOTHING, 128, NOTHING, NOTHING, 0, NOTHING, 0, NBYTES, 0, 7)
    mixes = (
        PlannedCall(0, 0, NOTHING, 64, 0, 0, 1, 192, 0, WORDS, 0, 5),
        PlannedCall(0, 64, NOTHING, 128, 1, NBYTES, 2, NOTHING, 0, WORDS, 1, WORDS),
    )
    first, second = SECRETS
    kernels = write_module(arch, "copy.py", {"k0": mix() if code is None else code})
    tiles = (weights(first), bytes(NBYTES) + weights(second))
    in_flash = meta.get("residence") == "flash"
    if in_flash:
        fillers = [bytes((i,)) * 3000 for i in range(4)]
        tiles = (weights(first) + bytes(3000), *fillers, tiles[1] + bytes(3000))
        nothing = PlannedCall(0, 0, NOTHING, 0, 1, 0, 0, NOTHING, 0, WORDS, 0, WORDS)
        mixes = (nothing, mixes[0], replace(mixes[1], tile=5))
    machine = Machine((source,), (mixed,), mixes, (0, first, second), tiles, kernels, in_flash)
    drawn = [bytes((i * 37 + seed * 11) % 256 for i in range(NBYTES)) for seed in range(2)]
    vectors = tuple(Vector((data,), (data,)) for data in drawn)
    params = (1, 1, 1, 1, NBYTES, 1, 1)
    return Bundle(info, (source,), (copied,), (copy,), params, (), vectors, machine)


def machine_only(model: Bundle) -> Bundle:
    """The same without the plan that every board runs."""
    return replace(model, meta={**model.meta, "levels": ["machine"]}, calls=(), params=(), tiles=())
