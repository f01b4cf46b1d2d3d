"""What every lowering shares: numbers that do not fit an instruction move to registers, registers are allocated, code
is assembled, and branches that turn out to reach too far are assembled again as far ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, Generic, TypeVar

from midgehost.codegen.asm.base import Assembler
from midgehost.codegen.ir.allocate import Allocation, allocate
from midgehost.codegen.ir.code import LOADS, STORES, Builder, Features, Instruction, Reg
from midgehost.codegen.machine import Routine

_COMMUTATIVE: Final = frozenset({"add", "mul", "and", "or", "xor", "mulh", "min", "max"})

A = TypeVar("A", bound=Assembler)


class Lowering(ABC, Generic[A]):
    """One instruction set. An instance lowers one program at a time."""

    features: ClassVar[Features]
    registers: Sequence[int]
    high: Sequence[int] = ()

    def routine(self, name: str, builder: Builder) -> Routine:
        """The machine code of a finished program."""
        return Routine(name, self.assemble(builder))

    def assemble(self, builder: Builder) -> bytes:
        """The machine code of a finished program."""
        allocation = allocate(self.legal(builder), self)
        far: set[int] = set()
        while True:
            asm, places = self._emit_all(allocation, far)
            new = {
                at
                for at, step in enumerate(allocation.code)
                if step.op in ("branch", "back", "jump")
                and abs(asm.address(step.label) - places[at]) > self.reach(step)
            }
            if new <= far:
                return asm.code()
            far |= new

    def legal(self, builder: Builder) -> list[Instruction]:
        """The program with every number that does not fit its instruction in a register."""
        legal: list[Instruction] = []
        for step in builder.code:
            number = step.args[-1] if step.args else None
            if step.op in ("const", "finish") or not isinstance(number, int) or self.fits(step, number):
                legal.append(step)
                continue
            made = builder.register()
            legal.append(Instruction("const", made, (number,), weight=step.weight))
            args = (*step.args[:-1], made)
            if step.op in STORES:  # there is no store at the sum of two registers
                at = builder.register()
                legal.append(Instruction("add", at, args[1:], weight=step.weight))
                args = (args[0], at, 0)
            legal.append(Instruction(step.op, step.dest, args, step.label, step.condition, step.weight))
        return legal

    def clashes(self, step: Instruction) -> Iterable[Reg]:
        """See `allocate.Machine`. Three operands: nothing clashes."""
        return ()

    def prefers(self, step: Instruction) -> Iterable[Reg]:
        """See `allocate.Machine`."""
        if step.op in LOADS or not step.used:
            return ()
        return step.used if step.op in _COMMUTATIVE else step.used[:1]

    def reaches_high(self, step: Instruction, position: int) -> bool:
        """See `allocate.Machine`."""
        return False

    @abstractmethod
    def fits(self, step: Instruction, number: int) -> bool:
        """Whether the last operand may be this number."""

    @abstractmethod
    def reach(self, step: Instruction) -> int:
        """How many bytes away the label of a near branch or jump may safely lie."""

    @abstractmethod
    def start(self, allocation: Allocation) -> A:
        """An assembler that holds the entry up to the first instruction."""

    @abstractmethod
    def emit(self, asm: A, step: Instruction, place: dict[Reg, int], far: bool) -> None:
        """Appends one instruction."""

    def end(self, asm: A) -> None:
        """Appends what follows the last instruction."""

    def _emit_all(self, allocation: Allocation, far: set[int]) -> tuple[A, list[int]]:
        asm = self.start(allocation)
        places: list[int] = []
        for at, step in enumerate(allocation.code):
            places.append(asm.here)
            self.emit(asm, step, allocation.places, at in far)
        self.end(asm)
        return asm, places
