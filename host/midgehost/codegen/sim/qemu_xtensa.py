"""Routines on qemu's dc233c core, a process a call: slow and independent, the check of `sim.xtensa`.

dc233c has all that `asm.xtensa` emits but MUL32_HIGH: each MULSH and MULUH is replaced by a jump, of the same length,
to a piece of code outside of the routine that computes it. dc233c has 32 address registers where ESP32 has 64, which a
routine that calls nothing cannot see.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from midgehost.codegen.asm.xtensa import Xtensa
from midgehost.codegen.sim.core import READ, Core, Fault, Memory
from midgehost.codegen.sim.xtensa import XtensaCode

QEMU: Final = "qemu-xtensa"
_BASE: Final = 0x0040_0000
_HEAD_BYTES: Final = 0x8000  # the start code, then what computes high words
_RAM_BYTES: Final = 1 << 20
_EXIT, _WRITE = 118, 13  # Linux system calls
_SAVED: Final = range(2, 9)


def available() -> bool:
    """Whether qemu is installed."""
    return shutil.which(QEMU) is not None


class QemuXtensa(Core):
    """Counts instructions, where `check` is asked for; alignment is always checked, rights are not."""

    arch, unit, estimate = "xtensawin", "instructions", False
    always_checked = True  # for alignment

    def __init__(self) -> None:
        data = memoryview(bytearray(_RAM_BYTES))
        super().__init__(Memory(_BASE + _HEAD_BYTES, data, bytearray(_RAM_BYTES // 4)))
        self._pieces: dict[int, int] = {}  # address -> size of what was loaded
        self._result = self.ram.alloc(4, 16, READ)

    def load(self, data: bytes, align: int = 16) -> int:
        address = super().load(data, align)
        self._pieces[address] = len(data)
        return address

    def _execute(self, code: int, args: int, check: bool) -> tuple[int, int]:
        size = self._pieces[code]
        content = self.ram.read(code, size)
        patched, pieces = _patched(content, code)
        self.ram.write(code, patched)
        head = _start(code, args, self.stack, self._result, self.ram.top).ljust(0x400, b"\0") + pieces
        if len(head) > _HEAD_BYTES:
            raise Fault("the routine multiplies high words in too many places for this check")
        image = head.ljust(_HEAD_BYTES, b"\0") + bytes(self.ram.data)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            options = ["-singlestep", "-d", "exec,nochain", "-D", str(log)] if check else []
            output = _run(image, Path(folder), options)
            count = _steps(log, code, code + size) if check else 0
        self.ram.write(self.ram.origin, output)
        self.ram.write(code, content)
        return struct.unpack("<I", self.read(self._result, 4))[0], count


def disassemble(code: bytes) -> list[str]:
    """The instructions of `code` up to its first jump, as qemu's dc233c names them."""
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder, "program"), Path(folder, "log")
        _write_program(path, code.ljust(0x1000, b"\0"))
        command = [QEMU, "-cpu", "dc233c", "-d", "in_asm", "-D", str(log), str(path)]
        subprocess.run(command, capture_output=True, timeout=60, check=False)  # it may fault: translated is enough
        lines = re.findall(r"^0x([0-9a-f]+):\s+(\S.*)$", log.read_text(), re.M)
    return [" ".join(text.split()) for addr, text in lines if int(addr, 16) < _BASE + len(code)]


def _run(image: bytes, folder: Path, options: list[str]) -> bytes:
    """What the program writes to standard output. Raises Fault."""
    program = folder / "program"
    _write_program(program, image)
    command = [QEMU, "-cpu", "dc233c", *options, str(program)]
    done = subprocess.run(command, capture_output=True, timeout=600, check=False)
    if done.returncode:
        raise Fault(f"{QEMU} ended with {done.returncode}: {done.stderr.decode(errors='replace')[:200]}")
    return done.stdout


