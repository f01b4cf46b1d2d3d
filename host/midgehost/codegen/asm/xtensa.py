"""Xtensa as ESP32 (LX6) and ESP32-S3 (LX7) have it: core, density, windows, loops, min/max, 32-bit multiplies, MAC16.

Source: Xtensa Instruction Set Architecture Reference Manual. Registers are ints, a0 to a15; MAC16's data registers m0
to m3 are ints too. Methods are mnemonics in lower case, operands in the manual's order; a 16-bit form is taken by
itself where one exists, as GNU as does. Branches reach 128 bytes (compares with zero 2 KB): `far=True` makes the pair
of inverted branch and jump that reaches 128 KB.

Constants that `movi` cannot hold become literals, read by l32r, which reaches backwards only. The finished code is
therefore [jump over the pool, literals, code], the jump and the pool only where there is a literal.
"""

from __future__ import annotations

from typing import Final, Literal

from midgehost.codegen.asm.base import Assembler, AssemblyError, check_range

Half = Literal["ll", "hl", "lh", "hh"]  # which halves of the first and the second operand MAC16 multiplies

# Special registers.
LBEG, LEND, LCOUNT, SAR = 0, 1, 2, 3
ACCLO, ACCHI, M0, M1, M2, M3 = 16, 17, 32, 33, 34, 35

_HALVES: Final = {"ll": 0, "hl": 1, "lh": 2, "hh": 3}
# The immediates of compare-and-branch.
_B4CONST: Final = (-1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256)
_B4CONSTU: Final = (32768, 65536, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256)
# Compares of two registers and tests of bits: the r field; the inverse differs in its top bit.
_BNONE, _BEQ, _BLT, _BLTU, _BALL, _BBC, _BBCI = range(7)
_INVERSE: Final = 8


