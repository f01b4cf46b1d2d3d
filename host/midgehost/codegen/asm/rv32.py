"""Assembler for RV32IM with the C extension. Source: The RISC-V Instruction Set Manual, volume I, chapters 2, 12, 27.

Instructions that have a 16-bit encoding get it, as GNU as does; branches and jumps to labels are always 32 bits, so
that no address changes after an instruction is emitted. `Rv32(compress=False)` emits 32-bit encodings only.
"""

from __future__ import annotations

from typing import Final

from midgehost.codegen.asm.base import Assembler, check_range

ZERO, RA, SP, GP, TP, T0, T1, T2, S0, S1, A0, A1, A2, A3, A4, A5, A6, A7 = range(18)
S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, T3, T4, T5, T6 = range(18, 32)

# The stack pointer, the thread's and the global data's belong to the firmware: interrupts use them at any time.
CALLER_SAVED: Final = (T0, T1, T2, A0, A1, A2, A3, A4, A5, A6, A7, T3, T4, T5, T6)
CALLEE_SAVED: Final = (RA, S0, S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11)

_LOAD, _IMMEDIATE, _AUIPC, _STORE, _REGISTER = 0x03, 0x13, 0x17, 0x23, 0x33
_LUI, _BRANCH, _JALR, _JAL, _SYSTEM = 0x37, 0x63, 0x67, 0x6F, 0x73
_BEQ, _BNE, _BLT, _BGE, _BLTU, _BGEU = 0, 1, 4, 5, 6, 7
_BRANCH_REACH: Final = 4096
_JUMP_REACH: Final = 1 << 20


