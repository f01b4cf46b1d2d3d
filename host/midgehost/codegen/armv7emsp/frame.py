"""How every routine here begins and ends, see `codegen.machine`; and the places of its values on the stack."""

from __future__ import annotations

from typing import Final

from midgehost.codegen.asm.thumb import LR, PC, R0, R1, R3, R4, R5, R6, R7, SP
from midgehost.codegen.asm.thumb2 import Thumb2
from midgehost.codegen.machine import ABI, STATUS_ABI, STATUS_OK

SAVED: Final = (R4, R5, R6, R7, 8, 9, 10, 11, LR)
IN0, IN1, OUT, WEIGHTS, PARAMS, SCRATCH, ROW0, ROW1 = range(4, 36, 4)  # offsets in the block


class Frame:
    """Values on the stack by name, and the way in and out."""

    def __init__(self, a: Thumb2, *names: str) -> None:
        self._a = a
        self._names = names

    def enter(self) -> None:
        """Saves registers, makes room on the stack and leaves the block's address in R0."""
        a = self._a
        a.ldr(R0, R3)
        a.subs_imm(R0, R0, 1)
        a.lsls_imm(R0, R0, 1)
        a.ldr(R1, R0)
        a.cmp_imm(R1, ABI)
        a.bcond("eq", go := a.fresh("go"))
        a.movs(R0, 2 * STATUS_ABI + 1)
        a.bx(LR)
        a.label(go)
        a.push_w(SAVED)
        a.add_sp(-4 * len(self._names))

    def leave(self) -> None:
        """Returns status 0."""
        a = self._a
        a.add_sp(4 * len(self._names))
        a.movs(R0, 2 * STATUS_OK + 1)
        a.pop_w((*SAVED[:-1], PC))

    def at(self, name: str) -> int:
        """The offset of a value from the stack pointer."""
        return 4 * self._names.index(name)

    def load(self, register: int, name: str) -> None:
        """A value into a register."""
        (self._a.ldr if register < 8 else self._a.ldr_w)(register, SP, self.at(name))

    def store(self, register: int, name: str) -> None:
        """A register into a value."""
        (self._a.str_ if register < 8 else self._a.str_w)(register, SP, self.at(name))

    def copy(self, through: int, base: int, *places: tuple[int, str]) -> None:
        """Words at offsets from a base register into values."""
        for offset, name in places:
            self._a.ldr(through, base, offset)
            self.store(through, name)