class Xtensa(Assembler):
    """Machine code of one routine, entered at its first byte, which must lie at a multiple of 4."""

    def __init__(self) -> None:
        super().__init__()
        self._literals: dict[int, str] = {}  # value -> label

    def code(self) -> bytes:
        """The finished code, with the literals that it uses before it. Raises AssemblyError."""
        pool = b""
        for place, (value, label) in enumerate(self._literals.items()):
            self._labels[label] = 4 * (place - len(self._literals))
            pool += value.to_bytes(4, "little")
        if not pool:
            return super().code()
        return _word(len(pool) << 6 | 0x06) + b"\0" + pool + super().code()

    # -- windows, calls, order

    def entry(self, s: int, frame: int) -> None:
        """Rotates the window and allocates `frame` bytes of stack, 32 of which belong to the hardware."""
        self._word(check_range(frame, 32, 32760, "frame", 8) // 8 << 12 | _a(s) << 8 | 0x36)

    def retw(self) -> None:
        self._narrow(0xF01D)

    def nop(self) -> None:
        self._narrow(0xF03D)

    def isync(self) -> None:
        self._word(0x002000)

    def rsync(self) -> None:
        self._word(0x002010)

    def memw(self) -> None:
        self._word(0x0020C0)

    def syscall(self) -> None:
        self._word(0x005000)

    def callx8(self, s: int) -> None:
        self._word(0x0000E0 | _a(s) << 8)

    # -- loads and stores

    def l8ui(self, t: int, s: int, offset: int = 0) -> None:
        self._memory(0x0, t, s, offset, 1)

    def l16ui(self, t: int, s: int, offset: int = 0) -> None:
        self._memory(0x1, t, s, offset, 2)

    def l16si(self, t: int, s: int, offset: int = 0) -> None:
        self._memory(0x9, t, s, offset, 2)

    def l32i(self, t: int, s: int, offset: int = 0) -> None:
        self._memory(0x2, t, s, offset, 4)

    def s8i(self, t: int, s: int, offset: int = 0) -> None:
        self._memory(0x4, t, s, offset, 1)

    def s16i(self, t: int, s: int, offset: int = 0) -> None:
        self._memory(0x5, t, s, offset, 2)

    def s32i(self, t: int, s: int, offset: int = 0) -> None:
        self._memory(0x6, t, s, offset, 4)

    # -- constants and moves

    def movi(self, t: int, value: int) -> None:
        """Any 32-bit constant, signed or unsigned: an immediate where it fits, else a literal."""
        value = check_range(value, -(1 << 31), (1 << 32) - 1, "constant")
        value = value - (1 << 32) if value >= 1 << 31 else value
        if -32 <= value <= 95:
            self._narrow((value & 15) << 12 | _a(t) << 8 | (value & 0x70) | 0x0C)
        elif -2048 <= value <= 2047:
            self._word((value & 0xFF) << 16 | 0xA << 12 | (value >> 8 & 15) << 8 | _a(t) << 4 | 2)
        else:
            self.l32r(t, value)

    def l32r(self, t: int, value: int) -> None:
        """A 32-bit constant from the literal pool."""
        label = self._literals.setdefault(value & 0xFFFFFFFF, f".literal{value & 0xFFFFFFFF:08x}")
        self.emit_fixup(_word(_a(t) << 4 | 1), label, _patch_l32r)

    def mov(self, t: int, s: int) -> None:
        self._narrow(_a(s) << 8 | _a(t) << 4 | 0x0D)

    def moveqz(self, r: int, s: int, t: int) -> None:
        """r = s if t is 0."""
        self._rrr(8, 3, r, s, t)

    def movnez(self, r: int, s: int, t: int) -> None:
        self._rrr(9, 3, r, s, t)

    def movltz(self, r: int, s: int, t: int) -> None:
        self._rrr(10, 3, r, s, t)

    def movgez(self, r: int, s: int, t: int) -> None:
        self._rrr(11, 3, r, s, t)

    # -- arithmetic

    def add(self, r: int, s: int, t: int) -> None:
        self._narrow(_a(r) << 12 | _a(s) << 8 | _a(t) << 4 | 0x0A)

    def addi(self, t: int, s: int, value: int) -> None:
        check_range(value, -128, 127, "addi's immediate")
        if value == -1 or 1 <= value <= 15:
            self._narrow(_a(t) << 12 | _a(s) << 8 | (value & 15 if value > 0 else 0) << 4 | 0x0B)
        else:
            self._word((value & 0xFF) << 16 | 0xC << 12 | _a(s) << 8 | _a(t) << 4 | 2)

    def addmi(self, t: int, s: int, value: int) -> None:
        check_range(value, -32768, 32512, "addmi's immediate", 256)
        self._word((value >> 8 & 0xFF) << 16 | 0xD << 12 | _a(s) << 8 | _a(t) << 4 | 2)

    def addx2(self, r: int, s: int, t: int) -> None:
        """r = 2 * s + t."""
        self._rrr(9, 0, r, s, t)

    def addx4(self, r: int, s: int, t: int) -> None:
        self._rrr(10, 0, r, s, t)

    def addx8(self, r: int, s: int, t: int) -> None:
        self._rrr(11, 0, r, s, t)

    def sub(self, r: int, s: int, t: int) -> None:
        self._rrr(12, 0, r, s, t)

    def subx2(self, r: int, s: int, t: int) -> None:
        """r = 2 * s - t."""
        self._rrr(13, 0, r, s, t)

    def subx4(self, r: int, s: int, t: int) -> None:
        self._rrr(14, 0, r, s, t)

    def subx8(self, r: int, s: int, t: int) -> None:
        self._rrr(15, 0, r, s, t)

    def neg(self, r: int, t: int) -> None:
        self._rrr(6, 0, r, 0, t)

    def abs(self, r: int, t: int) -> None:
        self._rrr(6, 0, r, 1, t)

    def min(self, r: int, s: int, t: int) -> None:
        self._rrr(4, 3, r, s, t)

    def max(self, r: int, s: int, t: int) -> None:
        self._rrr(5, 3, r, s, t)

    def minu(self, r: int, s: int, t: int) -> None:
        self._rrr(6, 3, r, s, t)

    def maxu(self, r: int, s: int, t: int) -> None:
        self._rrr(7, 3, r, s, t)

    def clamps(self, r: int, s: int, bit: int) -> None:
        """r = s within -2^bit..2^bit - 1."""
        self._rrr(3, 3, r, s, check_range(bit, 7, 22, "clamps' bit") - 7)

    def sext(self, r: int, s: int, bit: int) -> None:
        """r = s with its sign taken from this bit."""
        self._rrr(2, 3, r, s, check_range(bit, 7, 22, "sext's bit") - 7)

    def nsau(self, t: int, s: int) -> None:
        """t = the number of leading zeros of s."""
        self._rrr(4, 0, 15, s, t)

    def mull(self, r: int, s: int, t: int) -> None:
        self._rrr(8, 2, r, s, t)

    def muluh(self, r: int, s: int, t: int) -> None:
        self._rrr(10, 2, r, s, t)

    def mulsh(self, r: int, s: int, t: int) -> None:
        self._rrr(11, 2, r, s, t)

    def mul16u(self, r: int, s: int, t: int) -> None:
        self._rrr(12, 1, r, s, t)

    def mul16s(self, r: int, s: int, t: int) -> None:
        self._rrr(13, 1, r, s, t)

    # -- logic and shifts

    def and_(self, r: int, s: int, t: int) -> None:
        self._rrr(1, 0, r, s, t)

    def or_(self, r: int, s: int, t: int) -> None:
        self._rrr(2, 0, r, s, t)

    def xor(self, r: int, s: int, t: int) -> None:
        self._rrr(3, 0, r, s, t)

    def extui(self, r: int, t: int, shift: int, bits: int) -> None:
        """r = `bits` bits of t from bit `shift` on."""
        check_range(shift, 0, 31, "extui's shift")
        self._rrr(check_range(bits, 1, 16, "extui's bits") - 1, 4 | shift >> 4, r, shift & 15, t)

    def slli(self, r: int, s: int, shift: int) -> None:
        count = 32 - check_range(shift, 1, 31, "slli's shift")
        self._rrr(count >> 4, 1, r, s, count & 15)

    def srli(self, r: int, t: int, shift: int) -> None:
        self._rrr(4, 1, r, check_range(shift, 0, 15, "srli's shift"), t)

    def srai(self, r: int, t: int, shift: int) -> None:
        check_range(shift, 0, 31, "srai's shift")
        self._rrr(2 | shift >> 4, 1, r, shift & 15, t)

    def ssl(self, s: int) -> None:
        """SAR for a left shift by s, modulo 32."""
        self._rrr(4, 0, 1, s, 0)

    def ssr(self, s: int) -> None:
        self._rrr(4, 0, 0, s, 0)

    def ssai(self, shift: int) -> None:
        check_range(shift, 0, 31, "ssai's shift")
        self._word(0x404000 | (shift & 15) << 8 | (shift >> 4) << 4)

    def sll(self, r: int, s: int) -> None:
        self._rrr(10, 1, r, s, 0)

    def srl(self, r: int, t: int) -> None:
        self._rrr(9, 1, r, 0, t)

    def sra(self, r: int, t: int) -> None:
        self._rrr(11, 1, r, 0, t)

    def src(self, r: int, s: int, t: int) -> None:
        """r = the low word of s:t >> SAR."""
        self._rrr(8, 1, r, s, t)

    # -- special registers

    def rsr(self, t: int, special: int) -> None:
        self._special(0x030000, t, special)

    def wsr(self, t: int, special: int) -> None:
        self._special(0x130000, t, special)

    def xsr(self, t: int, special: int) -> None:
        self._special(0x610000, t, special)

    # -- branches

    def j(self, label: str) -> None:
        self.emit_fixup(_word(0x06), label, _patch_jump)

    def jx(self, s: int) -> None:
        self._word(0x0000A0 | _a(s) << 8)

    def beqz(self, s: int, label: str, far: bool = False) -> None:
        self._branch_zero(0, s, label, far)

    def bnez(self, s: int, label: str, far: bool = False) -> None:
        self._branch_zero(1, s, label, far)

    def bltz(self, s: int, label: str, far: bool = False) -> None:
        self._branch_zero(2, s, label, far)

    def bgez(self, s: int, label: str, far: bool = False) -> None:
        self._branch_zero(3, s, label, far)

    def beqi(self, s: int, value: int, label: str, far: bool = False) -> None:
        self._branch_immediate(0x26, 0, s, _b4const(value, _B4CONST), label, far)

    def bnei(self, s: int, value: int, label: str, far: bool = False) -> None:
        self._branch_immediate(0x26, 1, s, _b4const(value, _B4CONST), label, far)

    def blti(self, s: int, value: int, label: str, far: bool = False) -> None:
        self._branch_immediate(0x26, 2, s, _b4const(value, _B4CONST), label, far)

    def bgei(self, s: int, value: int, label: str, far: bool = False) -> None:
        self._branch_immediate(0x26, 3, s, _b4const(value, _B4CONST), label, far)

    def bltui(self, s: int, value: int, label: str, far: bool = False) -> None:
        self._branch_immediate(0x36, 2, s, _b4const(value, _B4CONSTU), label, far)

    def bgeui(self, s: int, value: int, label: str, far: bool = False) -> None:
        self._branch_immediate(0x36, 3, s, _b4const(value, _B4CONSTU), label, far)

    def beq(self, s: int, t: int, label: str, far: bool = False) -> None:
        self._branch(_BEQ, s, t, label, far)

    def bne(self, s: int, t: int, label: str, far: bool = False) -> None:
        self._branch(_BEQ | _INVERSE, s, t, label, far)

    def blt(self, s: int, t: int, label: str, far: bool = False) -> None:
        self._branch(_BLT, s, t, label, far)

    def bge(self, s: int, t: int, label: str, far: bool = False) -> None:
        self._branch(_BLT | _INVERSE, s, t, label, far)

    def bltu(self, s: int, t: int, label: str, far: bool = False) -> None:
        self._branch(_BLTU, s, t, label, far)

    def bgeu(self, s: int, t: int, label: str, far: bool = False) -> None:
        self._branch(_BLTU | _INVERSE, s, t, label, far)

    def bnone(self, s: int, t: int, label: str, far: bool = False) -> None:
        """Branches if no bit of t is set in s."""
        self._branch(_BNONE, s, t, label, far)

    def bany(self, s: int, t: int, label: str, far: bool = False) -> None:
        self._branch(_BNONE | _INVERSE, s, t, label, far)

    def ball(self, s: int, t: int, label: str, far: bool = False) -> None:
        """Branches if all bits of t are set in s."""
        self._branch(_BALL, s, t, label, far)

    def bnall(self, s: int, t: int, label: str, far: bool = False) -> None:
        self._branch(_BALL | _INVERSE, s, t, label, far)

    def bbc(self, s: int, t: int, label: str, far: bool = False) -> None:
        """Branches if bit t of s is clear."""
        self._branch(_BBC, s, t, label, far)

    def bbs(self, s: int, t: int, label: str, far: bool = False) -> None:
        self._branch(_BBC | _INVERSE, s, t, label, far)

    def bbci(self, s: int, bit: int, label: str, far: bool = False) -> None:
        self._branch_bit(_BBCI, s, bit, label, far)

    def bbsi(self, s: int, bit: int, label: str, far: bool = False) -> None:
        self._branch_bit(_BBCI | _INVERSE, s, bit, label, far)

    # -- zero-overhead loops

    def loop(self, s: int, end: str) -> None:
        """Runs the instructions up to the label `end` s times (2^32 times for 0).

        The body's last instruction is no branch, its first one does not cross a word: a nop in front sees to that.
        """
        self._loop(8, s, end)

    def loopnez(self, s: int, end: str) -> None:
        """The same, zero times for 0."""
        self._loop(9, s, end)

    def loopgtz(self, s: int, end: str) -> None:
        """The same, zero times unless s is positive."""
        self._loop(10, s, end)

    # -- MAC16: a 40-bit accumulator, data registers m0..m3

    def ldinc(self, w: int, s: int) -> None:
        """s += 4, m[w] = the word at s."""
        self._word(0x800004 | _m(w) << 12 | _a(s) << 8)

    def lddec(self, w: int, s: int) -> None:
        """s -= 4, m[w] = the word at s."""
        self._word(0x900004 | _m(w) << 12 | _a(s) << 8)

    def umul_aa(self, half: Half, s: int, t: int) -> None:
        """The accumulator is the unsigned product of halves of s and t."""
        self._mac(7, 0, half, 0, _a(s), _a(t))

    def mul_aa(self, half: Half, s: int, t: int) -> None:
        self._mac(7, 4, half, 0, _a(s), _a(t))

    def mula_aa(self, half: Half, s: int, t: int) -> None:
        """The product of halves of s and t is added to the accumulator."""
        self._mac(7, 8, half, 0, _a(s), _a(t))

    def muls_aa(self, half: Half, s: int, t: int) -> None:
        self._mac(7, 12, half, 0, _a(s), _a(t))

    def mul_ad(self, half: Half, s: int, y: int) -> None:
        self._mac(3, 4, half, 0, _a(s), _y(y))

    def mula_ad(self, half: Half, s: int, y: int) -> None:
        """The same with m2 or m3 as the second operand."""
        self._mac(3, 8, half, 0, _a(s), _y(y))

    def mul_da(self, half: Half, x: int, t: int) -> None:
        self._mac(6, 4, half, _x(x), 0, _a(t))

    def mula_da(self, half: Half, x: int, t: int) -> None:
        """The same with m0 or m1 as the first operand."""
        self._mac(6, 8, half, _x(x), 0, _a(t))

    def mul_dd(self, half: Half, x: int, y: int) -> None:
        self._mac(2, 4, half, _x(x), 0, _y(y))

    def mula_dd(self, half: Half, x: int, y: int) -> None:
        """The product of halves of m0 or m1 and m2 or m3 is added to the accumulator."""
        self._mac(2, 8, half, _x(x), 0, _y(y))

    def mula_dd_ldinc(self, half: Half, w: int, s: int, x: int, y: int) -> None:
        """mula_dd of the old m registers together with ldinc(w, s)."""
        self._mac(0, 8, half, _x(x) | _m(w), _a(s), _y(y))

    def mula_dd_lddec(self, half: Half, w: int, s: int, x: int, y: int) -> None:
        self._mac(1, 8, half, _x(x) | _m(w), _a(s), _y(y))

    def mula_da_ldinc(self, half: Half, w: int, s: int, x: int, t: int) -> None:
        """mula_da together with ldinc(w, s)."""
        self._mac(4, 8, half, _x(x) | _m(w), _a(s), _a(t))

    def mula_da_lddec(self, half: Half, w: int, s: int, x: int, t: int) -> None:
        self._mac(5, 8, half, _x(x) | _m(w), _a(s), _a(t))

    # -- formats

    def _word(self, value: int) -> None:
        self.emit(_word(value))

    def _narrow(self, value: int) -> None:
        self.emit(value.to_bytes(2, "little"))

    def _rrr(self, op2: int, op1: int, r: int, s: int, t: int) -> None:
        self._word(op2 << 20 | op1 << 16 | _a(r) << 12 | _a(s) << 8 | _a(t) << 4)

    def _memory(self, r: int, t: int, s: int, offset: int, size: int) -> None:
        field = check_range(offset, 0, 255 * size, "offset", size) // size
        if size == 4 and field < 16:
            self._narrow(field << 12 | _a(s) << 8 | _a(t) << 4 | (8 if r == 2 else 9))
        else:
            self._word(field << 16 | r << 12 | _a(s) << 8 | _a(t) << 4 | 2)

    def _special(self, opcode: int, t: int, special: int) -> None:
        self._word(opcode | special << 8 | _a(t) << 4)

    def _mac(self, op2: int, op1: int, half: Half, r: int, s: int, t: int) -> None:
        self._word(op2 << 20 | (op1 | _HALVES[half]) << 16 | r << 12 | s << 8 | t << 4 | 4)

    def _loop(self, r: int, s: int, end: str) -> None:
        if self.here % 4 in (0, 3):
            self.nop()
        self.emit_fixup(_word(r << 12 | _a(s) << 8 | 0x76), end, _patch_loop)

    def _branch_zero(self, m: int, s: int, label: str, far: bool) -> None:
        if far:
            self._word(2 << 12 | _a(s) << 8 | (m ^ 1) << 6 | 0x16)
            self.j(label)
        else:
            self.emit_fixup(_word(_a(s) << 8 | m << 6 | 0x16), label, _patch_branch12)

    def _branch_immediate(self, op: int, m: int, s: int, field: int, label: str, far: bool) -> None:
        self._branch8(field << 12 | _a(s) << 8 | op, m << 6, (m ^ 1) << 6, label, far)

    def _branch(self, r: int, s: int, t: int, label: str, far: bool) -> None:
        self._branch8(_a(s) << 8 | _a(t) << 4 | 7, r << 12, (r ^ _INVERSE) << 12, label, far)

    def _branch_bit(self, r: int, s: int, bit: int, label: str, far: bool) -> None:
        check_range(bit, 0, 31, "bit")
        self._branch((r | bit >> 4), s, bit & 15, label, far)

    def _branch8(self, word: int, condition: int, inverse: int, label: str, far: bool) -> None:
        if far:
            self._word(2 << 16 | word | inverse)  # over the jump
            self.j(label)
        else:
            self.emit_fixup(_word(word | condition), label, _patch_branch8)


def _word(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _a(register: int) -> int:
    return check_range(register, 0, 15, "register")


def _m(register: int) -> int:
    return check_range(register, 0, 3, "MAC16 register")


def _x(register: int) -> int:
    return check_range(register, 0, 1, "MAC16 register x") << 2


def _y(register: int) -> int:
    return (check_range(register, 2, 3, "MAC16 register y") - 2) << 2


def _b4const(value: int, constants: tuple[int, ...]) -> int:
    if value not in constants:
        raise AssemblyError(f"a branch cannot compare with {value}, only with one of {constants}")
    return constants.index(value)


def _patched(code: bytes, field: int) -> bytes:
    return _word(int.from_bytes(code, "little") | field)


def _patch_l32r(at: int, target: int, code: bytes) -> bytes:
    distance = check_range(target - (at + 3 & ~3), -262144, -4, "distance to the literal", 4)
    return _patched(code, (distance >> 2 & 0xFFFF) << 8)


def _patch_jump(at: int, target: int, code: bytes) -> bytes:
    return _patched(code, (check_range(target - at - 4, -131072, 131071, "jump") & 0x3FFFF) << 6)


def _patch_branch12(at: int, target: int, code: bytes) -> bytes:
    return _patched(code, (check_range(target - at - 4, -2048, 2047, "branch") & 0xFFF) << 12)


def _patch_branch8(at: int, target: int, code: bytes) -> bytes:
    return _patched(code, (check_range(target - at - 4, -128, 127, "branch") & 0xFF) << 16)


def _patch_loop(at: int, target: int, code: bytes) -> bytes:
    return _patched(code, check_range(target - at - 4, 0, 255, "loop body") << 16)