class Rv32(Assembler):
    """Mnemonics as methods: destination first, then sources, as in assembly text. `and` and `or` are and_ and or_."""

    def __init__(self, compress: bool = True) -> None:
        super().__init__()
        self._compress = compress

    # --- registers and registers ---

    def add(self, rd: int, a: int, b: int) -> None:
        short = None
        if rd and a == ZERO and b:
            short = _move(rd, b)
        elif rd and rd in (a, b) and a and b:
            short = 0x9002 | rd << 7 | (b if rd == a else a) << 2
        self._emit(_r(0, 0, rd, a, b), short)

    def sub(self, rd: int, a: int, b: int) -> None:
        self._destructive(0x8C01, 32, 0, rd, a, b)

    def sll(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(0, 1, rd, a, b))

    def slt(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(0, 2, rd, a, b))

    def sltu(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(0, 3, rd, a, b))

    def xor(self, rd: int, a: int, b: int) -> None:
        self._destructive(0x8C21, 0, 4, rd, a, b)

    def srl(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(0, 5, rd, a, b))

    def sra(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(32, 5, rd, a, b))

    def or_(self, rd: int, a: int, b: int) -> None:
        self._destructive(0x8C41, 0, 6, rd, a, b)

    def and_(self, rd: int, a: int, b: int) -> None:
        self._destructive(0x8C61, 0, 7, rd, a, b)

    def mul(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(1, 0, rd, a, b))

    def mulh(self, rd: int, a: int, b: int) -> None:
        """The high word of the signed product."""
        self._emit(_r(1, 1, rd, a, b))

    def mulhsu(self, rd: int, a: int, b: int) -> None:
        """The high word of signed a times unsigned b."""
        self._emit(_r(1, 2, rd, a, b))

    def mulhu(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(1, 3, rd, a, b))

    def div(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(1, 4, rd, a, b))

    def divu(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(1, 5, rd, a, b))

    def rem(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(1, 6, rd, a, b))

    def remu(self, rd: int, a: int, b: int) -> None:
        self._emit(_r(1, 7, rd, a, b))

    # --- registers and immediates ---

    def addi(self, rd: int, a: int, value: int) -> None:
        """value: -2048 to 2047."""
        short = None
        if value == 0 and rd == a == ZERO:
            short = 0x0001
        elif value == 0 and rd and a:
            short = _move(rd, a)
        elif rd and -32 <= value < 32 and (a == ZERO or (rd == a and value)):
            short = (0x4001 if a == ZERO else 0x0001) | rd << 7 | _six(value)
        elif rd == a == SP and value % 16 == 0 and -512 <= value < 512:
            short = 0x6101 | _bits(value, 9, 12, 4, 6, 6, 5, 8, 4, 7, 3, 5, 2)
        elif _low(rd) and a == SP and value % 4 == 0 and 0 < value < 1024:
            short = _bits(value, 5, 12, 4, 11, 9, 10, 8, 9, 7, 8, 6, 7, 2, 6, 3, 5) | (rd - 8) << 2
        self._emit(_i(_IMMEDIATE, 0, rd, a, value), short)

    def slti(self, rd: int, a: int, value: int) -> None:
        self._emit(_i(_IMMEDIATE, 2, rd, a, value))

    def sltiu(self, rd: int, a: int, value: int) -> None:
        self._emit(_i(_IMMEDIATE, 3, rd, a, value))

    def xori(self, rd: int, a: int, value: int) -> None:
        self._emit(_i(_IMMEDIATE, 4, rd, a, value))

    def ori(self, rd: int, a: int, value: int) -> None:
        self._emit(_i(_IMMEDIATE, 6, rd, a, value))

    def andi(self, rd: int, a: int, value: int) -> None:
        short = None
        if _low(rd) and rd == a and -32 <= value < 32:
            short = 0x8801 | (rd - 8) << 7 | _six(value)
        self._emit(_i(_IMMEDIATE, 7, rd, a, value), short)

    def slli(self, rd: int, a: int, amount: int) -> None:
        """amount: 0 to 31, of every shift by an immediate."""
        self._shift(1, 0, rd, a, amount, 0x0002 | rd << 7 if rd == a != ZERO else None)

    def srli(self, rd: int, a: int, amount: int) -> None:
        self._shift(5, 0, rd, a, amount, 0x8001 | (rd - 8) << 7 if rd == a and _low(rd) else None)

    def srai(self, rd: int, a: int, amount: int) -> None:
        self._shift(5, 32, rd, a, amount, 0x8401 | (rd - 8) << 7 if rd == a and _low(rd) else None)

    def lui(self, rd: int, page: int) -> None:
        """rd = page << 12; page: 0 to 0xfffff."""
        check_range(page, 0, 0xFFFFF, "lui's operand")
        signed = page - (1 << 20) if page >> 19 else page
        short = None
        if rd not in (ZERO, SP) and signed and -32 <= signed < 32:
            short = 0x6001 | rd << 7 | _six(signed)
        self._emit(page << 12 | _register(rd) << 7 | _LUI, short)

    # --- memory; offsets -2048 to 2047 ---

    def lb(self, rd: int, base: int, offset: int = 0) -> None:
        self._emit(_i(_LOAD, 0, rd, base, offset))

    def lh(self, rd: int, base: int, offset: int = 0) -> None:
        self._emit(_i(_LOAD, 1, rd, base, offset))

    def lw(self, rd: int, base: int, offset: int = 0) -> None:
        short = None
        if rd and base == SP and offset % 4 == 0 and 0 <= offset < 256:
            short = 0x4002 | rd << 7 | _bits(offset, 5, 12, 4, 6, 3, 5, 2, 4, 7, 3, 6, 2)
        elif _low(rd) and _low(base) and offset % 4 == 0 and 0 <= offset < 128:
            short = 0x4000 | _word_operands(rd, base, offset)
        self._emit(_i(_LOAD, 2, rd, base, offset), short)

    def lbu(self, rd: int, base: int, offset: int = 0) -> None:
        self._emit(_i(_LOAD, 4, rd, base, offset))

    def lhu(self, rd: int, base: int, offset: int = 0) -> None:
        self._emit(_i(_LOAD, 5, rd, base, offset))

    def sb(self, value: int, base: int, offset: int = 0) -> None:
        self._emit(_s(0, value, base, offset))

    def sh(self, value: int, base: int, offset: int = 0) -> None:
        self._emit(_s(1, value, base, offset))

    def sw(self, value: int, base: int, offset: int = 0) -> None:
        short = None
        if base == SP and offset % 4 == 0 and 0 <= offset < 256:
            short = 0xC002 | _bits(offset, 5, 12, 4, 11, 3, 10, 2, 9, 7, 8, 6, 7) | value << 2
        elif _low(value) and _low(base) and offset % 4 == 0 and 0 <= offset < 128:
            short = 0xC000 | _word_operands(value, base, offset)
        self._emit(_s(2, value, base, offset), short)

    # --- branches reach 4 KB; `far`, or a label that is already defined farther away, makes it two instructions ---

    def beq(self, a: int, b: int, label: str, far: bool = False) -> None:
        self._branch(_BEQ, a, b, label, far)

    def bne(self, a: int, b: int, label: str, far: bool = False) -> None:
        self._branch(_BNE, a, b, label, far)

    def blt(self, a: int, b: int, label: str, far: bool = False) -> None:
        self._branch(_BLT, a, b, label, far)

    def bge(self, a: int, b: int, label: str, far: bool = False) -> None:
        self._branch(_BGE, a, b, label, far)

    def bltu(self, a: int, b: int, label: str, far: bool = False) -> None:
        self._branch(_BLTU, a, b, label, far)

    def bgeu(self, a: int, b: int, label: str, far: bool = False) -> None:
        self._branch(_BGEU, a, b, label, far)

    def beqz(self, a: int, label: str, far: bool = False) -> None:
        self.beq(a, ZERO, label, far)

    def bnez(self, a: int, label: str, far: bool = False) -> None:
        self.bne(a, ZERO, label, far)

    def bltz(self, a: int, label: str, far: bool = False) -> None:
        self.blt(a, ZERO, label, far)

    def bgez(self, a: int, label: str, far: bool = False) -> None:
        self.bge(a, ZERO, label, far)

    def jal(self, rd: int, label: str) -> None:
        """Jumps to a label within 1 MB; rd gets the address after the jump."""

        def patch(at: int, to: int, code: bytes) -> bytes:
            offset = check_range(to - at, -_JUMP_REACH, _JUMP_REACH - 2, "a jump's distance", 2)
            fields = _bits(offset, 20, 31, 11, 20) | (offset >> 1 & 0x3FF) << 21 | (offset >> 12 & 0xFF) << 12
            return (int.from_bytes(code, "little") | fields).to_bytes(4, "little")

        self.emit_fixup(_bytes(_register(rd) << 7 | _JAL), label, patch)

    def jalr(self, rd: int, base: int, offset: int = 0) -> None:
        short = None
        if rd in (ZERO, RA) and base and offset == 0:
            short = (0x8002 if rd == ZERO else 0x9002) | base << 7
        self._emit(_i(_JALR, 0, rd, base, offset), short)

    def ebreak(self) -> None:
        self._emit(1 << 20 | _SYSTEM, 0x9002)

    # --- pseudo-instructions ---

    def nop(self) -> None:
        self.addi(ZERO, ZERO, 0)

    def mv(self, rd: int, a: int) -> None:
        self.addi(rd, a, 0)

    def neg(self, rd: int, a: int) -> None:
        self.sub(rd, ZERO, a)

    def not_(self, rd: int, a: int) -> None:
        self.xori(rd, a, -1)

    def li(self, rd: int, value: int) -> None:
        """Any 32-bit constant, signed or unsigned, in one or two instructions."""
        check_range(value, -(1 << 31), (1 << 32) - 1, "a constant")
        low = (value & 0xFFF) - ((value & 0x800) << 1)
        page = (value - low) >> 12 & 0xFFFFF
        if page == 0:
            self.addi(rd, ZERO, low)
            return
        self.lui(rd, page)
        if low:
            self.addi(rd, rd, low)

    def la(self, rd: int, label: str) -> None:
        """The address of a label of this routine, in two instructions."""

        def patch(at: int, to: int, code: bytes) -> bytes:
            distance = to - at
            low = (distance & 0xFFF) - ((distance & 0x800) << 1)
            words = int.from_bytes(code, "little")
            words |= (distance - low >> 12 & 0xFFFFF) << 12 | (low & 0xFFF) << 52
            return words.to_bytes(8, "little")

        _register(rd)
        code = _bytes(rd << 7 | _AUIPC) + _bytes(rd << 15 | rd << 7 | _IMMEDIATE)
        self.emit_fixup(code, label, patch)

    def j(self, label: str) -> None:
        self.jal(ZERO, label)

    def call(self, label: str) -> None:
        """Calls a subroutine of this routine; ra gets the return address."""
        self.jal(RA, label)

    def jr(self, base: int) -> None:
        self.jalr(ZERO, base)

    def ret(self) -> None:
        self.jr(RA)

    def align(self, size: int) -> None:
        """Pads with nops up to a multiple of `size` bytes, 2 or 4."""
        check_range(size, 2, 4, "an alignment", 2)
        if self.here % size:
            self.emit(b"\x01\x00")

    # --- encodings ---

    def _emit(self, word: int, short: int | None = None) -> None:
        """The 32-bit encoding, or the 16-bit one where there is one."""
        if short is not None and self._compress:
            self.emit(short.to_bytes(2, "little"))
        else:
            self.emit(_bytes(word))

    def _destructive(self, half: int, funct7: int, funct3: int, rd: int, a: int, b: int) -> None:
        """sub, xor, or, and: the short form overwrites its first source; all but sub commute."""
        other = b if rd == a else a if rd == b and funct3 else ZERO
        short = half | (rd - 8) << 7 | (other - 8) << 2 if _low(rd) and _low(other) else None
        self._emit(_r(funct7, funct3, rd, a, b), short)

    def _shift(self, funct3: int, funct7: int, rd: int, a: int, amount: int, half: int | None) -> None:
        check_range(amount, 0, 31, "a shift")
        short = half | amount << 2 if half is not None and amount else None
        self._emit(_i(_IMMEDIATE, funct3, rd, a, funct7 << 5 | amount), short)

    def _branch(self, condition: int, a: int, b: int, label: str, far: bool) -> None:
        known = label in self._labels
        if far or (known and self.here - self._labels[label] > _BRANCH_REACH):
            skip = self.fresh("far")
            self._branch(condition ^ 1, a, b, skip, far=False)
            self.j(label)
            self.label(skip)
            return

        def patch(at: int, to: int, code: bytes) -> bytes:
            offset = check_range(to - at, -_BRANCH_REACH, _BRANCH_REACH - 2, "a branch's distance", 2)
            fields = _bits(offset, 12, 31, 11, 7) | (offset >> 5 & 0x3F) << 25 | (offset >> 1 & 0xF) << 8
            return (int.from_bytes(code, "little") | fields).to_bytes(4, "little")

        operands = _register(b) << 20 | _register(a) << 15
        self.emit_fixup(_bytes(operands | condition << 12 | _BRANCH), label, patch)


