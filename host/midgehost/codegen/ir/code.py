"""The representation: 32-bit virtual registers, a list of instructions on them, and a builder that reads like Python.

A `Reg` is a variable: `a + b` makes a new one, `a += b` and `a.set(b)` change `a`. Arithmetic wraps at 32 bits.
Control flow is `with` blocks (`when`, `otherwise`, `repeat`, `forever`); a kernel's parts are plain Python functions
that take the builder, inlined where they are called.

Instructions, d the destination, a and b registers or (b only) a number:
    const d, n            move d, a             neg d, a
    add, sub, mul, and, or, xor, shl, shr, sar d, a, b       shifts by 0 to 31; shr is logical, sar arithmetic
    mulh d, a, b          the high word of the signed product, where the machine has it
    divu d, a, b          unsigned quotient, where the machine divides
    min, max d, a, b      signed, where the machine has them
    load8u, load8s, load16u, load16s, load32 d, a, b         d = memory at a + b
    store8, store16, store32 v, a, n                         memory at a + n = v
    branch a, b -> label  if `condition` holds              jump -> label             label
    head a -> label, back d, a -> label     a loop of `repeat`: a counts down to 0; `label` begins its body
    block d               the address of the call's block: the first instruction
    finish n              leaves the routine with this status
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

Op = Literal[
    "const", "move", "neg", "add", "sub", "mul", "and", "or", "xor", "shl", "shr", "sar", "mulh", "divu", "min", "max",
    "load8u", "load8s", "load16u", "load16s", "load32", "store8", "store16", "store32",
    "branch", "jump", "label", "head", "back", "block", "finish", "reload", "spill",
]  # fmt: skip
Condition = Literal["eq", "ne", "lt", "ge", "le", "gt", "below", "at_least"]  # the last two are unsigned

OPPOSITE: Final[dict[Condition, Condition]] = {
    "eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "le": "gt", "gt": "le", "below": "at_least", "at_least": "below",
}  # fmt: skip
LOADS: Final = frozenset({"load8u", "load8s", "load16u", "load16s", "load32"})
STORES: Final = frozenset({"store8", "store16", "store32"})
ENDS: Final = frozenset({"jump", "finish"})  # nothing runs on after these
_ONCE: Final = 64  # the weight of what runs once a call
_DEEPER, _SELDOM = 8, 64  # its factors for a loop's body, and for what seldom runs


@dataclass(frozen=True)
class Features:
    """What a machine computes in one instruction; the builder makes the rest out of simpler ones."""

    mulh: bool
    divide: bool
    min_max: bool


@dataclass
class Instruction:
    """One instruction. `weight` grows with the depth of loops: how often it is thought to run."""

    op: Op
    dest: Reg | None = None
    args: tuple[Reg | int, ...] = ()
    label: str = ""
    condition: Condition = "eq"
    weight: int = _ONCE

    @property
    def used(self) -> list[Reg]:
        """The registers that it reads."""
        return [arg for arg in self.args if isinstance(arg, Reg)]


@dataclass(frozen=True)
class Comparison:
    """A comparison that a `when` or `exit_if` branches on."""

    condition: Condition
    a: Reg
    b: Reg | int


class Reg:
    """A virtual register. It belongs to the builder that made it."""

    def __init__(self, builder: Builder, number: int) -> None:
        self._builder = builder
        self.number = number

    @classmethod
    def like(cls, other: Reg) -> Reg:
        """A new register of the same builder."""
        return other._builder.register()

    def __repr__(self) -> str:
        return f"%{self.number}"

    def set(self, value: Reg | int) -> None:
        """Assigns. A value made by the instruction just before is computed in place, and is gone."""
        self._builder.assign(self, value)

    def __add__(self, other: Reg | int) -> Reg:
        return self._builder.compute("add", self, other)

    def __sub__(self, other: Reg | int) -> Reg:
        return self._builder.compute("sub", self, other)

    def __rsub__(self, other: int) -> Reg:
        return self._builder.const(other) - self

    def __mul__(self, other: Reg | int) -> Reg:
        return self._builder.compute("mul", self, other)

    def __and__(self, other: Reg | int) -> Reg:
        return self._builder.compute("and", self, other)

    def __or__(self, other: Reg | int) -> Reg:
        return self._builder.compute("or", self, other)

    def __xor__(self, other: Reg | int) -> Reg:
        return self._builder.compute("xor", self, other)

    def __lshift__(self, other: Reg | int) -> Reg:
        return self._builder.compute("shl", self, other)

    def __rshift__(self, other: Reg | int) -> Reg:
        """Arithmetic, as Python's."""
        return self._builder.compute("sar", self, other)

    def shifted_right(self, other: Reg | int) -> Reg:
        """The logical shift: zeros move in."""
        return self._builder.compute("shr", self, other)

    def __neg__(self) -> Reg:
        return self._builder.compute("neg", self)

    def __iadd__(self, other: Reg | int) -> Reg:
        return self._builder.compute("add", self, other, dest=self)

    def __isub__(self, other: Reg | int) -> Reg:
        return self._builder.compute("sub", self, other, dest=self)

    def __imul__(self, other: Reg | int) -> Reg:
        return self._builder.compute("mul", self, other, dest=self)

    def __iand__(self, other: Reg | int) -> Reg:
        return self._builder.compute("and", self, other, dest=self)

    def __ior__(self, other: Reg | int) -> Reg:
        return self._builder.compute("or", self, other, dest=self)

    def __ixor__(self, other: Reg | int) -> Reg:
        return self._builder.compute("xor", self, other, dest=self)

    def __ilshift__(self, other: Reg | int) -> Reg:
        return self._builder.compute("shl", self, other, dest=self)

    def __irshift__(self, other: Reg | int) -> Reg:
        return self._builder.compute("sar", self, other, dest=self)

    def __lt__(self, other: Reg | int) -> Comparison:
        return Comparison("lt", self, other)

    def __ge__(self, other: Reg | int) -> Comparison:
        return Comparison("ge", self, other)

    def __le__(self, other: Reg | int) -> Comparison:
        return Comparison("le", self, other)

    def __gt__(self, other: Reg | int) -> Comparison:
        return Comparison("gt", self, other)

    def equals(self, other: Reg | int) -> Comparison:
        return Comparison("eq", self, other)

    def differs(self, other: Reg | int) -> Comparison:
        return Comparison("ne", self, other)

    def below(self, other: Reg | int) -> Comparison:
        """Unsigned less than."""
        return Comparison("below", self, other)

    def at_least(self, other: Reg | int) -> Comparison:
        """Unsigned not less than."""
        return Comparison("at_least", self, other)


