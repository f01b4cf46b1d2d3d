"""ARMv7E-M and ARMv8-M with DSP: fourteen registers, the short encodings where they fit."""

from __future__ import annotations

from typing import Final

from midgehost.codegen.asm.thumb import LR, PC, R0, R3, R12, SP
from midgehost.codegen.asm.thumb2 import Thumb2, modified_immediate
from midgehost.codegen.ir.allocate import Allocation
from midgehost.codegen.ir.code import LOADS, STORES, Features, Instruction, Reg, width
from midgehost.codegen.ir.lower import Lowering
from midgehost.codegen.ir.lower_thumb import CONDITIONS
from midgehost.codegen.machine import ABI, STATUS_ABI

_CALLEE_SAVED: Final = range(4, 12)


class Thumb2Lowering(Lowering[Thumb2]):
    """Lowers to the instructions that Cortex-M4, M7 and M33 share."""

    features = Features(mulh=True, divide=True, min_max=True)
    registers = (*range(R12 + 1), LR)

    def fits(self, step: Instruction, number: int) -> bool:
        if step.op in ("shl", "shr", "sar", "reload", "spill"):
            return True
        if step.op == "add":
            return abs(number) <= 4095 or _modified(abs(number))
        if step.op == "xor":
            return number == -1 or _modified(number)
        if step.op == "and":
            return number == 0xFFFF or _modified(number)
        if step.op == "or":
            return _modified(number)
        if step.op == "branch":
            return _modified(number) or _modified(-number)
        return step.op in LOADS | STORES and -255 <= number <= 4095

    def reach(self, step: Instruction) -> int:
        return 2000 if step.op == "jump" else 240

    def start(self, allocation: Allocation) -> Thumb2:
        asm = Thumb2()
        self._saved = sorted(set(allocation.places.values()) & set(_CALLEE_SAVED))
        self._words = allocation.stack_words
        (asm.push_w if max(self._saved, default=0) > 7 else asm.push)([*self._saved, LR])
        if self._words:
            asm.add_sp(-4 * self._words)
        return asm

    def emit(self, asm: Thumb2, step: Instruction, place: dict[Reg, int], far: bool) -> None:
        d = place[step.dest] if step.dest is not None else 0
        args = [place[arg] if isinstance(arg, Reg) else arg for arg in step.args]
        a, b = (*args, 0, 0)[:2]
        number = b if len(args) > 1 and not isinstance(step.args[-1], Reg) else None
        low = max(d, a, 0 if number is not None else b) < 8
        match step.op:
            case "block":
                self._enter(asm, d)
            case "finish":
                self._leave(asm, a)
            case "jump":
                (asm.b_w if far else asm.b)(step.label)
            case "label" | "head":
                asm.label(step.label)
            case "back":
                (asm.subs_imm if d < 8 else asm.subs_imm_w)(d, d, 1)
                (asm.bcond_w if far else asm.bcond)("ne", step.label)
            case "branch":
                self._compare(asm, a, b, number)
                (asm.bcond_w if far else asm.bcond)(CONDITIONS[step.condition], step.label)
            case "const":
                asm.set_int(d, a)
            case "move":
                if d != a:
                    asm.mov(d, a)
            case "neg":
                asm.rsbs(d, a) if low else asm.rsb_imm_w(d, a, 0)
            case "reload":
                asm.ldr(d, SP, 4 * a) if d < 8 else asm.ldr_w(d, SP, 4 * a)
            case "spill":
                asm.str_(a, SP, 4 * b) if a < 8 else asm.str_w(a, SP, 4 * b)
            case "add" if number is not None:
                _add_number(asm, d, a, number)
            case "add":
                if low:
                    asm.adds(d, a, b)
                elif d in (a, b):
                    asm.add(d, b if d == a else a)
                else:
                    asm.add_w(d, a, b)
            case "sub":
                (asm.subs if low else asm.sub_w)(d, a, b)
            case "shl" | "shr" | "sar":
                _shift(asm, step, d, a, b, number, low)
            case "mul" | "and" | "or" | "xor" if number is None:
                self._by_register(asm, step, d, a, b, low)
            case "and" | "or" | "xor" if number is not None:
                self._by_number(asm, step, d, a, number)
            case "mulh":
                asm.smmul(d, a, b)
            case "divu":
                asm.udiv(d, a, b)
            case "min" | "max":
                if d not in (a, b):
                    asm.mov(d, a)
                    a = d
                other = b if d == a else a
                asm.cmp(d, other)
                asm.it("gt" if step.op == "min" else "lt")
                asm.mov(d, other)
            case _:
                self._access(asm, step, d, args, number)

    def _enter(self, asm: Thumb2, d: int) -> None:
        """The block's address from the arguments at r3, and its abi checked."""
        asm.ldr(R3, R3, 0)
        asm.lsrs_imm(R3, R3, 1)
        asm.lsls_imm(R3, R3, 2)
        asm.ldr(R0, R3, 0)
        asm.cmp_imm(R0, ABI)
        good = asm.fresh()
        asm.bcond("eq", good)
        self._leave(asm, STATUS_ABI)
        asm.label(good)
        if d != R3:
            asm.mov(d, R3)

    def _leave(self, asm: Thumb2, status: int) -> None:
        asm.movs(R0, 2 * status + 1)
        if self._words:
            asm.add_sp(4 * self._words)
        (asm.pop_w if max(self._saved, default=0) > 7 else asm.pop)([*self._saved, PC])

    def _compare(self, asm: Thumb2, a: int, b: int, number: int | None) -> None:
        if number is None:
            asm.cmp(a, b)
        elif a < 8 and 0 <= number <= 255:
            asm.cmp_imm(a, number)
        elif _modified(number):
            asm.cmp_imm_w(a, number)
        else:
            asm.cmn_imm_w(a, -number)

    def _by_register(self, asm: Thumb2, step: Instruction, d: int, a: int, b: int, low: bool) -> None:
        if low and d in (a, b):
            short = {"mul": asm.muls, "and": asm.ands, "or": asm.orrs, "xor": asm.eors}[step.op]
            short(d, b if d == a else a)
        elif step.op == "mul":
            asm.mul(d, a, b)
        else:
            {"and": asm.and_w, "or": asm.orr_w, "xor": asm.eor_w}[step.op](d, a, b)

    def _by_number(self, asm: Thumb2, step: Instruction, d: int, a: int, number: int) -> None:
        if step.op == "xor" and number == -1:
            asm.mvn_w(d, a)
        elif step.op == "and" and number in (0xFF, 0xFFFF):
            if max(d, a) < 8:
                (asm.uxtb if number == 0xFF else asm.uxth)(d, a)
            else:
                (asm.uxtb_w if number == 0xFF else asm.uxth_w)(d, a)
        else:
            {"and": asm.and_imm_w, "or": asm.orr_imm_w, "xor": asm.eor_imm_w}[step.op](d, a, number)

    def _access(self, asm: Thumb2, step: Instruction, d: int, args: list[int], number: int | None) -> None:
        if step.op in STORES:
            value, base, offset = args
            short = {"store8": asm.strb, "store16": asm.strh, "store32": asm.str_}[step.op]
            wide = {"store8": asm.strb_w, "store16": asm.strh_w, "store32": asm.str_w}[step.op]
            (short if max(value, base) < 8 and _short_offset(step, offset) else wide)(value, base, offset)
            return
        base, offset = args
        low = max(d, base) < 8
        if number is None:
            short_by = {
                "load8u": asm.ldrb_reg, "load8s": asm.ldrsb, "load16u": asm.ldrh_reg, "load16s": asm.ldrsh,
                "load32": asm.ldr_reg,
            }  # fmt: skip
            wide_by = {
                "load8u": asm.ldrb_reg_w, "load8s": asm.ldrsb_reg_w, "load16u": asm.ldrh_reg_w,
                "load16s": asm.ldrsh_reg_w, "load32": asm.ldr_reg_w,
            }  # fmt: skip
            (short_by if low and offset < 8 else wide_by)[step.op](d, base, offset)
            return
        short_at = {"load8u": asm.ldrb, "load16u": asm.ldrh, "load32": asm.ldr}
        wide_at = {
            "load8u": asm.ldrb_w, "load8s": asm.ldrsb_w, "load16u": asm.ldrh_w, "load16s": asm.ldrsh_w,
            "load32": asm.ldr_w,
        }  # fmt: skip
        if low and step.op in short_at and _short_offset(step, number):
            short_at[step.op](d, base, number)
        else:
            wide_at[step.op](d, base, number)


