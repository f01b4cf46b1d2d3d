"""Routines on qemu's dc233c core, a process a call: slow and independent, the check of `sim.xtensa`.

dc233c is little-endian with windows, loops, MAC16, MIN/MAX, CLAMPS, SEXT, NSA and MUL32 including its high word: all
that `asm.xtensa` emits. It has 32 address registers where ESP32 has 64, which a routine that calls nothing cannot see.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from midgehost.codegen.asm.xtensa import Xtensa

QEMU: Final = "qemu-xtensa"
BASE: Final = 0x400000
_HEAD: Final = 0x400  # room for the start code
_EXIT, _WRITE = 118, 13  # Linux system calls


@dataclass(frozen=True)
class Outcome:
    """What a call left: the register a10 that it returned, and all memory from BASE on; the instructions, if asked."""

    value: int
    memory: bytes
    count: int | None

    def read(self, addr: int, n: int) -> bytes:
        return self.memory[addr - BASE : addr - BASE + n]


def available() -> bool:
    return shutil.which(QEMU) is not None


class Image:
    """Memory to be filled, then run."""

    def __init__(self) -> None:
        self._bytes = bytearray(_HEAD)

    def put(self, data: bytes, align: int = 16) -> int:
        """The address of a copy of `data`."""
        self._bytes += bytes(-len(self._bytes) % align)
        addr = BASE + len(self._bytes)
        self._bytes += data
        return addr

    def call(self, code_addr: int, args: list[int], count: bool = False) -> Outcome:
        """Calls with these arguments (at most six, in a10 to a15 of the caller)."""
        self._bytes += bytes(16 + -len(self._bytes) % 16)
        end = BASE + len(self._bytes)
        self._bytes[:_HEAD] = _start(code_addr, args, end).ljust(_HEAD, b"\0")
        with tempfile.TemporaryDirectory() as folder:
            program, log = Path(folder, "program"), Path(folder, "log")
            program.write_bytes(_elf(bytes(self._bytes)))
            program.chmod(0o755)
            options = ["-singlestep", "-d", "exec,nochain", "-D", str(log)] if count else []
            done = subprocess.run(
                [QEMU, "-cpu", "dc233c", *options, str(program)], capture_output=True, timeout=600, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{QEMU} ended with {done.returncode}: {done.stderr.decode(errors='replace')[:500]}")
            steps = _steps(log, code_addr, end) if count else None
        return Outcome(struct.unpack("<I", done.stdout[-4:])[0], done.stdout[:-4], steps)


def disassemble(code: bytes) -> list[str]:
    """The instructions of `code` up to its first jump, as qemu's dc233c names them."""
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder, "program"), Path(folder, "log")
        path.write_bytes(_elf(code.ljust(0x1000, b"\0")))
        path.chmod(0o755)
        command = [QEMU, "-cpu", "dc233c", "-d", "in_asm", "-D", str(log), str(path)]
        subprocess.run(command, capture_output=True, timeout=60, check=False)  # it may fault: translated is enough
        lines = re.findall(r"^0x([0-9a-f]+):\s+(\S.*)$", log.read_text(), re.M)
    return [" ".join(text.split()) for addr, text in lines if int(addr, 16) < BASE + len(code)]


def _start(code_addr: int, args: list[int], end: int) -> bytes:
    """Calls, writes all memory and the result to standard output, ends."""
    asm = Xtensa()
    asm.movi(8, code_addr)
    for number, value in enumerate(args):
        asm.movi(10 + number, value)
    asm.callx8(8)
    asm.movi(7, end)
    asm.s32i(10, 7)
    asm.movi(2, _WRITE)
    asm.movi(6, 1)
    asm.movi(3, BASE)
    asm.movi(4, end + 4 - BASE)
    asm.syscall()
    asm.movi(2, _EXIT)
    asm.movi(6, 0)
    asm.syscall()
    return asm.code()


def _elf(image: bytes) -> bytes:
    """A static executable whose one segment is the image, entered at its first byte."""
    header = b"\x7fELF\1\1\1" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 94, 1, BASE, 52, 0, 0x300, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<8I", 1, 0x1000, BASE, BASE, len(image), len(image) + 0x10000, 7, 0x1000)
    return (header + segment).ljust(0x1000, b"\0") + image


def _steps(log: Path, low: int, high: int) -> int:
    """The executed instructions between two addresses."""
    steps = 0
    with log.open() as lines:
        for line in lines:
            if line.startswith("Trace"):
                pc = int(line.split("/")[1], 16)
                steps += low <= pc < high
    return steps
