"""ARMv6-M: the 16-bit Thumb instructions of Cortex-M0+ (and BL). Source: ARM DDI 0419, chapter A6.

A method is a mnemonic; immediate and register forms that share one are told apart by a suffix (`adds`, `adds_imm`).
Registers are numbers. The routine starts at a multiple of 4, so that literals and `adr` count from aligned addresses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from midgehost.codegen.asm.base import Assembler, AssemblyError, check_range

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12, SP, LR, PC = range(16)

Condition = Literal["eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le"]
_CONDITIONS: Final[tuple[Condition, ...]] = (
    "eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le",
)  # fmt: skip


@dataclass(frozen=True)
class _Difference:
    """A literal: the address of `label` minus that of `base` plus `offset`."""

    label: str
    base: str
    offset: int


class Thumb(Assembler):
    """An assembler for ARMv6-M."""

    def __init__(self) -> None:
        super().__init__()
        self._pool: dict[int | _Difference, str] = {}

    def half(self, *halfwords: int) -> None:
        """Appends halfwords as they are."""
        self.emit(struct.pack(f"<{len(halfwords)}H", *halfwords))

    def code(self) -> bytes:
        if self._pool:
            raise AssemblyError("literals are left: pool() must follow the last instruction")
        return super().code()

    # Moves and arithmetic

    def movs(self, rd: int, imm: int) -> None:
        self.half(0x2000 | _low(rd) << 8 | check_range(imm, 0, 255, "immediate"))

    def mov(self, rd: int, rm: int) -> None:
        """Between any registers; flags stay."""
        self.half(0x4600 | _high_pair(rd, rm))

    def adds(self, rd: int, rn: int, rm: int) -> None:
        self.half(0x1800 | _low(rm) << 6 | _low(rn) << 3 | _low(rd))

    def adds_imm(self, rd: int, rn: int, imm: int) -> None:
        """imm 0 to 7, or 0 to 255 where rd is rn."""
        self._imm3_or_8(0x1C00, 0x3000, rd, rn, imm)

    def add(self, rd: int, rm: int) -> None:
        """rd += rm of any registers; flags stay. `add(PC, rm)` jumps to rm + here + 4."""
        self.half(0x4400 | _high_pair(rd, rm))

    def adcs(self, rd: int, rm: int) -> None:
        self._alu(5, rd, rm)

    def subs(self, rd: int, rn: int, rm: int) -> None:
        self.half(0x1A00 | _low(rm) << 6 | _low(rn) << 3 | _low(rd))

    def subs_imm(self, rd: int, rn: int, imm: int) -> None:
        """imm 0 to 7, or 0 to 255 where rd is rn."""
        self._imm3_or_8(0x1E00, 0x3800, rd, rn, imm)

    def sbcs(self, rd: int, rm: int) -> None:
        self._alu(6, rd, rm)

    def rsbs(self, rd: int, rn: int) -> None:
        """rd = 0 - rn."""
        self._alu(9, rd, rn)

    def muls(self, rd: int, rm: int) -> None:
        """rd *= rm, the low 32 bits; only N and Z are set."""
        self._alu(13, rd, rm)

    def add_sp(self, imm: int) -> None:
        """sp += imm, -508 to 508, a multiple of 4."""
        check_range(imm, -508, 508, "stack adjustment", 4)
        self.half((0xB080 if imm < 0 else 0xB000) | abs(imm) // 4)

    def add_rd_sp(self, rd: int, imm: int) -> None:
        """rd = sp + imm."""
        self.half(0xA800 | _low(rd) << 8 | check_range(imm, 0, 1020, "offset from sp", 4) // 4)

    def adr(self, rd: int, label: str) -> None:
        """rd = the address of a label within the next 1020 bytes, at a multiple of 4."""
        self._literal(0xA000 | _low(rd) << 8, label)

    # Comparisons and logic

    def cmp(self, rn: int, rm: int) -> None:
        """Any registers but PC."""
        if rn < 8 and rm < 8:
            self._alu(10, rn, rm)
        else:
            check_range(max(rn, rm), 8, LR, "compared register")
            self.half(0x4500 | _high_pair(rn, rm))

    def cmp_imm(self, rn: int, imm: int) -> None:
        self.half(0x2800 | _low(rn) << 8 | check_range(imm, 0, 255, "immediate"))

    def cmn(self, rn: int, rm: int) -> None:
        self._alu(11, rn, rm)

    def tst(self, rn: int, rm: int) -> None:
        self._alu(8, rn, rm)

    def ands(self, rd: int, rm: int) -> None:
        self._alu(0, rd, rm)

    def eors(self, rd: int, rm: int) -> None:
        self._alu(1, rd, rm)

    def orrs(self, rd: int, rm: int) -> None:
        self._alu(12, rd, rm)

    def bics(self, rd: int, rm: int) -> None:
        self._alu(14, rd, rm)

    def mvns(self, rd: int, rm: int) -> None:
        self._alu(15, rd, rm)

    # Shifts and extensions

    def lsls_imm(self, rd: int, rm: int, imm: int) -> None:
        self.half(check_range(imm, 0, 31, "shift") << 6 | _low(rm) << 3 | _low(rd))

    def lsrs_imm(self, rd: int, rm: int, imm: int) -> None:
        """imm 1 to 32."""
        self.half(0x0800 | (check_range(imm, 1, 32, "shift") & 31) << 6 | _low(rm) << 3 | _low(rd))

    def asrs_imm(self, rd: int, rm: int, imm: int) -> None:
        """imm 1 to 32."""
        self.half(0x1000 | (check_range(imm, 1, 32, "shift") & 31) << 6 | _low(rm) << 3 | _low(rd))

    def lsls(self, rd: int, rs: int) -> None:
        """rd <<= the low byte of rs."""
        self._alu(2, rd, rs)

    def lsrs(self, rd: int, rs: int) -> None:
        self._alu(3, rd, rs)

    def asrs(self, rd: int, rs: int) -> None:
        self._alu(4, rd, rs)

    def rors(self, rd: int, rs: int) -> None:
        self._alu(7, rd, rs)

    def sxth(self, rd: int, rm: int) -> None:
        self.half(0xB200 | _low(rm) << 3 | _low(rd))

    def sxtb(self, rd: int, rm: int) -> None:
        self.half(0xB240 | _low(rm) << 3 | _low(rd))

    def uxth(self, rd: int, rm: int) -> None:
        self.half(0xB280 | _low(rm) << 3 | _low(rd))

    def uxtb(self, rd: int, rm: int) -> None:
        self.half(0xB2C0 | _low(rm) << 3 | _low(rd))

    def rev(self, rd: int, rm: int) -> None:
        self.half(0xBA00 | _low(rm) << 3 | _low(rd))

    def nop(self) -> None:
        self.half(0x46C0)  # mov r8, r8, as GNU as has it

    # Loads and stores

    def ldr(self, rt: int, rn: int, imm: int = 0) -> None:
        """A word at rn + imm: 0 to 124, from SP 0 to 1020."""
        self._word(0x6800, 0x9800, rt, rn, imm)

    def str_(self, rt: int, rn: int, imm: int = 0) -> None:
        """A word to rn + imm: 0 to 124, from SP 0 to 1020."""
        self._word(0x6000, 0x9000, rt, rn, imm)

    def ldrh(self, rt: int, rn: int, imm: int = 0) -> None:
        self.half(0x8800 | check_range(imm, 0, 62, "offset", 2) << 5 | _low(rn) << 3 | _low(rt))

    def strh(self, rt: int, rn: int, imm: int = 0) -> None:
        self.half(0x8000 | check_range(imm, 0, 62, "offset", 2) << 5 | _low(rn) << 3 | _low(rt))

    def ldrb(self, rt: int, rn: int, imm: int = 0) -> None:
        self.half(0x7800 | check_range(imm, 0, 31, "offset") << 6 | _low(rn) << 3 | _low(rt))

    def strb(self, rt: int, rn: int, imm: int = 0) -> None:
        self.half(0x7000 | check_range(imm, 0, 31, "offset") << 6 | _low(rn) << 3 | _low(rt))

    def str_reg(self, rt: int, rn: int, rm: int) -> None:
        self._indexed(0, rt, rn, rm)

    def strh_reg(self, rt: int, rn: int, rm: int) -> None:
        self._indexed(1, rt, rn, rm)

    def strb_reg(self, rt: int, rn: int, rm: int) -> None:
        self._indexed(2, rt, rn, rm)

    def ldrsb(self, rt: int, rn: int, rm: int) -> None:
        """The signed byte at rn + rm; there is no immediate form."""
        self._indexed(3, rt, rn, rm)

    def ldr_reg(self, rt: int, rn: int, rm: int) -> None:
        self._indexed(4, rt, rn, rm)

    def ldrh_reg(self, rt: int, rn: int, rm: int) -> None:
        self._indexed(5, rt, rn, rm)

    def ldrb_reg(self, rt: int, rn: int, rm: int) -> None:
        self._indexed(6, rt, rn, rm)

    def ldrsh(self, rt: int, rn: int, rm: int) -> None:
        """The signed halfword at rn + rm; there is no immediate form."""
        self._indexed(7, rt, rn, rm)

    def ldm(self, rn: int, registers: Iterable[int]) -> None:
        """Loads low registers from rn upwards; rn moves on, unless it is in the list."""
        self.half(0xC800 | _low(rn) << 8 | _register_list(registers))

    def stm(self, rn: int, registers: Iterable[int]) -> None:
        """Stores low registers from rn upwards; rn moves on and is not in the list."""
        registers = tuple(registers)
        if rn in registers:
            raise AssemblyError(f"stm stores its own base r{rn}")
        self.half(0xC000 | _low(rn) << 8 | _register_list(registers))

    def push(self, registers: Iterable[int]) -> None:
        """Low registers and LR."""
        registers = tuple(registers)
        self.half(0xB400 | (0x100 if LR in registers else 0) | _register_list(registers, LR))

    def pop(self, registers: Iterable[int]) -> None:
        """Low registers and PC."""
        registers = tuple(registers)
        self.half(0xBC00 | (0x100 if PC in registers else 0) | _register_list(registers, PC))

    # Literals

    def ldr_literal(self, rt: int, value: int) -> None:
        """Loads an int32 or uint32 from the next pool."""
        check_range(value, -(1 << 31), (1 << 32) - 1, "literal")
        self._from_pool(rt, value & 0xFFFFFFFF)

    def ldr_difference(self, rt: int, label: str, base: str, offset: int = 0) -> None:
        """Loads the address of `label` minus that of `base`, plus offset, from the next pool.

        With `base` at an `add(PC, rt)` and offset -4 that addition jumps to `label`, as far away as you like.
        """
        self._from_pool(rt, _Difference(label, base, offset))

    def ldr_label(self, rt: int, label: str) -> None:
        """Loads the word at a label within the next 1020 bytes, at a multiple of 4."""
        self._literal(0x4800 | _low(rt) << 8, label)

    def pool(self) -> None:
        """The literals asked for so far, aligned; to be put where execution does not pass."""
        if not self._pool:
            return
        self.align()
        for literal, name in self._pool.items():
            self.label(name)
            if isinstance(literal, int):
                self.emit(struct.pack("<I", literal))
            else:
                self.emit_fixup(bytes(4), literal.label, self._difference(literal))
        self._pool.clear()

    def align(self, size: int = 4) -> None:
        """Nops up to a multiple of `size`."""
        while self.here % size:
            self.nop()

    def set_int(self, rd: int, value: int) -> None:
        """rd = an int32, by two or three instructions where those suffice, else from the next pool."""
        check_range(value, -(1 << 31), (1 << 32) - 1, "literal")
        value &= 0xFFFFFFFF
        if value <= 255:
            self.movs(rd, value)
        elif value <= 510:
            self.movs(rd, 255)
            self.adds_imm(rd, rd, value - 255)
        elif value >> (zeros := (value & -value).bit_length() - 1) <= 255:
            self.movs(rd, value >> zeros)
            self.lsls_imm(rd, rd, zeros)
        elif value >= 0xFFFFFF00:
            self.movs(rd, ~value & 0xFFFFFFFF)
            self.mvns(rd, rd)
        else:
            self.ldr_literal(rd, value)

    def add_int(self, rd: int, value: int, scratch: int | None = None) -> None:
        """rd += value: at most four immediates, or through a scratch register."""
        if abs(value) > 1020 or (scratch is not None and abs(value) > 510):
            if scratch is None:
                raise AssemblyError(f"adding {value} takes a scratch register")
            self.set_int(scratch, abs(value))
            (self.adds if value > 0 else self.subs)(rd, rd, scratch)
            return
        while value:
            step = min(abs(value), 255)
            if value > 0:
                self.adds_imm(rd, rd, step)
            else:
                self.subs_imm(rd, rd, step)
            value -= step if value > 0 else -step

    # Branches

    def b(self, label: str) -> None:
        """Within 2 KB."""
        self._branch(0xE000, label, 11)

    def bcond(self, condition: Condition, label: str) -> None:
        """Within 256 bytes back and 254 ahead."""
        self._branch(0xD000 | _CONDITIONS.index(condition) << 8, label, 8)

    def bcond_far(self, condition: Condition, label: str) -> None:
        """Within 2 KB: the opposite condition skips a `b`."""
        self._branch(0xD000 | (_CONDITIONS.index(condition) ^ 1) << 8, after := self.fresh(), 8)
        self.b(label)
        self.label(after)

    def bl(self, label: str) -> None:
        """A call, or a jump within 16 MB that spoils LR."""

        def patch(at: int, target: int, _: bytes) -> bytes:
            offset = check_range(target - at - 4, -(1 << 24), (1 << 24) - 2, f"distance to {label!r}", 2)
            sign = (offset >> 24) & 1
            j1, j2 = (1 ^ (offset >> 23) ^ sign) & 1, (1 ^ (offset >> 22) ^ sign) & 1
            first = 0xF000 | sign << 10 | (offset >> 12) & 0x3FF
            return struct.pack("<2H", first, 0xD000 | j1 << 13 | j2 << 11 | (offset >> 1) & 0x7FF)

        self.emit_fixup(bytes(4), label, patch)

    def bx(self, rm: int) -> None:
        self.half(0x4700 | check_range(rm, 0, LR, "register") << 3)

    def blx(self, rm: int) -> None:
        self.half(0x4780 | check_range(rm, 0, LR, "register") << 3)

    # Encodings

    def _alu(self, operation: int, rd: int, rm: int) -> None:
        self.half(0x4000 | operation << 6 | _low(rm) << 3 | _low(rd))

    def _imm3_or_8(self, short: int, long: int, rd: int, rn: int, imm: int) -> None:
        if 0 <= imm <= 7:
            self.half(short | imm << 6 | _low(rn) << 3 | _low(rd))
        else:
            check_range(imm, 0, 255 if rd == rn else 7, "immediate")
            self.half(long | _low(rd) << 8 | imm)

    def _word(self, near: int, from_sp: int, rt: int, rn: int, imm: int) -> None:
        if rn == SP:
            self.half(from_sp | _low(rt) << 8 | check_range(imm, 0, 1020, "offset from sp", 4) // 4)
        else:
            self.half(near | check_range(imm, 0, 124, "offset", 4) << 4 | _low(rn) << 3 | _low(rt))

    def _indexed(self, operation: int, rt: int, rn: int, rm: int) -> None:
        self.half(0x5000 | operation << 9 | _low(rm) << 6 | _low(rn) << 3 | _low(rt))

    def _from_pool(self, rt: int, literal: int | _Difference) -> None:
        if literal not in self._pool:
            self._pool[literal] = self.fresh("literal")
        self.ldr_label(rt, self._pool[literal])

    def _difference(self, literal: _Difference) -> Callable[[int, int, bytes], bytes]:
        def patch(_at: int, target: int, _: bytes) -> bytes:
            return struct.pack("<I", (target - self.address(literal.base) + literal.offset) & 0xFFFFFFFF)

        return patch

    def _literal(self, opcode: int, label: str) -> None:
        def patch(at: int, target: int, _: bytes) -> bytes:
            offset = check_range(target - (at + 4 & ~3), 0, 1020, f"distance to {label!r}", 4)
            return struct.pack("<H", opcode | offset // 4)

        self.emit_fixup(bytes(2), label, patch)

    def _branch(self, opcode: int, label: str, bits: int) -> None:
        def patch(at: int, target: int, _: bytes) -> bytes:
            limit = 1 << bits
            offset = check_range(target - at - 4, -limit, limit - 2, f"distance to {label!r}", 2)
            return struct.pack("<H", opcode | (offset >> 1) & limit - 1)

        self.emit_fixup(bytes(2), label, patch)


def _low(register: int) -> int:
    return check_range(register, 0, 7, "register")


def _high_pair(rd: int, rm: int) -> int:
    """rd and rm of the instructions that take any register."""
    check_range(rd, 0, PC, "register")
    check_range(rm, 0, PC, "register")
    return (rd & 8) << 4 | rm << 3 | (rd & 7)


def _register_list(registers: Iterable[int], extra: int | None = None) -> int:
    """The bits of a list of low registers, `extra` left out. A list is neither empty nor names a register twice."""
    bits = 0
    listed = list(registers)
    for register in listed:
        if register != extra:
            bits |= 1 << _low(register)
    if not listed or bits.bit_count() + (extra in listed) != len(listed):
        raise AssemblyError(f"register list {listed} is empty or names a register twice")
    return bits
