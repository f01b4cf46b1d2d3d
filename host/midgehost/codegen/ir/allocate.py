"""Registers for a program: liveness, and Chaitin-Briggs colouring with a preference for saving moves.

What finds no register goes, the most used first, to a `high` register (one that only moves, additions and comparisons
reach: Thumb's r8 to r12 and lr), else to the stack; a constant is made again where it is used. Instructions that cannot
reach such a place get a short-lived register around them, and the colouring starts again with the whole program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from midgehost.codegen.ir.code import ENDS, Instruction, Reg

_DEST: Final = -1  # the position of the result
# What a spill is worth, from (cost, how many it meets, how long it is needed): the least goes first.
_MEASURES: Final[tuple[Callable[[float, int, int], float], ...]] = (
    lambda cost, degree, span: cost / (degree + 1),
    lambda cost, degree, span: cost / span,
    lambda cost, degree, span: cost / (span * (degree + 1)),
)
_NEVER: Final = float("inf")  # the cost of spilling what spilling made


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

    @property
    def cost(self) -> int:
        """How much runs, in weights of instructions: the stack counts twice, a move within a register not at all."""
        return sum(
            step.weight * (2 if step.op in ("reload", "spill") else 1)
            for step in self.code
            if step.op != "move" or step.dest is None or self.places[step.dest] != self.places[step.used[0]]
        )


def allocate(code: Sequence[Instruction], machine: Machine) -> Allocation:
    """Places every register of the program: the best of what several measures of a spill's worth lead to."""
    found = [_Allocator(list(code), machine, measure).run() for measure in _MEASURES]
    return min(found, key=lambda allocation: allocation.cost)


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


class _Lives:
    """Who lives at the same time as whom, what a spill would cost, and who had better share a register."""

    def __init__(self, code: Sequence[Instruction], machine: Machine) -> None:
        found: dict[Reg, None] = {}
        for step in code:
            found.update(dict.fromkeys([*step.used, *([step.dest] if step.dest is not None else [])]))
        self.numbers = {reg: number for number, reg in enumerate(found)}
        self.meets = [0] * len(found)
        self.cost = dict.fromkeys(found, 0)
        self.span = dict.fromkeys(found, 1)  # how long each is needed, in weights of instructions
        self.gain = dict.fromkeys(found, 0)  # of a high register over the stack, where high ones can be reached
        self.wishes: list[set[int]] = [set() for _ in found]
        regs = list(found)
        for step, after in zip(code, liveness(code, self.numbers), strict=True):
            for number in _positions(after):
                self.span[regs[number]] += step.weight
            for position, reg in enumerate(step.args):
                if isinstance(reg, Reg):
                    self._count(machine, step, reg, position)
            if step.dest is None:
                continue
            self._count(machine, step, step.dest, _DEST)
            dest = self.numbers[step.dest]
            if step.op == "move":
                after &= ~(1 << self.numbers[step.used[0]])
            for reg in machine.clashes(step):
                after |= 1 << self.numbers[reg]
            self._join(dest, after & ~(1 << dest))
            for reg in machine.prefers(step):
                self.wishes[dest].add(self.numbers[reg])
                self.wishes[self.numbers[reg]].add(dest)

    def meet(self, a: Reg, b: Reg) -> bool:
        """Whether both are needed at the same time."""
        return bool(self.meets[self.numbers[a]] >> self.numbers[b] & 1)

    def _count(self, machine: Machine, step: Instruction, reg: Reg, position: int) -> None:
        self.cost[reg] += step.weight
        self.gain[reg] += step.weight * (2 if machine.reaches_high(step, position) else 1)

    def _join(self, dest: int, others: int) -> None:
        self.meets[dest] |= others
        for other in _positions(others):
            self.meets[other] |= 1 << dest


def _positions(mask: int) -> list[int]:
    """The bits that are set, from the lowest."""
    found: list[int] = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found


