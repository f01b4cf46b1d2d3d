"""Runs a program in Python with 32-bit wrap: what the machines' results are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from midgehost.codegen.ir.code import Condition, Instruction, Op, Reg, width, wrap

_U32: Final = (1 << 32) - 1
_BINARY: Final[dict[Op, Callable[[int, int], int]]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "shl": lambda a, b: a << _distance(b),
    "shr": lambda a, b: (a & _U32) >> _distance(b),
    "sar": lambda a, b: a >> _distance(b),
    "mulh": lambda a, b: (a * b) >> 32,
    "divu": lambda a, b: (a & _U32) // (b & _U32),
    "min": min,
    "max": max,
}
_HOLDS: Final[dict[Condition, Callable[[int, int], bool]]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "ge": lambda a, b: a >= b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "below": lambda a, b: a & _U32 < b & _U32,
    "at_least": lambda a, b: a & _U32 >= b & _U32,
}


def interpret(code: Sequence[Instruction], memory: bytearray, block: int, most: int = 10_000_000) -> int:
    """The status that the program ends with. Addresses are positions in `memory`.

    Raises IndexError or ValueError for an access that a machine would fault on, RuntimeError after `most` steps.
    """
    labels = {step.label: at for at, step in enumerate(code) if step.op in ("label", "head")}
    values: dict[Reg, int] = {}
    at = 0

    def value(arg: Reg | int) -> int:
        return values[arg] if isinstance(arg, Reg) else arg

    def span(step: Instruction, base: Reg | int, offset: Reg | int) -> slice:
        size = width(step.op)
        address = (value(base) + value(offset)) & _U32
        if address % size or address + size > len(memory):
            raise ValueError(f"{step.op} at {address:#x}")
        return slice(address, address + size)

    for _ in range(most):
        step = code[at]
        at += 1
        args = step.args
        if step.op == "finish":
            return value(args[0])
        if step.op == "jump" or (step.op == "branch" and _HOLDS[step.condition](value(args[0]), value(args[1]))):
            at = labels[step.label]
        elif step.op.startswith("store"):
            where = span(step, args[1], args[2])
            memory[where] = (value(args[0]) & _U32).to_bytes(4, "little")[: where.stop - where.start]
        elif step.dest is None:
            pass
        elif step.op.startswith("load"):
            signed = step.op.endswith(("s", "32"))
            values[step.dest] = wrap(int.from_bytes(memory[span(step, *args)], "little", signed=signed))
        elif step.op == "block":
            values[step.dest] = block
        elif step.op in ("const", "move"):
            values[step.dest] = value(args[0])
        elif step.op == "neg":
            values[step.dest] = wrap(-value(args[0]))
        elif step.op == "back":
            values[step.dest] = wrap(value(args[0]) - 1)
            if values[step.dest]:
                at = labels[step.label]
        else:
            values[step.dest] = wrap(_BINARY[step.op](value(args[0]), value(args[1])))
    raise RuntimeError(f"still running after {most} instructions")


def _distance(bits: int) -> int:
    if not 0 <= bits <= 31:
        raise ValueError(f"a shift by {bits}")
    return bits
