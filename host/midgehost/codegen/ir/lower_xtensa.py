"""Xtensa with register windows: fourteen registers, and zero-overhead loops for bodies without loops of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from midgehost.codegen.asm.xtensa import Xtensa
from midgehost.codegen.ir.allocate import Allocation
from midgehost.codegen.ir.code import ENDS, LOADS, STORES, Condition, Features, Instruction, Reg, width
from midgehost.codegen.ir.lower import Lowering
from midgehost.codegen.machine import ABI, STATUS_ABI

_STACK, _RESULT, _ARGS = 1, 2, 5
_FRAME: Final = 32  # bytes of a frame that belong to the hardware
_LOOP_MOST: Final = 70  # instructions in a zero-overhead loop; its body is at most 256 bytes
_COMPARED: Final = frozenset((-1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256))
_UNSIGNED: Final = frozenset((2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256, 32768, 65536))


class XtensaLowering(Lowering[Xtensa]):
    """Lowers to what LX6 and LX7 share."""

    features = Features(mulh=True, divide=False, min_max=True)
    registers = range(2, 16)

    def fits(self, step: Instruction, number: int) -> bool:
        match step.op:
            case "shl" | "shr" | "sar" | "reload" | "spill":
                return True
            case "add":
                return -128 <= number <= 127 or (number % 256 == 0 and -32768 <= number <= 32512)
            case "and":
                return 0 < number <= 0xFFFF and number & (number + 1) == 0
            case "branch":
                return _comparison(step.condition, number) is not None
            case _:
                size = width(step.op) if step.op in LOADS | STORES else 0
                return size > 0 and 0 <= number <= 255 * size and number % size == 0

    def reach(self, step: Instruction) -> int:
        return 130_000 if step.op == "jump" else 110

    def start(self, allocation: Allocation) -> Xtensa:
        asm = Xtensa()
        asm.entry(_STACK, _FRAME + (4 * allocation.stack_words + 15) // 16 * 16)
        self._hardware_loops = _hardware_loops(allocation.code)
        self._open: str | None = None  # the label that ends the zero-overhead loop that is being emitted
        self._no_end_at = 0  # where no zero-overhead loop may end: after a branch, at a label, at the loop's start
        return asm

    def emit(self, asm: Xtensa, step: Instruction, place: dict[Reg, int], far: bool) -> None:
        d = place[step.dest] if step.dest is not None else 0
        args = [place[arg] if isinstance(arg, Reg) else arg for arg in step.args]
        a, b = (*args, 0, 0)[:2]
        by_number = bool(args) and not isinstance(step.args[-1], Reg)
        if step.op == "back" and step.label in self._hardware_loops:
            if asm.here == self._no_end_at:
                asm.nop()
            assert self._open is not None
            asm.label(self._open)
            return
        match step.op:
            case "block":
                self._enter(asm, d)
            case "finish":
                self._leave(asm, a)
            case "jump":
                asm.j(step.label)
                self._no_end_at = asm.here
            case "head" if step.label in self._hardware_loops:
                self._open = asm.fresh("loop")
                asm.loop(a, self._open)
                asm.label(step.label)
                self._no_end_at = asm.here
            case "label" | "head":
                asm.label(step.label)
                self._no_end_at = asm.here
            case "back":
                asm.addi(d, d, -1)
                asm.bnez(d, step.label, far)
            case "branch":
                self._branch(asm, step, a, b, by_number, far)
                self._no_end_at = asm.here
            case "const":
                asm.movi(d, a)
            case "move":
                if d != a:
                    asm.mov(d, a)
            case "neg":
                asm.neg(d, a)
            case "reload":
                asm.l32i(d, _STACK, 4 * a)
            case "spill":
                asm.s32i(a, _STACK, 4 * b)
            case "add" | "and" if by_number:
                if step.op == "and":
                    asm.extui(d, a, 0, b.bit_length())
                else:
                    (asm.addi if -128 <= b <= 127 else asm.addmi)(d, a, b)
            case "shl" | "shr" | "sar":
                self._shift(asm, step, d, a, b, by_number)
            case "store8" | "store16" | "store32":
                {"store8": asm.s8i, "store16": asm.s16i, "store32": asm.s32i}[step.op](*args)
            case "load8u" | "load8s" | "load16u" | "load16s" | "load32":
                if not by_number:
                    asm.add(d, a, b)
                    a, b = d, 0
                {"load8u": asm.l8ui, "load8s": asm.l8ui, "load16u": asm.l16ui, "load16s": asm.l16si}.get(
                    step.op, asm.l32i
                )(d, a, b)
                if step.op == "load8s":
                    asm.sext(d, d, 7)
            case "add" | "sub" | "mul" | "and" | "or" | "xor" | "mulh" | "min" | "max":
                {
                    "add": asm.add, "sub": asm.sub, "mul": asm.mull, "and": asm.and_, "or": asm.or_, "xor": asm.xor,
                    "mulh": asm.mulsh, "min": asm.min, "max": asm.max,
                }[step.op](d, a, b)  # fmt: skip
            case _:
                raise AssertionError(f"Xtensa has no {step.op}")

    def _enter(self, asm: Xtensa, d: int) -> None:
        """The block's address from the arguments at a5, and its abi checked."""
        asm.l32i(_ARGS, _ARGS, 0)
        asm.srli(_ARGS, _ARGS, 1)
        asm.slli(_ARGS, _ARGS, 2)
        asm.l32i(_RESULT, _ARGS, 0)
        good = asm.fresh()
        asm.beqi(_RESULT, ABI, good)
        self._leave(asm, STATUS_ABI)
        asm.label(good)
        if d != _ARGS:
            asm.mov(d, _ARGS)

    def _leave(self, asm: Xtensa, status: int) -> None:
        asm.movi(_RESULT, 2 * status + 1)
        asm.retw()

    def _branch(self, asm: Xtensa, step: Instruction, a: int, b: int, by_number: bool, far: bool) -> None:
        if not by_number:
            if step.condition in ("gt", "le"):
                a, b = b, a
            {
                "eq": asm.beq, "ne": asm.bne, "lt": asm.blt, "ge": asm.bge, "gt": asm.blt, "le": asm.bge,
                "below": asm.bltu, "at_least": asm.bgeu,
            }[step.condition](a, b, step.label, far)  # fmt: skip
            return
        found = _comparison(step.condition, b)
        assert found is not None
        condition, number = found
        if number == 0:
            zero = {"eq": asm.beqz, "ne": asm.bnez, "lt": asm.bltz, "ge": asm.bgez}
            zero[condition](a, step.label, far)
            return
        {
            "eq": asm.beqi, "ne": asm.bnei, "lt": asm.blti, "ge": asm.bgei, "below": asm.bltui, "at_least": asm.bgeui,
        }[condition](a, number, step.label, far)  # fmt: skip

    def _shift(self, asm: Xtensa, step: Instruction, d: int, a: int, b: int, by_number: bool) -> None:
        if by_number and b == 0:
            asm.mov(d, a)
        elif by_number and step.op == "shr" and b > 15:
            asm.extui(d, a, b, 32 - b)
        elif by_number:
            {"shl": asm.slli, "shr": asm.srli, "sar": asm.srai}[step.op](d, a, b)
        else:
            (asm.ssl if step.op == "shl" else asm.ssr)(b)
            {"shl": asm.sll, "shr": asm.srl, "sar": asm.sra}[step.op](d, a)


def _comparison(condition: Condition, number: int) -> tuple[Condition, int] | None:
    """The comparison with a number that there is a branch for, which means the same; None: there is none."""
    if condition in ("gt", "le"):
        condition, number = ("ge" if condition == "gt" else "lt"), number + 1
    if condition in ("below", "at_least"):
        return (condition, number) if number in _UNSIGNED else None
    return (condition, number) if number == 0 or number in _COMPARED else None


def _hardware_loops(code: Sequence[Instruction]) -> set[str]:
    """The loops whose bodies hold no loop, nowhere to leave them, and are short."""
    found: set[str] = set()
    for start, step in enumerate(code):
        if step.op != "head":
            continue
        end = next((at for at in range(start + 1, len(code)) if code[at].op in ("head", "back")), len(code))
        body = code[start + 1 : end]
        inside = {step.label for step in body if step.op == "label"}
        leaves = any(s.op in ENDS - {"jump"} or (s.op in ("branch", "jump") and s.label not in inside) for s in body)
        if end < len(code) and code[end].op == "back" and not leaves and len(body) <= _LOOP_MOST:
            found.add(step.label)
    return found