def _made_once(code: Sequence[Instruction]) -> dict[Reg, Instruction]:
    """The registers whose only definition is a constant."""
    made: dict[Reg, list[Instruction]] = {}
    for step in code:
        if step.dest is not None:
            made.setdefault(step.dest, []).append(step)
    return {reg: steps[0] for reg, steps in made.items() if [s.op for s in steps] == ["const"]}


class _Allocator:
    def __init__(self, code: list[Instruction], machine: Machine, measure: Callable[[float, int, int], float]) -> None:
        self._original = code
        self._measure = measure
        self._machine = machine
        self._short_lived: set[Reg] = set()
        self._high: dict[Reg, int] = {}
        self._slots: dict[Reg, int] = {}
        self._constants: dict[Reg, Instruction] = {}  # spilled by making them again

    def run(self) -> Allocation:
        first = _Lives(self._original, self._machine)
        made_once = _made_once(self._original)
        spilled: set[Reg] = set()
        while True:
            self._place(spilled, first, made_once)
            self._short_lived.clear()
            code = [made for step in self._original for part in self._parts(step) for made in self._rewritten(part)]
            colours, more = self._colour(_Lives(code, self._machine), made_once)
            if not more:
                words = max(self._slots.values(), default=-1) + 1
                return Allocation(code, colours | self._high, words)
            spilled |= more

    def _place(self, spilled: set[Reg], lives: _Lives, made_once: dict[Reg, Instruction]) -> None:
        """A constant is made again; of the others those that gain most get high registers, the rest the stack."""
        self._constants = {reg: made_once[reg] for reg in spilled if reg in made_once}
        self._high, self._slots = {}, {}
        others = sorted(spilled - set(made_once), key=lambda reg: (-lives.gain[reg], lives.numbers[reg]))
        for reg in others:
            high = {place for other, place in self._high.items() if lives.meet(reg, other)}
            slots = {place for other, place in self._slots.items() if lives.meet(reg, other)}
            if free := [place for place in self._machine.high if place not in high]:
                self._high[reg] = free[0]
            else:
                self._slots[reg] = next(slot for slot in range(len(slots) + 1) if slot not in slots)

    def _colour(self, lives: _Lives, made_once: dict[Reg, Instruction]) -> tuple[dict[Reg, int], set[Reg]]:
        """Registers for all that are in no high register, and those that get none."""
        cost = [
            _NEVER if reg in self._short_lived else lives.cost[reg] / (2 if reg in made_once else 1)
            for reg in lives.numbers
        ]
        meets, regs = lives.meets, list(lives.numbers)
        left = sum(1 << n for n, reg in enumerate(regs) if reg not in self._high)
        count = len(self._machine.registers)
        stack: list[int] = []
        neighbours = {n: _positions(meets[n] & left) for n in _positions(left)}
        degrees = {n: len(others) for n, others in neighbours.items()}
        easy = [(cost[n], n) for n, degree in degrees.items() if degree < count]
        heapify(easy)
        while degrees:
            if easy:
                _, chosen = heappop(easy)
            else:
                chosen = min(degrees, key=lambda n: self._measure(cost[n], degrees[n], lives.span[regs[n]]))
            stack.append(chosen)
            del degrees[chosen]
            for n in neighbours[chosen]:
                if n in degrees:
                    degrees[n] -= 1
                    if degrees[n] == count - 1:
                        heappush(easy, (cost[n], n))
        colours: dict[int, int] = {}
        spilled: set[Reg] = set()
        for n in reversed(stack):
            taken = {colours[other] for other in neighbours[n] if other in colours}
            free = [register for register in self._machine.registers if register not in taken]
            wished = [colours[other] for other in lives.wishes[n] if colours.get(other) in free]
            if free:
                colours[n] = wished[0] if wished else free[0]
            else:
                assert cost[n] < _NEVER, "an instruction needs more registers than there are"
                spilled.add(regs[n])
        return {regs[n]: colour for n, colour in colours.items()}, spilled

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
        if (
            step.op == "move"
            and step.dest in self._slots
            and step.used[0] not in self._slots | self._constants | self._high
        ):
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
