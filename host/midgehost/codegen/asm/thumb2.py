"""ARMv7E-M and ARMv8-M with DSP: the 32-bit Thumb instructions, IT and CBZ. Source: ARM DDI 0403, chapter A7.

Wide forms of an ARMv6-M mnemonic end in `_w`, so that code says which size it means; they leave the flags alone unless
the name has the s. No floating point.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, get_args

from midgehost.codegen.asm.base import AssemblyError, check_range
from midgehost.codegen.asm.thumb import LR, PC, R12, SP, Condition, Thumb

_CONDITIONS: Final = get_args(Condition)


@dataclass(frozen=True)
class Shift:
    """How the last register operand is shifted: kind 0 lsl, 1 lsr, 2 asr, 3 ror."""

    kind: int
    amount: int

    @property
    def bits(self) -> int:
        """The fields imm3, imm2 and type of the second halfword."""
        least = 0 if self.kind == 0 else 1
        amount = check_range(self.amount, least, 32 if self.kind in (1, 2) else 31, "shift") & 31
        return (amount >> 2) << 12 | (amount & 3) << 6 | self.kind << 4


def lsl(amount: int) -> Shift:
    return Shift(0, amount)


def lsr(amount: int) -> Shift:
    return Shift(1, amount)


def asr(amount: int) -> Shift:
    return Shift(2, amount)


def ror(amount: int) -> Shift:
    return Shift(3, amount)


NO_SHIFT: Final = lsl(0)


class Thumb2(Thumb):
    """An assembler for ARMv7E-M; all that it knows runs on a Cortex-M33 too."""

    # Constants

    def movw(self, rd: int, imm: int) -> None:
        self._immediate16(0xF240, rd, imm)

    def movt(self, rd: int, imm: int) -> None:
        """The high half of rd = imm."""
        self._immediate16(0xF2C0, rd, imm)

    def mov_imm_w(self, rd: int, imm: int) -> None:
        """A modified immediate: a byte anywhere, or repeated in both halves or all bytes."""
        self._modified(0xF04F, _register(rd) << 8, imm)

    def mvn_imm_w(self, rd: int, imm: int) -> None:
        """rd = ~imm, a modified immediate."""
        self._modified(0xF06F, _register(rd) << 8, imm)

    def set_int(self, rd: int, value: int) -> None:
        """rd = an int32 in one or two instructions. Flags stay, unless a low register gets a byte."""
        check_range(value, -(1 << 31), (1 << 32) - 1, "literal")
        value &= 0xFFFFFFFF
        if rd < 8 and value <= 255:
            self.movs(rd, value)
        elif modified_immediate(value) is not None:
            self.mov_imm_w(rd, value)
        elif modified_immediate(~value & 0xFFFFFFFF) is not None:
            self.mvn_imm_w(rd, ~value & 0xFFFFFFFF)
        else:
            self.movw(rd, value & 0xFFFF)
            if value >> 16:
                self.movt(rd, value >> 16)

    # Arithmetic and logic: a shifted register or a modified immediate

    def add_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEB00, rd, rn, rm, shift)

    def adds_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEB10, rd, rn, rm, shift)

    def adc_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEB40, rd, rn, rm, shift)

    def sub_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEBA0, rd, rn, rm, shift)

    def subs_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEBB0, rd, rn, rm, shift)

    def sbc_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEB60, rd, rn, rm, shift)

    def rsb_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        """rd = shifted rm - rn."""
        self._shifted(0xEBC0, rd, rn, rm, shift)

    def and_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEA00, rd, rn, rm, shift)

    def bic_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEA20, rd, rn, rm, shift)

    def orr_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEA40, rd, rn, rm, shift)

    def eor_w(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEA80, rd, rn, rm, shift)

    def mvn_w(self, rd: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEA60, rd, PC, rm, shift)

    def cmp_w(self, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEBB0, PC, rn, rm, shift)

    def tst_w(self, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        self._shifted(0xEA10, PC, rn, rm, shift)

    def pkhbt(self, rd: int, rn: int, rm: int, shift: Shift = NO_SHIFT) -> None:
        """rd = the low half of rn, the high half of rm << amount."""
        if shift.kind:
            raise AssemblyError("pkhbt shifts left")
        self._shifted(0xEAC0, rd, rn, rm, shift)

    def pkhtb(self, rd: int, rn: int, rm: int, shift: Shift) -> None:
        """rd = the high half of rn, the low half of rm >> amount (arithmetic)."""
        if shift.kind != 2:
            raise AssemblyError("pkhtb shifts right, arithmetically")
        self._shifted(0xEAC0, rd, rn, rm, shift)

    def add_imm_w(self, rd: int, rn: int, imm: int) -> None:
        """A modified immediate, or 0 to 4095."""
        self._modified_or_12(0xF100, 0xF200, rd, rn, imm)

    def adds_imm_w(self, rd: int, rn: int, imm: int) -> None:
        self._modified(0xF110 | _register(rn), _register(rd) << 8, imm)

    def sub_imm_w(self, rd: int, rn: int, imm: int) -> None:
        """A modified immediate, or 0 to 4095."""
        self._modified_or_12(0xF1A0, 0xF2A0, rd, rn, imm)

    def subs_imm_w(self, rd: int, rn: int, imm: int) -> None:
        self._modified(0xF1B0 | _register(rn), _register(rd) << 8, imm)

    def rsb_imm_w(self, rd: int, rn: int, imm: int) -> None:
        """rd = imm - rn."""
        self._modified(0xF1C0 | _register(rn), _register(rd) << 8, imm)

    def and_imm_w(self, rd: int, rn: int, imm: int) -> None:
        self._modified(0xF000 | _register(rn), _register(rd) << 8, imm)

    def ands_imm_w(self, rd: int, rn: int, imm: int) -> None:
        self._modified(0xF010 | _register(rn), _register(rd) << 8, imm)

    def bic_imm_w(self, rd: int, rn: int, imm: int) -> None:
        self._modified(0xF020 | _register(rn), _register(rd) << 8, imm)

    def orr_imm_w(self, rd: int, rn: int, imm: int) -> None:
        self._modified(0xF040 | _register(rn), _register(rd) << 8, imm)

    def eor_imm_w(self, rd: int, rn: int, imm: int) -> None:
        self._modified(0xF080 | _register(rn), _register(rd) << 8, imm)

    def cmp_imm_w(self, rn: int, imm: int) -> None:
        self._modified(0xF1B0 | _register(rn), PC << 8, imm)

    def cmn_imm_w(self, rn: int, imm: int) -> None:
        """Compares with -imm."""
        self._modified(0xF110 | _register(rn), PC << 8, imm)

    def tst_imm_w(self, rn: int, imm: int) -> None:
        self._modified(0xF010 | _register(rn), PC << 8, imm)

    # Shifts and bit fields

    def lsl_imm_w(self, rd: int, rm: int, imm: int) -> None:
        self._shifted(0xEA40, rd, PC, rm, lsl(check_range(imm, 1, 31, "shift")))

    def lsr_imm_w(self, rd: int, rm: int, imm: int) -> None:
        self._shifted(0xEA40, rd, PC, rm, lsr(imm))

    def asr_imm_w(self, rd: int, rm: int, imm: int) -> None:
        self._shifted(0xEA40, rd, PC, rm, asr(imm))

    def ror_imm_w(self, rd: int, rm: int, imm: int) -> None:
        self._shifted(0xEA40, rd, PC, rm, ror(imm))

    def lsl_w(self, rd: int, rn: int, rm: int) -> None:
        """rd = rn << the low byte of rm."""
        self._three(0xFA00, 0xF000, rd, rn, rm)

    def lsr_w(self, rd: int, rn: int, rm: int) -> None:
        self._three(0xFA20, 0xF000, rd, rn, rm)

    def asr_w(self, rd: int, rn: int, rm: int) -> None:
        self._three(0xFA40, 0xF000, rd, rn, rm)

    def ror_w(self, rd: int, rn: int, rm: int) -> None:
        self._three(0xFA60, 0xF000, rd, rn, rm)

    def ubfx(self, rd: int, rn: int, lsb: int, width: int) -> None:
        self._bits(0xF3C0, rd, rn, lsb, check_range(width, 1, 32 - lsb, "width") - 1)

    def sbfx(self, rd: int, rn: int, lsb: int, width: int) -> None:
        self._bits(0xF340, rd, rn, lsb, check_range(width, 1, 32 - lsb, "width") - 1)

    def bfi(self, rd: int, rn: int, lsb: int, width: int) -> None:
        """The low bits of rn become the field of rd."""
        self._bits(0xF360, rd, rn, lsb, lsb + check_range(width, 1, 32 - lsb, "width") - 1)

    def bfc(self, rd: int, lsb: int, width: int) -> None:
        """The field of rd becomes 0."""
        self.half(0xF36F, _field(rd, lsb, lsb + check_range(width, 1, 32 - lsb, "width") - 1))

    def ssat(self, rd: int, bits: int, rn: int, shift: Shift = NO_SHIFT) -> None:
        """rd = shifted rn (lsl or asr), limited to a signed number of `bits` bits, 1 to 32."""
        self._saturate(0xF300, rd, check_range(bits, 1, 32, "bits") - 1, rn, shift)

    def usat(self, rd: int, bits: int, rn: int, shift: Shift = NO_SHIFT) -> None:
        """rd = shifted rn (lsl or asr), limited to 0 to 2^bits - 1, bits 0 to 31."""
        self._saturate(0xF380, rd, check_range(bits, 0, 31, "bits"), rn, shift)

    def clz(self, rd: int, rm: int) -> None:
        self._three(0xFAB0, 0xF080, rd, rm, rm)

    # Extensions: of rm rotated right by 0, 8, 16 or 24

    def sxtb_w(self, rd: int, rm: int, rotate: int = 0) -> None:
        self._extend(4, rd, PC, rm, rotate)

    def uxtb_w(self, rd: int, rm: int, rotate: int = 0) -> None:
        self._extend(5, rd, PC, rm, rotate)

    def sxth_w(self, rd: int, rm: int, rotate: int = 0) -> None:
        self._extend(0, rd, PC, rm, rotate)

    def uxth_w(self, rd: int, rm: int, rotate: int = 0) -> None:
        self._extend(1, rd, PC, rm, rotate)

    def sxtb16(self, rd: int, rm: int, rotate: int = 0) -> None:
        """Bytes 0 and 2 as signed halves."""
        self._extend(2, rd, PC, rm, rotate)

    def uxtb16(self, rd: int, rm: int, rotate: int = 0) -> None:
        self._extend(3, rd, PC, rm, rotate)

    def sxtab(self, rd: int, rn: int, rm: int, rotate: int = 0) -> None:
        """rd = rn + the signed byte."""
        self._extend(4, rd, _no_pc(rn), rm, rotate)

    def sxtah(self, rd: int, rn: int, rm: int, rotate: int = 0) -> None:
        self._extend(0, rd, _no_pc(rn), rm, rotate)

    def uxtab(self, rd: int, rn: int, rm: int, rotate: int = 0) -> None:
        self._extend(5, rd, _no_pc(rn), rm, rotate)

    def sxtab16(self, rd: int, rn: int, rm: int, rotate: int = 0) -> None:
        """Halves of rn plus bytes 0 and 2."""
        self._extend(2, rd, _no_pc(rn), rm, rotate)

    # Multiplications

    def mul(self, rd: int, rn: int, rm: int) -> None:
        self._multiply(0xFB00, 0, rd, rn, rm, PC)

    def mla(self, rd: int, rn: int, rm: int, ra: int) -> None:
        """rd = ra + rn * rm."""
        self._multiply(0xFB00, 0, rd, rn, rm, _no_pc(ra))

    def mls(self, rd: int, rn: int, rm: int, ra: int) -> None:
        """rd = ra - rn * rm."""
        self._multiply(0xFB00, 1, rd, rn, rm, _no_pc(ra))

    def smull(self, low: int, high: int, rn: int, rm: int) -> None:
        self._multiply(0xFB80, 0, _apart(high, low), rn, rm, low)

    def umull(self, low: int, high: int, rn: int, rm: int) -> None:
        self._multiply(0xFBA0, 0, _apart(high, low), rn, rm, low)

    def smlal(self, low: int, high: int, rn: int, rm: int) -> None:
        """high:low += rn * rm."""
        self._multiply(0xFBC0, 0, _apart(high, low), rn, rm, low)

    def umlal(self, low: int, high: int, rn: int, rm: int) -> None:
        self._multiply(0xFBE0, 0, _apart(high, low), rn, rm, low)

    def smmul(self, rd: int, rn: int, rm: int) -> None:
        """The high word of rn * rm."""
        self._multiply(0xFB50, 0, rd, rn, rm, PC)

    def smmulr(self, rd: int, rn: int, rm: int) -> None:
        """The high word of rn * rm + 2^31."""
        self._multiply(0xFB50, 1, rd, rn, rm, PC)

    def smmla(self, rd: int, rn: int, rm: int, ra: int) -> None:
        """rd = ra + the high word of rn * rm."""
        self._multiply(0xFB50, 0, rd, rn, rm, _no_pc(ra))

    def smmlar(self, rd: int, rn: int, rm: int, ra: int) -> None:
        """rd = ra + the high word of rn * rm + 2^31."""
        self._multiply(0xFB50, 1, rd, rn, rm, _no_pc(ra))

    def smuad(self, rd: int, rn: int, rm: int) -> None:
        """rd = low half * low half + high half * high half."""
        self._multiply(0xFB20, 0, rd, rn, rm, PC)

    def smuadx(self, rd: int, rn: int, rm: int) -> None:
        """As smuad, the halves of rm exchanged."""
        self._multiply(0xFB20, 1, rd, rn, rm, PC)

    def smlad(self, rd: int, rn: int, rm: int, ra: int) -> None:
        """rd = ra + low half * low half + high half * high half."""
        self._multiply(0xFB20, 0, rd, rn, rm, _no_pc(ra))

    def smladx(self, rd: int, rn: int, rm: int, ra: int) -> None:
        """As smlad, the halves of rm exchanged."""
        self._multiply(0xFB20, 1, rd, rn, rm, _no_pc(ra))

    def smulbb(self, rd: int, rn: int, rm: int) -> None:
        """rd = low half * low half; `t` is the high half of rn or rm."""
        self._multiply(0xFB10, 0, rd, rn, rm, PC)

    def smulbt(self, rd: int, rn: int, rm: int) -> None:
        self._multiply(0xFB10, 1, rd, rn, rm, PC)

    def smultb(self, rd: int, rn: int, rm: int) -> None:
        self._multiply(0xFB10, 2, rd, rn, rm, PC)

    def smultt(self, rd: int, rn: int, rm: int) -> None:
        self._multiply(0xFB10, 3, rd, rn, rm, PC)

    def smlabb(self, rd: int, rn: int, rm: int, ra: int) -> None:
        """rd = ra + low half * low half; `t` is the high half of rn or rm."""
        self._multiply(0xFB10, 0, rd, rn, rm, _no_pc(ra))

    def smlabt(self, rd: int, rn: int, rm: int, ra: int) -> None:
        self._multiply(0xFB10, 1, rd, rn, rm, _no_pc(ra))

    def smlatb(self, rd: int, rn: int, rm: int, ra: int) -> None:
        self._multiply(0xFB10, 2, rd, rn, rm, _no_pc(ra))

    def smlatt(self, rd: int, rn: int, rm: int, ra: int) -> None:
        self._multiply(0xFB10, 3, rd, rn, rm, _no_pc(ra))

    def smlawb(self, rd: int, rn: int, rm: int, ra: int) -> None:
        """rd = ra + (rn * low half of rm >> 16)."""
        self._multiply(0xFB30, 0, rd, rn, rm, _no_pc(ra))

    def smlawt(self, rd: int, rn: int, rm: int, ra: int) -> None:
        """rd = ra + (rn * high half of rm >> 16)."""
        self._multiply(0xFB30, 1, rd, rn, rm, _no_pc(ra))

    def sdiv(self, rd: int, rn: int, rm: int) -> None:
        self._three(0xFB90, 0xF0F0, rd, rn, rm)

    def udiv(self, rd: int, rn: int, rm: int) -> None:
        self._three(0xFBB0, 0xF0F0, rd, rn, rm)

    # Two additions at a time, of halves, wrapping

    def sadd16(self, rd: int, rn: int, rm: int) -> None:
        self._three(0xFA90, 0xF000, rd, rn, rm)

    def ssub16(self, rd: int, rn: int, rm: int) -> None:
        self._three(0xFAD0, 0xF000, rd, rn, rm)

    # Loads and stores: rn + imm, imm -255 to 4095; from a register; with rn moved after or before

    def ldr_w(self, rt: int, rn: int, imm: int = 0) -> None:
        self._offset(0xF850, rt, rn, imm)

    def str_w(self, rt: int, rn: int, imm: int = 0) -> None:
        self._offset(0xF840, rt, rn, imm)

    def ldrh_w(self, rt: int, rn: int, imm: int = 0) -> None:
        self._offset(0xF830, rt, rn, imm)

    def ldrsh_w(self, rt: int, rn: int, imm: int = 0) -> None:
        self._offset(0xF930, rt, rn, imm)

    def strh_w(self, rt: int, rn: int, imm: int = 0) -> None:
        self._offset(0xF820, rt, rn, imm)

    def ldrb_w(self, rt: int, rn: int, imm: int = 0) -> None:
        self._offset(0xF810, rt, rn, imm)

    def ldrsb_w(self, rt: int, rn: int, imm: int = 0) -> None:
        self._offset(0xF910, rt, rn, imm)

    def strb_w(self, rt: int, rn: int, imm: int = 0) -> None:
        self._offset(0xF800, rt, rn, imm)

    def ldr_reg_w(self, rt: int, rn: int, rm: int, shift: int = 0) -> None:
        """The word at rn + (rm << shift), shift 0 to 3."""
        self._register_offset(0xF850, rt, rn, rm, shift)

    def str_reg_w(self, rt: int, rn: int, rm: int, shift: int = 0) -> None:
        self._register_offset(0xF840, rt, rn, rm, shift)

    def ldrh_reg_w(self, rt: int, rn: int, rm: int, shift: int = 0) -> None:
        self._register_offset(0xF830, rt, rn, rm, shift)

    def ldrsh_reg_w(self, rt: int, rn: int, rm: int, shift: int = 0) -> None:
        self._register_offset(0xF930, rt, rn, rm, shift)

    def strh_reg_w(self, rt: int, rn: int, rm: int, shift: int = 0) -> None:
        self._register_offset(0xF820, rt, rn, rm, shift)

    def ldrb_reg_w(self, rt: int, rn: int, rm: int, shift: int = 0) -> None:
        self._register_offset(0xF810, rt, rn, rm, shift)

    def ldrsb_reg_w(self, rt: int, rn: int, rm: int, shift: int = 0) -> None:
        self._register_offset(0xF910, rt, rn, rm, shift)

    def strb_reg_w(self, rt: int, rn: int, rm: int, shift: int = 0) -> None:
        self._register_offset(0xF800, rt, rn, rm, shift)

    def ldr_post(self, rt: int, rn: int, imm: int) -> None:
        """The word at rn, then rn += imm, -255 to 255."""
        self._moving(0xF850, 0x900, rt, rn, imm)

    def str_post(self, rt: int, rn: int, imm: int) -> None:
        self._moving(0xF840, 0x900, rt, rn, imm)

    def ldrh_post(self, rt: int, rn: int, imm: int) -> None:
        self._moving(0xF830, 0x900, rt, rn, imm)

    def ldrsh_post(self, rt: int, rn: int, imm: int) -> None:
        self._moving(0xF930, 0x900, rt, rn, imm)

    def strh_post(self, rt: int, rn: int, imm: int) -> None:
        self._moving(0xF820, 0x900, rt, rn, imm)

    def ldrb_post(self, rt: int, rn: int, imm: int) -> None:
        self._moving(0xF810, 0x900, rt, rn, imm)

    def ldrsb_post(self, rt: int, rn: int, imm: int) -> None:
        self._moving(0xF910, 0x900, rt, rn, imm)

    def strb_post(self, rt: int, rn: int, imm: int) -> None:
        self._moving(0xF800, 0x900, rt, rn, imm)

    def ldr_pre(self, rt: int, rn: int, imm: int) -> None:
        """rn += imm, -255 to 255, then the word at rn."""
        self._moving(0xF850, 0xD00, rt, rn, imm)

    def str_pre(self, rt: int, rn: int, imm: int) -> None:
        self._moving(0xF840, 0xD00, rt, rn, imm)

    def ldrd(self, rt: int, rt2: int, rn: int, imm: int = 0) -> None:
        """Two words at rn + imm, -1020 to 1020."""
        if rt == rt2:
            raise AssemblyError(f"ldrd loads r{rt} twice")
        self._pair(0xE950, rt, rt2, rn, imm)

    def strd(self, rt: int, rt2: int, rn: int, imm: int = 0) -> None:
        self._pair(0xE940, rt, rt2, rn, imm)

    def ldm_w(self, rn: int, registers: Iterable[int], writeback: bool = True) -> None:
        """Loads from rn upwards; with `writeback` rn moves on and is not in the list."""
        listed = _list(registers, SP)
        self.half(0xE890 | _base(rn, listed, writeback), listed)

    def stm_w(self, rn: int, registers: Iterable[int], writeback: bool = True) -> None:
        """Stores from rn upwards; with `writeback` rn moves on and is not in the list."""
        listed = _list(registers, SP, PC)
        self.half(0xE880 | _base(rn, listed, writeback), listed)

    def push_w(self, registers: Iterable[int]) -> None:
        """R0 to R12 and LR."""
        self.half(0xE92D, _list(registers, SP, PC))

    def pop_w(self, registers: Iterable[int]) -> None:
        """R0 to R12, and LR or PC."""
        self.half(0xE8BD, _list(registers, SP))

    # Branches

    def b_w(self, label: str) -> None:
        """Within 16 MB."""

        def patch(at: int, target: int, _: bytes) -> bytes:
            offset = check_range(target - at - 4, -(1 << 24), (1 << 24) - 2, f"distance to {label!r}", 2)
            sign = offset >> 24 & 1
            j1, j2 = offset >> 23 & 1 ^ sign ^ 1, offset >> 22 & 1 ^ sign ^ 1
            second = 0x9000 | j1 << 13 | j2 << 11 | offset >> 1 & 0x7FF
            return struct.pack("<2H", 0xF000 | sign << 10 | offset >> 12 & 0x3FF, second)

        self.emit_fixup(bytes(4), label, patch)

    def bcond_w(self, condition: Condition, label: str) -> None:
        """Within 1 MB."""
        code = _CONDITIONS.index(condition)

        def patch(at: int, target: int, _: bytes) -> bytes:
            offset = check_range(target - at - 4, -(1 << 20), (1 << 20) - 2, f"distance to {label!r}", 2)
            first = 0xF000 | (offset >> 20 & 1) << 10 | code << 6 | offset >> 12 & 0x3F
            second = 0x8000 | (offset >> 18 & 1) << 13 | (offset >> 19 & 1) << 11 | offset >> 1 & 0x7FF
            return struct.pack("<2H", first, second)

        self.emit_fixup(bytes(4), label, patch)

    def cbz(self, rn: int, label: str) -> None:
        """Jumps up to 130 bytes ahead if a low register is 0."""
        self._compare_branch(0xB100, rn, label)

    def cbnz(self, rn: int, label: str) -> None:
        self._compare_branch(0xB900, rn, label)

    def it(self, condition: Condition, others: str = "") -> None:
        """The next instruction, and one for each `t` (then) or `e` (else) of `others`, depend on the condition."""
        if len(others) > 3 or set(others) - {"t", "e"}:
            raise AssemblyError(f"it takes up to three letters t or e, not {others!r}")
        code = _CONDITIONS.index(condition)
        mask = 8
        for i, letter in enumerate(others):
            low = code & 1 if letter == "t" else code & 1 ^ 1
            mask = mask & ~(8 >> i) | low << 3 - i | 8 >> i + 1
        self.half(0xBF00 | code << 4 | mask)

    # Encodings

    def _immediate16(self, opcode: int, rd: int, imm: int) -> None:
        check_range(imm, 0, 0xFFFF, "immediate")
        self.half(opcode | (imm >> 11 & 1) << 10 | imm >> 12, (imm >> 8 & 7) << 12 | _register(rd) << 8 | imm & 0xFF)

    def _modified(self, first: int, second: int, imm: int) -> None:
        code = modified_immediate(imm & 0xFFFFFFFF)
        if code is None:
            raise AssemblyError(f"{imm:#x} is no modified immediate")
        self.half(first | code >> 11 << 10, second | (code >> 8 & 7) << 12 | code & 0xFF)

    def _modified_or_12(self, modified: int, plain: int, rd: int, rn: int, imm: int) -> None:
        if modified_immediate(imm & 0xFFFFFFFF) is not None:
            self._modified(modified | _register(rn), _register(rd) << 8, imm)
        else:
            check_range(imm, 0, 4095, "immediate")
            first = plain | imm >> 11 << 10 | _register(rn)
            self.half(first, (imm >> 8 & 7) << 12 | _register(rd) << 8 | imm & 0xFF)

    def _shifted(self, opcode: int, rd: int, rn: int, rm: int, shift: Shift) -> None:
        self.half(opcode | _register(rn), shift.bits | _register(rd) << 8 | _register(rm))

    def _three(self, first: int, second: int, rd: int, rn: int, rm: int) -> None:
        self.half(first | _no_pc(rn), second | _no_pc(rd) << 8 | _no_pc(rm))

    def _bits(self, opcode: int, rd: int, rn: int, lsb: int, last: int) -> None:
        self.half(opcode | _no_pc(rn), _field(rd, lsb, last))

    def _saturate(self, opcode: int, rd: int, limit: int, rn: int, shift: Shift) -> None:
        if shift.kind not in (0, 2) or shift.amount == 32:
            raise AssemblyError("saturation shifts by lsl 0 to 31 or asr 1 to 31")
        self.half(opcode | shift.kind << 4 | _no_pc(rn), shift.bits & ~0x30 | _no_pc(rd) << 8 | limit)

    def _extend(self, operation: int, rd: int, rn: int, rm: int, rotate: int) -> None:
        turns = check_range(rotate, 0, 24, "rotation", 8) // 8
        self.half(0xFA00 | operation << 4 | rn, 0xF080 | _no_pc(rd) << 8 | turns << 4 | _no_pc(rm))

    def _multiply(self, opcode: int, operation: int, rd: int, rn: int, rm: int, ra: int) -> None:
        second = _register(ra) << 12 | _no_pc(rd) << 8 | operation << 4 | _no_pc(rm)
        self.half(opcode | _no_pc(rn), second)

    def _offset(self, opcode: int, rt: int, rn: int, imm: int) -> None:
        check_range(imm, -255, 4095, "offset")
        if imm < 0:
            self.half(opcode | _no_pc(rn), _register(rt) << 12 | 0xC00 | -imm)
        else:
            self.half(opcode | 0x80 | _no_pc(rn), _register(rt) << 12 | imm)

    def _register_offset(self, opcode: int, rt: int, rn: int, rm: int, shift: int) -> None:
        second = _register(rt) << 12 | check_range(shift, 0, 3, "shift") << 4 | _no_pc(rm)
        self.half(opcode | _no_pc(rn), second)

    def _moving(self, opcode: int, form: int, rt: int, rn: int, imm: int) -> None:
        check_range(imm, -255, 255, "offset")
        if rt == rn:
            raise AssemblyError(f"r{rt} is loaded or stored and moves")
        self.half(opcode | _no_pc(rn), _register(rt) << 12 | form | (imm >= 0) << 9 | abs(imm))

    def _pair(self, opcode: int, rt: int, rt2: int, rn: int, imm: int) -> None:
        check_range(imm, -1020, 1020, "offset", 4)
        self.half(opcode | (imm >= 0) << 7 | _no_pc(rn), _no_pc(rt) << 12 | _no_pc(rt2) << 8 | abs(imm) // 4)

    def _compare_branch(self, opcode: int, rn: int, label: str) -> None:
        register = check_range(rn, 0, 7, "register")

        def patch(at: int, target: int, _: bytes) -> bytes:
            offset = check_range(target - at - 4, 0, 126, f"distance to {label!r}", 2)
            return struct.pack("<H", opcode | offset >> 6 << 9 | (offset >> 1 & 31) << 3 | register)

        self.emit_fixup(bytes(2), label, patch)


def modified_immediate(value: int) -> int | None:
    """The twelve bits that stand for a uint32 constant of data processing, None if there are none."""
    low = value & 0xFF
    for pattern, copies in enumerate((1, 0x00010001, 0x01000100, 0x01010101)):
        byte = value >> 8 & 0xFF if pattern == 2 else low
        if value == byte * copies:
            return pattern << 8 | byte
    for rotation in range(8, 32):
        byte = (value << rotation | value >> 32 - rotation) & 0xFFFFFFFF
        if 0x80 <= byte <= 0xFF:
            return rotation << 7 | byte & 0x7F
    return None


def _register(register: int) -> int:
    return check_range(register, 0, PC, "register")


def _no_pc(register: int) -> int:
    return check_range(register, 0, LR, "register")


def _apart(high: int, low: int) -> int:
    """The high register of a long product, which is not the low one."""
    if high == low:
        raise AssemblyError(f"both words of a product go to r{low}")
    return high


def _field(rd: int, lsb: int, last: int) -> int:
    check_range(lsb, 0, 31, "bit")
    return (lsb >> 2) << 12 | _no_pc(rd) << 8 | (lsb & 3) << 6 | last


def _list(registers: Iterable[int], *barred: int) -> int:
    """The bits of a list of two or more registers."""
    listed = tuple(registers)
    bits = sum(1 << _register(register) for register in set(listed))
    if len(listed) < 2 or bits.bit_count() != len(listed) or bits >> LR == 3 or set(listed) & set(barred):
        raise AssemblyError(f"register list {list(listed)} is too short, names one twice, or one that it cannot")
    return bits


def _base(rn: int, listed: int, writeback: bool) -> int:
    if writeback and listed >> rn & 1:
        raise AssemblyError(f"r{rn} is in the list and moves")
    return writeback << 5 | check_range(rn, 0, R12, "base register")
