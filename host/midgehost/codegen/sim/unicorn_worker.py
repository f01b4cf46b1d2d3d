"""Runs routines on a unicorn core. A script with its own process: unicorn's core is GPL and stays outside of midge.

Started as `python unicorn_worker.py ARCH FILE RAM_BYTES`. FILE holds the RAM and, behind it, a byte of rights for each
of its words; both sides map it. A request on stdin is `REQUEST`: command (b"c" call, b"f" forget translated code),
whether every memory access is checked, code, args, stack pointer, landing pad, instruction limit. The answer to a call
is `ANSWER` (status, returned word, instructions, cycles, length of the message) and the message of a fault.

Counting is by block: the first time a block runs its instructions are classified, then it costs one addition. Blocks
run without memory checks on one engine and with them, several times slower, on a second; both share the RAM. Without
checks an access outside of the RAM is still a fault.

The cycles are an estimate of a Cortex-M4's, which the Cortex-M33 is near: LDM, STM, PUSH, POP 1 + N; LDR and STR 2, but
1 directly after another; a taken branch 2 more; division 8; everything else 1. RV32 counts instructions only.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ORIGIN: Final = 0x2000_0000  # of the RAM
REQUEST: Final = struct.Struct("<c?IIIIQ")
ANSWER: Final = struct.Struct("<BIQQH")
OK, FAULT = 0, 1
READ, WRITE = 1, 2
_PLAIN, _ACCESS = 0, 1  # kinds of instruction: whether a load or store directly behind it is pipelined


@dataclass(frozen=True)
class Block:
    """A straight run of instructions. `cycles` where the instruction before it is no load or store."""

    end: int
    instructions: int
    cycles: int
    starts_with_access: bool
    ends_with_access: bool


class Thumb2:
    """A Cortex-M33 with DSP."""

    saved = tuple(range(4, 12))

    def __init__(self) -> None:
        from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, arm_const

        self.arch, self.mode, self.model = UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS, arm_const.UC_CPU_ARM_CORTEX_M33
        self.registers = {
            number: getattr(arm_const, f"UC_ARM_REG_{name}")
            for number, name in enumerate([*(f"R{i}" for i in range(13)), "SP", "LR", "PC"])
        }
        self.general, self.arguments, self.sp, self.link, self.pc = range(13), range(4), 13, 14, 15
        self.thumb = 1

    @staticmethod
    def name(register: int) -> str:
        """How people call it."""
        return "sp" if register == 13 else f"r{register}"

    @staticmethod
    def length(half: int) -> int:
        """Bytes of the instruction that begins with this halfword."""
        return 4 if half >> 11 in (0b11101, 0b11110, 0b11111) else 2

    @staticmethod
    def cost(code: bytes) -> tuple[int, int]:
        """(kind, cycles) of an instruction; an access costs 1 here and 1 more where it is not pipelined."""
        half = int.from_bytes(code[:2], "little")
        top = half >> 12
        if len(code) == 2:
            if half & 0xFE00 in (0xB400, 0xBC00):
                return _PLAIN, 1 + (half & 0x1FF).bit_count()
            if top == 0xC:
                return _PLAIN, 1 + (half & 0xFF).bit_count()
            return (_ACCESS, 1) if 5 <= top <= 9 or half >> 11 == 9 else (_PLAIN, 1)
        second = int.from_bytes(code[2:], "little")
        if half >> 9 == 0b1110100:
            if not half & 0x40:
                return _PLAIN, 1 + second.bit_count()
            return (_PLAIN, 3) if half & 0x120 else (_ACCESS, 1)
        if half >> 9 == 0b1111100:
            return _ACCESS, 1
        return _PLAIN, 8 if half >> 8 == 0xFB and half >> 4 & 0xF in (0x9, 0xB) else 1


class Rv32:
    """RV32IMC."""

    saved = (3, 4, 8, 9, *range(18, 28))

    def __init__(self) -> None:
        from unicorn import UC_ARCH_RISCV, UC_MODE_RISCV32, riscv_const

        self.arch, self.mode, self.model = UC_ARCH_RISCV, UC_MODE_RISCV32, None
        self.registers = {i: getattr(riscv_const, f"UC_RISCV_REG_X{i}") for i in range(32)}
        self.registers[32] = riscv_const.UC_RISCV_REG_PC
        self.general, self.arguments, self.sp, self.link, self.pc = range(3, 32), range(10, 14), 2, 1, 32
        self.thumb = 0

    @staticmethod
    def name(register: int) -> str:
        """How people call it."""
        if register in (8, 9):
            return f"s{register - 8}"
        return {2: "sp", 3: "gp", 4: "tp"}.get(register) or f"s{register - 16}"

    @staticmethod
    def length(half: int) -> int:
        """Bytes of the instruction that begins with this halfword."""
        return 4 if half & 3 == 3 else 2

    @staticmethod
    def cost(_: bytes) -> tuple[int, int]:
        """Instructions only."""
        return _PLAIN, 1


class Engine:
    """One unicorn core over the shared RAM."""

    def __init__(self, isa: Thumb2 | Rv32, ram: Any, size: int, rights: memoryview | None) -> None:
        unicorn: Any = importlib.import_module("unicorn")
        self.isa = isa
        self.uc = uc = unicorn.Uc(isa.arch, isa.mode)
        if isa.model is not None:
            uc.ctl_set_cpu_model(isa.model)
        uc.mem_map_ptr(ORIGIN, size, unicorn.UC_PROT_ALL, ctypes.addressof(ram))
        self.ram = memoryview(ram).cast("B")
        self.blocks: dict[int, Block] = {}
        self.fault = ""
        self.spoilt: list[tuple[int, bytes]] = []  # what forbidden writes are about to overwrite, (offset, bytes)
        self.instructions = self.cycles = self.limit = 0
        self.next, self.after_access = 0, False
        uc.hook_add(unicorn.UC_HOOK_BLOCK, self._on_block)
        if rights is not None:
            self.rights = rights
            self._write_access = unicorn.UC_MEM_WRITE
            uc.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, self._on_access)

    def call(self, code: int, args: int, stack: int, landing: int, limit: int) -> int:
        """The returned word. Raises RuntimeError with the fault."""
        isa, uc = self.isa, self.uc
        before = {register: 0xBAD0_0001 + 2 * register for register in isa.general}
        before.update(zip(isa.arguments, (0xBAD0_0001, 1, 0, args), strict=True))
        before[isa.sp], before[isa.link] = stack, landing | isa.thumb
        for register, value in before.items():
            uc.reg_write(isa.registers[register], value)
        self.fault = ""
        self.instructions = self.cycles = 0
        self.limit, self.next, self.after_access = limit, code, False
        self.cycles = 2 if isa.thumb else 0  # the branch here
        problem = ""
        try:
            uc.emu_start(code | isa.thumb, landing)
        except Exception as error:
            problem = str(error)
        while self.spoilt:
            at, data = self.spoilt.pop()
            self.ram[at : at + len(data)] = data
        pc = uc.reg_read(isa.registers[isa.pc])
        if self.fault or problem or pc != landing:
            raise RuntimeError(f"{self.fault or problem or 'stopped'}, near offset {pc - code:#x} of the routine")
        changed = [r for r in (*isa.saved, isa.sp) if uc.reg_read(isa.registers[r]) != before[r]]
        if changed:
            raise RuntimeError(f"the routine did not restore {', '.join(map(isa.name, changed))}")
        return uc.reg_read(isa.registers[isa.arguments[0]])

    def forget(self) -> None:
        """Memory that held code has changed."""
        self.blocks.clear()
        self.uc.ctl_flush_tb()

    def _on_block(self, uc: Any, address: int, size: int, _: Any) -> None:
        block = self.blocks.get(address)
        if block is None:
            block = self.blocks[address] = self._classify(address, size)
        self.instructions += block.instructions
        self.cycles += block.cycles
        if address != self.next:
            self.cycles += 2
        if self.after_access and block.starts_with_access:
            self.cycles -= 1
        self.next, self.after_access = block.end, block.ends_with_access
        if self.instructions > self.limit:
            self.fault = f"the routine runs longer than {self.limit:,} instructions"
            uc.emu_stop()

    def _classify(self, address: int, size: int) -> Block:
        isa = self.isa
        end = address + size
        instructions = cycles = 0
        first, previous = _PLAIN, _PLAIN
        while address < end:
            at = address - ORIGIN
            length = isa.length(int.from_bytes(self.ram[at : at + 2], "little"))
            kind, cost = isa.cost(bytes(self.ram[at : at + length]))
            cycles += cost + (kind == _ACCESS and previous == _PLAIN)
            if not instructions:
                first = kind
            instructions += 1
            previous = kind
            address += length
        return Block(end, instructions, cycles, first == _ACCESS, previous == _ACCESS)

    def _on_access(self, uc: Any, access: int, address: int, size: int, value: int, _: Any) -> None:
        at = (address - ORIGIN) >> 2
        if address & (min(size, 4) - 1):
            where = "is not aligned"
        elif 0 <= at < len(self.rights) and self.rights[at] & (WRITE if access == self._write_access else READ):
            return
        else:
            where = "lies outside of what the routine may access"
        if access == self._write_access:
            at = address - ORIGIN
            self.spoilt.append((at, bytes(self.ram[at : at + size])))
        if not self.fault:
            what = "write" if access == self._write_access else "read"
            self.fault = f"a {what} of {size} bytes at {address:#010x} {where}"
        uc.emu_stop()


def main() -> None:
    """Serves requests until stdin ends."""
    arch, path, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    ram = (ctypes.c_char * size).from_buffer(shared)
    rights = memoryview(shared)[size:]
    isa = Rv32() if arch == "rv32imc" else Thumb2()

    def engine_for(check: bool) -> Engine:
        return Engine(isa, ram, size, rights if check else None)

    engines = {check: engine_for(check) for check in (False, True)}
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while request := requests.read(REQUEST.size):
        command, check, code, args, stack, landing, limit = REQUEST.unpack(request)
        if command == b"f":
            for engine in engines.values():
                engine.forget()
            continue
        engine = engines[check]
        status, result, message = OK, 0, b""
        try:
            result = engine.call(code, args, stack, landing, limit)
        except RuntimeError as error:
            status, message = FAULT, str(error).encode()
            engines[check] = engine_for(check)  # a core does not come out of an exception by itself
        answers.write(ANSWER.pack(status, result, engine.instructions, engine.cycles, len(message)) + message)
        answers.flush()


if __name__ == "__main__":
    main()