def _add_number(asm: Thumb2, d: int, a: int, number: int) -> None:
    size = abs(number)
    if max(d, a) < 8 and (size <= 7 or (size <= 255 and d == a)):
        (asm.adds_imm if number >= 0 else asm.subs_imm)(d, a, size)
    else:
        (asm.add_imm_w if number >= 0 else asm.sub_imm_w)(d, a, size)


def _shift(asm: Thumb2, step: Instruction, d: int, a: int, b: int, number: int | None, low: bool) -> None:
    if number == 0:
        asm.mov(d, a)
    elif number is not None:
        short = {"shl": asm.lsls_imm, "shr": asm.lsrs_imm, "sar": asm.asrs_imm}[step.op]
        wide = {"shl": asm.lsl_imm_w, "shr": asm.lsr_imm_w, "sar": asm.asr_imm_w}[step.op]
        (short if low else wide)(d, a, number)
    elif low and d == a:
        {"shl": asm.lsls, "shr": asm.lsrs, "sar": asm.asrs}[step.op](d, b)
    else:
        {"shl": asm.lsl_w, "shr": asm.lsr_w, "sar": asm.asr_w}[step.op](d, a, b)


def _modified(number: int) -> bool:
    return modified_immediate(number & 0xFFFFFFFF) is not None


def _short_offset(step: Instruction, offset: int) -> bool:
    return 0 <= offset <= 31 * width(step.op) and offset % width(step.op) == 0