class Loop:
    """A loop without end of its own."""

    def __init__(self, builder: Builder, end: str) -> None:
        self._builder = builder
        self._end = end

    def exit_if(self, test: Comparison) -> None:
        """Leaves the loop if the test holds."""
        self._builder.branch(test, self._end)


class Builder:
    """Appends instructions. The program must end with `finish`."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.code: list[Instruction] = []
        self._registers = 0
        self._labels = 0
        self._weight = _ONCE
        self._gone: set[int] = set()  # values that `set` took over
        self._fresh: Reg | None = None  # the value that the last instruction made, if nobody else can hold it yet
        self.block = self.register()
        self.emit(Instruction("block", self.block))

    def register(self) -> Reg:
        """A register without a value yet."""
        self._registers += 1
        return Reg(self, self._registers)

    def emit(self, instruction: Instruction) -> None:
        for reg in instruction.used:
            assert reg.number not in self._gone, f"{reg} was moved into another register"
        instruction.weight = self._weight
        self.code.append(instruction)
        self._fresh = None

    def compute(self, op: Op, *args: Reg | int, dest: Reg | None = None) -> Reg:
        """Any instruction with a result: a new register unless `dest` is given."""
        if op == "sub" and isinstance(args[1], int):
            op, args = "add", (args[0], -args[1])
        made = self.register() if dest is None else dest
        self.emit(Instruction(op, made, args))
        self._fresh = made if dest is None else None
        return made

    def const(self, value: int) -> Reg:
        """A number, taken modulo 2^32."""
        return self.compute("const", wrap(value))

    def copy(self, value: Reg | int) -> Reg:
        """A new variable with this value."""
        return self.const(value) if isinstance(value, int) else self.compute("move", value)

    def assign(self, target: Reg, value: Reg | int) -> None:
        if isinstance(value, int):
            self.compute("const", wrap(value), dest=target)
        elif value is self._fresh and target not in self.code[-1].args[1:]:
            self.code[-1].dest = target
            self._gone.add(value.number)
            self._fresh = None
        else:
            self.compute("move", value, dest=target)

    def load8u(self, base: Reg, offset: Reg | int = 0) -> Reg:
        return self.compute("load8u", base, offset)

    def load8s(self, base: Reg, offset: Reg | int = 0) -> Reg:
        return self.compute("load8s", base, offset)

    def load16u(self, base: Reg, offset: Reg | int = 0) -> Reg:
        return self.compute("load16u", base, offset)

    def load16s(self, base: Reg, offset: Reg | int = 0) -> Reg:
        return self.compute("load16s", base, offset)

    def load32(self, base: Reg, offset: Reg | int = 0) -> Reg:
        return self.compute("load32", base, offset)

    def store8(self, value: Reg, base: Reg, offset: int = 0) -> None:
        self.emit(Instruction("store8", None, (value, base, offset)))

    def store16(self, value: Reg, base: Reg, offset: int = 0) -> None:
        self.emit(Instruction("store16", None, (value, base, offset)))

    def store32(self, value: Reg, base: Reg, offset: int = 0) -> None:
        self.emit(Instruction("store32", None, (value, base, offset)))

    def lower(self, value: Reg, limit: Reg | int) -> None:
        """value = min(value, limit), signed."""
        self._limit("min", value, limit)

    def raise_to(self, value: Reg, limit: Reg | int) -> None:
        """value = max(value, limit), signed."""
        self._limit("max", value, limit)

    def clamp(self, value: Reg, low: Reg | int, high: Reg | int) -> None:
        """value = low if value < low, high if value > high."""
        self.raise_to(value, low)
        self.lower(value, high)

    def _limit(self, op: Literal["min", "max"], value: Reg, limit: Reg | int) -> None:
        if self.features.min_max:
            self.compute(op, value, limit, dest=value)
            return
        with self.when(value > limit if op == "min" else value < limit):
            value.set(limit)

    def quotient(self, a: Reg, b: Reg) -> Reg:
        """a // b of two values in 0..2^31 - 1, b not 0."""
        if self.features.divide:
            return self.compute("divu", a, b)
        quotient, rest, step, bit = self.copy(0), self.copy(a), self.copy(b), self.copy(1)
        with self.seldom(), self.forever() as loop:
            loop.exit_if(Comparison("below", rest, step))
            step <<= 1
            bit <<= 1
        with self.seldom(), self.forever() as loop:
            bit.set(bit.shifted_right(1))
            loop.exit_if(bit.equals(0))
            step.set(step.shifted_right(1))
            with self.when(rest.at_least(step)):
                rest -= step
                quotient += bit
        return quotient

    def high_product(self, a: Reg, b: Reg) -> Reg:
        """The high word of the signed product."""
        if self.features.mulh:
            return self.compute("mulh", a, b)
        a0, b0 = a & 0xFFFF, b & 0xFFFF
        a1, b1 = a >> 16, b >> 16
        middle = (a0 * b0).shifted_right(16)
        middle += a1 * b0  # at most 2^31 - 2^15 in magnitude, and less than 2^16 before
        high = (middle >> 16) + a1 * b1
        low = a0 * b1 + (middle & 0xFFFF)
        return high + (low >> 16)

    def fresh_label(self) -> str:
        self._labels += 1
        return f".{self._labels}"

    def label(self, name: str) -> None:
        self.emit(Instruction("label", label=name))

    def jump(self, label: str) -> None:
        self.emit(Instruction("jump", label=label))

    def branch(self, test: Comparison, label: str) -> None:
        """Goes to the label if the test holds."""
        self.emit(Instruction("branch", None, (test.a, test.b), label, test.condition))

    @contextmanager
    def when(self, test: Comparison) -> Generator[None]:
        """The body runs if the test holds."""
        end = self.fresh_label()
        self.branch(Comparison(OPPOSITE[test.condition], test.a, test.b), end)
        yield
        self.label(end)

    @contextmanager
    def otherwise(self) -> Generator[None]:
        """Right after a `when`: the body runs if its test did not hold."""
        start = self.code.pop().label
        end = self.fresh_label()
        self.jump(end)
        self.label(start)
        yield
        self.label(end)

    @contextmanager
    def forever(self) -> Generator[Loop]:
        """Repeats until `exit_if`."""
        start, end = self.fresh_label(), self.fresh_label()
        self.label(start)
        with self._deeper():
            yield Loop(self, end)
            self.jump(start)
        self.label(end)

    @contextmanager
    def loop_while(self, start_test: Comparison, test: Comparison | None = None) -> Generator[None]:
        """Repeats while the test holds, tested at the start and at the end of every round."""
        again, end = self.fresh_label(), self.fresh_label()
        self.branch(Comparison(OPPOSITE[start_test.condition], start_test.a, start_test.b), end)
        self.label(again)
        with self._deeper():
            yield
            self.branch(test or start_test, again)
        self.label(end)

    @contextmanager
    def repeat(self, times: Reg | int) -> Generator[None]:
        """Repeats `times` times, at least once: 0 would be 2^32."""
        count = self.copy(times)
        start = self.fresh_label()
        self.emit(Instruction("head", None, (count,), start))
        with self._deeper():
            yield
            self.emit(Instruction("back", count, (count,), start))

    @contextmanager
    def repeat_if_any(self, times: Reg) -> Generator[None]:
        """Repeats `times` times; not at all for 0 or less."""
        with self.when(times > 0), self.repeat(times):
            yield

    def finish(self, status: int = 0) -> None:
        self.emit(Instruction("finish", None, (status,)))

    @contextmanager
    def seldom(self) -> Generator[None]:
        """The body runs far less often than its loops suggest: its registers are worth less."""
        before, self._weight = self._weight, max(self._weight // _SELDOM, 1)
        yield
        self._weight = before

    @contextmanager
    def _deeper(self) -> Generator[None]:
        before, self._weight = self._weight, self._weight * _DEEPER
        yield
        self._weight = before


def wrap(value: int) -> int:
    """What an int32 holds."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def width(op: Op) -> int:
    """The bytes that a load or store moves."""
    return {"8": 1, "1": 2, "3": 4}[op.removeprefix("load").removeprefix("store")[0]]