def _start(code: int, args: int, stack: int, result: int, top: int) -> bytes:
    """Calls the routine as MicroPython does, stores the result, writes all memory up to `top` to standard output."""
    asm = Xtensa()
    asm.movi(1, stack)
    asm.movi(8, code)
    for register, value in (10, 0xBAD00001), (11, 1), (12, 0), (13, args):
        asm.movi(register, value)
    asm.callx8(8)
    asm.movi(3, result)
    asm.s32i(10, 3)
    asm.movi(2, _WRITE)
    asm.movi(6, 1)
    asm.movi(3, _BASE + _HEAD_BYTES)
    asm.movi(4, top - _BASE - _HEAD_BYTES)
    asm.syscall()
    asm.movi(2, _EXIT)
    asm.movi(6, 0)
    asm.syscall()
    return asm.code()


def _patched(code: bytes, address: int) -> tuple[bytes, bytes]:
    """The routine with its MULSH and MULUH replaced, and the code that they jump to, at _BASE + 0x400."""
    patched, pieces = bytearray(code), b""
    for at in sorted(XtensaCode(code).instructions):
        word = int.from_bytes(code[at : at + 3], "little")
        if word >> 16 not in (0xA2, 0xB2) or word & 15:
            continue
        here = _BASE + 0x400 + len(pieces)
        piece = _high_word(word >> 12 & 15, word >> 8 & 15, word >> 4 & 15, signed=word >> 16 == 0xB2)
        back = _jump(here + len(piece), address + at + 3)
        pieces += (piece + back).ljust(-(-len(piece + back) // 4) * 4, b"\0")
        patched[at : at + 3] = _jump(address + at, here)
    return bytes(patched), pieces


def _jump(at: int, target: int) -> bytes:
    return (((target - at - 4) & 0x3FFFF) << 6 | 6).to_bytes(3, "little")


def _high_word(r: int, s: int, t: int, signed: bool) -> bytes:
    """r = the high word of s * t by 16-bit multiplies; keeps every other register."""
    asm = Xtensa()
    asm.addi(1, 1, -96)
    asm.s32i(s, 1, 0)
    asm.s32i(t, 1, 4)
    for register in _SAVED:
        asm.s32i(register, 1, 4 * register)
    asm.l32i(2, 1, 0)
    asm.l32i(3, 1, 4)
    asm.extui(5, 2, 16, 16)
    asm.extui(6, 3, 16, 16)
    asm.mul16u(4, 2, 3)
    asm.extui(4, 4, 16, 16)
    asm.mul16u(7, 5, 3)
    asm.add(4, 4, 7)
    asm.mul16u(7, 2, 6)
    asm.extui(8, 4, 0, 16)
    asm.add(7, 7, 8)
    asm.extui(4, 4, 16, 16)
    asm.extui(7, 7, 16, 16)
    asm.mul16u(8, 5, 6)
    asm.add(8, 8, 4)
    asm.add(8, 8, 7)
    if signed:
        for factor, other in (2, 3), (3, 2):
            positive = asm.fresh()
            asm.bgez(factor, positive)
            asm.sub(8, 8, other)
            asm.label(positive)
    asm.s32i(8, 1, 0)
    for register in _SAVED:
        asm.l32i(register, 1, 4 * register)
    asm.l32i(r, 1, 0)
    asm.addi(1, 1, 96)
    return asm.code()


def _write_program(path: Path, image: bytes) -> None:
    """A static executable whose one segment is the image at _BASE, entered at its first byte."""
    header = b"\x7fELF\1\1\1" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 94, 1, _BASE, 52, 0, 0x300, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<8I", 1, 0x1000, _BASE, _BASE, len(image), len(image), 7, 0x1000)
    path.write_bytes((header + segment).ljust(0x1000, b"\0") + image)
    path.chmod(0o755)


def _steps(log: Path, low: int, high: int) -> int:
    """The executed instructions between two addresses."""
    steps = 0
    with log.open() as lines:
        for line in lines:
            if line.startswith("Trace"):
                steps += low <= int(line.split("/")[1], 16) < high
    return steps
