"""Registers for a program: liveness, and Chaitin-Briggs colouring with a preference for saving moves.

What finds no register goes, the most used first, to a `high` register (one that only moves, additions and comparisons
reach: Thumb's r8 to r12 and lr), else to the stack; a constant is made again where it is used. Instructions that cannot
reach such a place get a short-lived register around them, and the colouring starts again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from midgehost.codegen.ir.code import ENDS, Instruction, Reg

_DEST: Final = -1  # the position of the result
_NEVER: Final = 1 << 60  # the cost of spilling what spilling made


class Machine(Protocol):
    """What the allocator asks of an instruction set."""

    registers: Sequence[int]  # in the order in which they are to be taken
    high: Sequence[int]

    def clashes(self, step: Instruction) -> Iterable[Reg]:
        """Operands that the result must not share a register with."""
        ...

    def prefers(self, step: Instruction) -> Iterable[Reg]:
        """Operands that the result had better share a register with."""
        ...

    def reaches_high(self, step: Instruction, position: int) -> bool:
        """Whether an operand (-1: the result) may lie in a high register."""
        ...


@dataclass(frozen=True)
class Allocation:
    """The program with its moves to and from spilled places, where each register lies, and words of stack."""

    code: list[Instruction]
    places: dict[Reg, int]
    stack_words: int


def allocate(code: Sequence[Instruction], machine: Machine) -> Allocation:
    """Places every register of the program."""
    return _Allocator(list(code), machine).run()


def liveness(code: Sequence[Instruction], numbers: dict[Reg, int]) -> list[int]:
    """For each instruction the registers that are needed after it, as a mask of bits by `numbers`."""
    labels = {step.label: at for at, step in enumerate(code) if step.op in ("label", "head")}
    before = [0] * (len(code) + 1)
    after = [0] * len(code)
    changed = True
    while changed:
        changed = False
        for at in range(len(code) - 1, -1, -1):
            step = code[at]
            out = 0 if step.op in ENDS else before[at + 1]
            if step.op in ("jump", "branch", "back"):
                out |= before[labels[step.label]]
            needed = out
            if step.dest is not None:
                needed &= ~(1 << numbers[step.dest])
            for reg in step.used:
                needed |= 1 << numbers[reg]
            changed |= needed != before[at]
            before[at], after[at] = needed, out
    return after


class _Allocator:
    def __init__(self, code: list[Instruction], machine: Machine) -> None:
        self._code = code
        self._machine = machine
        self._high: dict[Reg, int] = {}
        self._slots: dict[Reg, int] = {}
        self._constants: dict[Reg, Instruction] = {}  # spilled by making them again
        self._short_lived: set[Reg] = set()

    def run(self) -> Allocation:
        while True:
            self._measure()
            colours, spilled = self._colour()
            if not spilled:
                words = max(self._slots.values(), default=-1) + 1
                return Allocation(self._code, colours | self._high, words)
            self._place(spilled)
            self._code = [made for step in self._code for part in self._parts(step) for made in self._rewritten(part)]

    def _measure(self) -> None:
        """Who lives at the same time as whom, what a spill would cost, and who had better share."""
        found: dict[Reg, None] = {}
        for step in self._code:
            found.update(dict.fromkeys(step.used))
            if step.dest is not None:
                found[step.dest] = None
        self._regs = list(found)
        numbers = {reg: number for number, reg in enumerate(self._regs)}
        self._numbers = numbers
        self._meets = [0] * len(numbers)
        self._cost = [0] * len(numbers)
        self._wishes: list[set[int]] = [set() for _ in numbers]
        for step, after in zip(self._code, liveness(self._code, numbers), strict=True):
            for reg in (*step.used, *([step.dest] if step.dest is not None else [])):
                self._cost[numbers[reg]] += step.weight
            if step.dest is None:
                continue
            dest = numbers[step.dest]
            others = after
            if step.op == "move":
                others &= ~(1 << numbers[step.used[0]])
            for reg in self._machine.clashes(step):
                others |= 1 << numbers[reg]
            self._join(dest, others & ~(1 << dest))
            for reg in self._machine.prefers(step):
                self._wishes[dest].add(numbers[reg])
                self._wishes[numbers[reg]].add(dest)
        for reg in self._made_once():
            self._cost[numbers[reg]] //= 2
        for reg in self._short_lived & set(numbers):
            self._cost[numbers[reg]] = _NEVER

    def _join(self, dest: int, others: int) -> None:
        self._meets[dest] |= others
        while others:
            lowest = others & -others
            self._meets[lowest.bit_length() - 1] |= 1 << dest
            others ^= lowest

    def _made_once(self) -> dict[Reg, Instruction]:
        """The registers whose only definition is a constant."""
        made: dict[Reg, list[Instruction]] = {}
        for step in self._code:
            if step.dest is not None:
                made.setdefault(step.dest, []).append(step)
        return {reg: steps[0] for reg, steps in made.items() if [s.op for s in steps] == ["const"]}

    def _colour(self) -> tuple[dict[Reg, int], list[int]]:
        """Registers for all that are in no high register, and the numbers of those that get none."""
        left = sum(1 << n for n, reg in enumerate(self._regs) if reg not in self._high)
        count = len(self._machine.registers)
        stack: list[int] = []
        degrees = {n: (self._meets[n] & left).bit_count() for n in range(len(self._regs)) if left >> n & 1}
        while degrees:
            easy = [n for n, degree in degrees.items() if degree < count]
            if easy:
                chosen = min(easy, key=lambda n: self._cost[n])
            else:
                chosen = min(degrees, key=lambda n: self._cost[n] / (degrees[n] + 1))
            stack.append(chosen)
            del degrees[chosen]
            left &= ~(1 << chosen)
            for n in degrees:
                degrees[n] -= self._meets[n] >> chosen & 1
        colours: dict[int, int] = {}
        spilled: list[int] = []
        for n in reversed(stack):
            taken = {colour for other, colour in colours.items() if self._meets[n] >> other & 1}
            free = [register for register in self._machine.registers if register not in taken]
            wished = [colours[other] for other in self._wishes[n] if colours.get(other) in free]
            if not free:
                spilled.append(n)
            else:
                colours[n] = wished[0] if wished else free[0]
        return {self._regs[n]: colour for n, colour in colours.items()}, spilled

    def _place(self, spilled: list[int]) -> None:
        """A constant is made again; the others get high registers or places on the stack, the costliest first."""
        constants = self._made_once()
        for n in sorted(spilled, key=lambda n: -self._cost[n]):
            reg = self._regs[n]
            assert self._cost[n] < _NEVER, "an instruction needs more registers than there are"
            if reg in constants:
                self._constants[reg] = constants[reg]
                continue
            high = {place for other, place in self._high.items() if self._together(n, other)}
            slots = {place for other, place in self._slots.items() if self._together(n, other)}
            if free := [place for place in self._machine.high if place not in high]:
                self._high[reg] = free[0]
            else:
                self._slots[reg] = next(slot for slot in range(len(slots) + 1) if slot not in slots)

    def _together(self, n: int, other: Reg) -> bool:
        """Whether register n is live at the same time; one that was spilled to the stack earlier is, if in doubt."""
        return other not in self._numbers or bool(self._meets[n] >> self._numbers[other] & 1)

    def _parts(self, step: Instruction) -> list[Instruction]:
        """A loop's end whose count is spilled: nothing can follow a branch, so the count goes down before it."""
        count = step.dest
        if step.op != "back" or count is None or (count not in self._slots and count not in self._high):
            return [step]
        return [
            Instruction("add", count, (count, -1), weight=step.weight),
            Instruction("branch", None, (count, 0), step.label, "ne", step.weight),
        ]

    def _rewritten(self, step: Instruction) -> list[Instruction]:
        """The instruction with its spilled operands in short-lived registers."""
        if step.op == "const" and step.dest in self._constants:
            return []
        if step.op == "move" and step.dest in self._slots and step.used[0] not in self._slots | self._constants:
            if step.used[0] not in self._high:
                return [Instruction("spill", None, (step.used[0], self._slots[step.dest]), weight=step.weight)]
        before: list[Instruction] = []
        after: list[Instruction] = []
        replaced: dict[Reg, Reg] = {}

        def stand_in(reg: Reg, position: int) -> Reg:
            if reg in replaced:
                return replaced[reg]
            on_stack, constant = reg in self._slots, reg in self._constants
            if not (on_stack or constant or (reg in self._high and not self._machine.reaches_high(step, position))):
                return reg
            made = Reg.like(reg)
            self._short_lived.add(made)
            replaced[reg] = made
            return made

        args = tuple(stand_in(arg, at) if isinstance(arg, Reg) else arg for at, arg in enumerate(step.args))
        for reg, made in replaced.items():
            if reg in self._constants:
                before.append(Instruction("const", made, self._constants[reg].args))
            elif reg in self._slots:
                before.append(Instruction("reload", made, (self._slots[reg],)))
            else:
                before.append(Instruction("move", made, (reg,)))
        dest = step.dest
        if dest is not None:
            dest = stand_in(dest, _DEST)
            if dest is not step.dest and step.dest in self._slots:
                after.append(Instruction("spill", None, (dest, self._slots[step.dest])))
            elif dest is not step.dest:
                after.append(Instruction("move", step.dest, (dest,)))
        for made in (*before, *after):
            made.weight = step.weight
        return [*before, Instruction(step.op, dest, args, step.label, step.condition, step.weight), *after]