def _bytes(word: int) -> bytes:
    return word.to_bytes(4, "little")


def _register(number: int) -> int:
    return check_range(number, 0, 31, "a register")


def _r(funct7: int, funct3: int, rd: int, a: int, b: int) -> int:
    operands = _register(b) << 20 | _register(a) << 15 | _register(rd) << 7
    return funct7 << 25 | funct3 << 12 | operands | _REGISTER


def _i(opcode: int, funct3: int, rd: int, a: int, value: int) -> int:
    check_range(value, -2048, 2047, "an immediate operand or offset")
    return (value & 0xFFF) << 20 | _register(a) << 15 | funct3 << 12 | _register(rd) << 7 | opcode


def _s(funct3: int, value: int, base: int, offset: int) -> int:
    check_range(offset, -2048, 2047, "a store's offset")
    operands = _register(value) << 20 | _register(base) << 15
    return (offset >> 5 & 0x7F) << 25 | operands | funct3 << 12 | (offset & 31) << 7 | _STORE


def _low(register: int) -> bool:
    """Whether the short encodings' three bits can name it: s0, s1, a0 to a5."""
    return 8 <= register < 16


def _move(rd: int, a: int) -> int:
    """c.mv"""
    return 0x8002 | rd << 7 | a << 2


def _six(value: int) -> int:
    """The six-bit immediate of c.li, c.addi, c.andi and c.lui."""
    return _bits(value, 5, 12) | (value & 31) << 2


def _bits(value: int, *pairs: int) -> int:
    """Bits of a value moved about: pairs of (bit, where it goes)."""
    return sum((value >> source & 1) << target for source, target in zip(pairs[::2], pairs[1::2], strict=True))


def _word_operands(register: int, base: int, offset: int) -> int:
    """The fields of c.lw and c.sw."""
    return (offset >> 3 & 7) << 10 | _bits(offset, 2, 6, 6, 5) | (base - 8) << 7 | (register - 8) << 2
