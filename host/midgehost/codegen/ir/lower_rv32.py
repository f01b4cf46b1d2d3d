"""RV32IM with compressed instructions: registers for everything; a0 to a5, which short encodings reach, first."""

from __future__ import annotations

from typing import Final

from midgehost.codegen.asm import rv32
from midgehost.codegen.asm.rv32 import A0, A3, A4, SP, ZERO, Rv32
from midgehost.codegen.ir.allocate import Allocation
from midgehost.codegen.ir.code import LOADS, STORES, Features, Instruction, Reg
from midgehost.codegen.ir.lower import Lowering
from midgehost.codegen.machine import ABI, STATUS_ABI

_SAVED: Final = rv32.CALLEE_SAVED[1:]  # all but the return address, which is never allocated


class Rv32Lowering(Lowering[Rv32]):
    """Lowers to RV32IMC."""

    features = Features(mulh=True, divide=True, min_max=False)
    registers = (*range(A0, A0 + 8), *(r for r in rv32.CALLER_SAVED if not A0 <= r < A0 + 8), *_SAVED)

    def fits(self, step: Instruction, number: int) -> bool:
        if step.op in ("shl", "shr", "sar", "reload", "spill"):
            return True
        if step.op == "branch":
            return number == 0
        return step.op in ("add", "and", "or", "xor", *LOADS, *STORES) and -2048 <= number <= 2047

    def reach(self, step: Instruction) -> int:
        return 1_000_000 if step.op == "jump" else 4000

    def start(self, allocation: Allocation) -> Rv32:
        asm = Rv32()
        self._saved = sorted(set(allocation.places.values()) & set(_SAVED))
        self._offset = 4 * allocation.stack_words
        self._frame = (self._offset + 4 * len(self._saved) + 15) // 16 * 16
        if self._frame:
            asm.addi(SP, SP, -self._frame)
        for at, register in enumerate(self._saved):
            asm.sw(register, SP, self._offset + 4 * at)
        return asm

    def emit(self, asm: Rv32, step: Instruction, place: dict[Reg, int], far: bool) -> None:
        d = place[step.dest] if step.dest is not None else 0
        args = [place[arg] if isinstance(arg, Reg) else arg for arg in step.args]
        a, b = (*args, 0, 0)[:2]
        by_number = bool(args) and not isinstance(step.args[-1], Reg)
        match step.op:
            case "block":
                self._enter(asm, d)
            case "finish":
                self._leave(asm, a)
            case "jump":
                asm.j(step.label)
            case "label" | "head":
                asm.label(step.label)
            case "back":
                asm.addi(d, d, -1)
                asm.bnez(d, step.label, far)
            case "branch":
                self._branch(asm, step, a, ZERO if by_number else b, far)
            case "const":
                asm.li(d, a)
            case "move":
                if d != a:
                    asm.mv(d, a)
            case "neg":
                asm.neg(d, a)
            case "reload":
                asm.lw(d, SP, 4 * a)
            case "spill":
                asm.sw(a, SP, 4 * b)
            case "add" | "and" | "or" | "xor" | "shl" | "shr" | "sar" if by_number:
                {
                    "add": asm.addi, "and": asm.andi, "or": asm.ori, "xor": asm.xori,
                    "shl": asm.slli, "shr": asm.srli, "sar": asm.srai,
                }[step.op](d, a, b)  # fmt: skip
            case "store8" | "store16" | "store32":
                {"store8": asm.sb, "store16": asm.sh, "store32": asm.sw}[step.op](*args)
            case "load8u" | "load8s" | "load16u" | "load16s" | "load32":
                if not by_number:
                    asm.add(d, a, b)
                    a, b = d, 0
                {"load8u": asm.lbu, "load8s": asm.lb, "load16u": asm.lhu, "load16s": asm.lh, "load32": asm.lw}[step.op](
                    d, a, b
                )
            case "add" | "sub" | "mul" | "and" | "or" | "xor" | "shl" | "shr" | "sar" | "mulh" | "divu":
                {
                    "add": asm.add, "sub": asm.sub, "mul": asm.mul, "and": asm.and_, "or": asm.or_, "xor": asm.xor,
                    "shl": asm.sll, "shr": asm.srl, "sar": asm.sra, "mulh": asm.mulh, "divu": asm.divu,
                }[step.op](d, a, b)  # fmt: skip
            case _:
                raise AssertionError(f"RV32 has no {step.op}")

    def _enter(self, asm: Rv32, d: int) -> None:
        """The block's address from the arguments at a3, and its abi checked."""
        asm.lw(A3, A3, 0)
        asm.srli(A3, A3, 1)
        asm.slli(A3, A3, 2)
        asm.lw(A4, A3, 0)
        asm.addi(A4, A4, -ABI)
        good = asm.fresh()
        asm.beqz(A4, good)
        self._leave(asm, STATUS_ABI)
        asm.label(good)
        if d != A3:
            asm.mv(d, A3)

    def _leave(self, asm: Rv32, status: int) -> None:
        asm.li(A0, 2 * status + 1)
        for at, register in enumerate(self._saved):
            asm.lw(register, SP, self._offset + 4 * at)
        if self._frame:
            asm.addi(SP, SP, self._frame)
        asm.ret()

    def _branch(self, asm: Rv32, step: Instruction, a: int, b: int, far: bool) -> None:
        if step.condition in ("gt", "le"):
            a, b = b, a
        {
            "eq": asm.beq, "ne": asm.bne, "lt": asm.blt, "ge": asm.bge, "gt": asm.blt, "le": asm.bge,
            "below": asm.bltu, "at_least": asm.bgeu,
        }[step.condition](a, b, step.label, far)  # fmt: skip
