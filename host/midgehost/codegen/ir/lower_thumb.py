"""ARMv6-M: eight registers for everything, and r8 to r12 and lr for what is seldom used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from midgehost.codegen.asm.thumb import LR, PC, R0, R3, R8, R12, SP, Condition, Thumb
from midgehost.codegen.ir import code
from midgehost.codegen.ir.allocate import Allocation
from midgehost.codegen.ir.code import LOADS, STORES, Builder, Features, Instruction, Reg, width
from midgehost.codegen.ir.lower import Lowering
from midgehost.codegen.machine import ABI, STATUS_ABI

CONDITIONS: Final[dict[code.Condition, Condition]] = {
    "eq": "eq", "ne": "ne", "lt": "lt", "ge": "ge", "le": "le", "gt": "gt", "below": "cc", "at_least": "cs",
}  # fmt: skip
OPPOSITE: Final[dict[Condition, Condition]] = {
    "eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "cc": "cs", "cs": "cc",
}  # fmt: skip
_POOL_AFTER, _POOL_LATEST = 600, 900  # bytes of code before literals are placed behind a jump, or jumped over
_LARGE: Final = 500  # instructions from which on code may be longer than a jump, so that BL is used and spoils LR


class ThumbLowering(Lowering[Thumb]):
    """Lowers to ARMv6-M."""

    features = Features(mulh=False, divide=False, min_max=False)
    registers = range(8)
    high = range(R8, R12 + 1)  # and LR, where no jump needs it

    def legal(self, builder: Builder) -> list[Instruction]:
        code = super().legal(builder)
        self._large = len(code) > _LARGE
        self.high = range(R8, R12 + 1) if self._large else (*range(R8, R12 + 1), LR)
        return code

    def fits(self, step: Instruction, number: int) -> bool:
        if step.op == "add":
            return -255 <= number <= 255
        if step.op in ("shl", "shr", "sar", "reload", "spill"):
            return True
        if step.op == "xor":
            return number == -1
        if step.op == "and":
            return number in (0xFF, 0xFFFF)
        if step.op == "branch":
            return 0 <= number <= 255
        if step.op in LOADS or step.op in STORES:
            return 0 <= number <= 31 * width(step.op) and number % width(step.op) == 0
        return False

    def reach(self, step: Instruction) -> int:
        return 2000 if step.op == "jump" else 240

    def clashes(self, step: Instruction) -> Iterable[Reg]:
        """A two-operand instruction moves its first operand to the result before it reads the second."""
        return step.used[1:] if step.op in ("shl", "shr", "sar") else ()

    def reaches_high(self, step: Instruction, position: int) -> bool:
        if step.op == "move":
            return True
        if step.op == "branch":
            return isinstance(step.args[1], Reg)
        if step.op == "add" and isinstance(step.args[1], Reg):
            return position == 1 or step.dest is step.args[0]
        return False

    def start(self, allocation: Allocation) -> Thumb:
        asm = Thumb()
        saved = sorted(set(allocation.places.values()) & {4, 5, 6, 7})
        high = sorted(set(allocation.places.values()) & {8, 9, 10, 11})
        if high:
            saved = [4, 5, 6, 7][: max(len(high), len(saved), *(r - 3 for r in saved), 0)]
        asm.push([*saved, LR])
        if high:
            for low, register in zip(saved, high, strict=False):
                asm.mov(low, register)
            asm.push(saved[: len(high)])
        if allocation.stack_words:
            asm.add_sp(-4 * allocation.stack_words)
        self._saved, self._restored, self._words = saved, high, allocation.stack_words
        self._pooled = 0
        return asm

    def _leave(self, asm: Thumb, status: int) -> None:
        asm.movs(R0, 2 * status + 1)
        if self._words:
            asm.add_sp(4 * self._words)
        if self._restored:
            asm.pop(self._saved[: len(self._restored)])
            for low, register in zip(self._saved, self._restored, strict=False):
                asm.mov(register, low)
        asm.pop([*self._saved, PC])

    def end(self, asm: Thumb) -> None:
        asm.pool()

    def emit(self, asm: Thumb, step: Instruction, place: dict[Reg, int], far: bool) -> None:
        d = place[step.dest] if step.dest is not None else 0
        args = [place[arg] if isinstance(arg, Reg) else arg for arg in step.args]
        a, b = (*args, 0, 0)[:2]
        by_number = bool(step.args) and not isinstance(step.args[-1], Reg)
        if asm.here - self._pooled > _POOL_LATEST:
            asm.b(after := asm.fresh())
            asm.pool()
            asm.label(after)
            self._pooled = asm.here
        match step.op:
            case "block":
                self._enter(asm, d)
            case "finish":
                self._leave(asm, a)
                self._pool_if_due(asm)
            case "jump":
                (asm.bl if far else asm.b)(step.label)
                self._pool_if_due(asm)
            case "label" | "head":
                asm.label(step.label)
            case "back":
                asm.subs_imm(d, d, 1)
                self._branch(asm, "ne", step.label, far)
            case "branch":
                if by_number:
                    asm.cmp_imm(a, b)
                else:
                    asm.cmp(a, b)
                self._branch(asm, CONDITIONS[step.condition], step.label, far)
            case "const":
                asm.set_int(d, a)
            case "move":
                if d != a:
                    asm.mov(d, a)
            case "neg":
                asm.rsbs(d, a)
            case "reload":
                asm.ldr(d, SP, 4 * a)
            case "spill":
                asm.str_(a, SP, 4 * b)
            case "add":
                self._add(asm, d, a, b, by_number)
            case "sub":
                asm.subs(d, a, b)
            case "shl" | "shr" | "sar" if by_number:
                if b == 0:
                    asm.mov(d, a)
                else:
                    {"shl": asm.lsls_imm, "shr": asm.lsrs_imm, "sar": asm.asrs_imm}[step.op](d, a, b)
            case "xor" if by_number:
                asm.mvns(d, a)
            case "and" if by_number:
                (asm.uxtb if b == 0xFF else asm.uxth)(d, a)
            case "mul" | "and" | "or" | "xor" | "shl" | "shr" | "sar":
                if d == b and d != a:
                    a, b = b, a
                if d != a:
                    asm.mov(d, a)
                {
                    "mul": asm.muls, "and": asm.ands, "or": asm.orrs, "xor": asm.eors,
                    "shl": asm.lsls, "shr": asm.lsrs, "sar": asm.asrs,
                }[step.op](d, b)  # fmt: skip
            case _:
                self._access(asm, step, d, args, by_number)

    def _enter(self, asm: Thumb, d: int) -> None:
        """The block's address from the arguments at r3, and its abi checked."""
        asm.ldr(R3, R3, 0)
        asm.lsrs_imm(d, R3, 1)
        asm.lsls_imm(d, d, 2)
        spare = R0 if d != R0 else R3
        asm.ldr(spare, d, 0)
        asm.cmp_imm(spare, ABI)
        good = asm.fresh()
        asm.bcond("eq", good)
        self._leave(asm, STATUS_ABI)
        asm.label(good)

    def _branch(self, asm: Thumb, condition: Condition, label: str, far: bool) -> None:
        if far and self._large:
            asm.bcond(OPPOSITE[condition], after := asm.fresh())
            asm.bl(label)
            asm.label(after)
        else:
            (asm.bcond_far if far else asm.bcond)(condition, label)

    def _add(self, asm: Thumb, d: int, a: int, b: int, by_number: bool) -> None:
        if by_number:
            if d != a and abs(b) > 7:
                asm.mov(d, a)
                a = d
            if b < 0:
                asm.subs_imm(d, a, -b)
            else:
                asm.adds_imm(d, a, b)
        elif max(d, a, b) < 8:
            asm.adds(d, a, b)
        else:
            if d == b:
                a, b = b, a
            if d != a:
                asm.mov(d, a)
            asm.add(d, b)

    def _access(self, asm: Thumb, step: Instruction, d: int, args: list[int], by_number: bool) -> None:
        match step.op, by_number:
            case "load8u", True:
                asm.ldrb(d, *args)
            case "load16u", True:
                asm.ldrh(d, *args)
            case "load32", True:
                asm.ldr(d, *args)
            case "load8s", True:
                asm.ldrb(d, *args)
                asm.sxtb(d, d)
            case "load16s", True:
                asm.ldrh(d, *args)
                asm.sxth(d, d)
            case "load8u", False:
                asm.ldrb_reg(d, *args)
            case "load8s", False:
                asm.ldrsb(d, *args)
            case "load16u", False:
                asm.ldrh_reg(d, *args)
            case "load16s", False:
                asm.ldrsh(d, *args)
            case "load32", False:
                asm.ldr_reg(d, *args)
            case "store8", _:
                asm.strb(*args)
            case "store16", _:
                asm.strh(*args)
            case "store32", _:
                asm.str_(*args)
            case _:
                raise AssertionError(f"ARMv6-M has no {step.op}")

    def _pool_if_due(self, asm: Thumb) -> None:
        """Where execution does not pass, literals are placed before they are out of reach."""
        if asm.here - self._pooled > _POOL_AFTER:
            asm.pool()
            self._pooled = asm.here
