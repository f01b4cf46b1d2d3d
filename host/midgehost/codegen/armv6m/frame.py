"""What every routine begins and ends with: the block read into a frame on the stack, registers saved and restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from midgehost.codegen.asm.thumb import LR, PC, R0, R1, R2, R3, R4, R5, R6, R7, SP, Thumb
from midgehost.codegen.machine import ABI, STATUS_ABI, STATUS_OK

_BLOCK: Final = ("abi", "in0", "in1", "out", "weights", "params", "scratch", "row0", "row1")


class Kernel(Thumb):
    """A routine with named words on the stack: its parameters, what it needs of the block, and variables."""

    def __init__(self, params: Sequence[str], block: Sequence[str], variables: Sequence[str]) -> None:
        super().__init__()
        self._params, self._block = params, block
        names = (*params, *block, *variables)
        self._slots = {name: 4 * i for i, name in enumerate(names)}
        assert len(self._slots) == len(names), "a name is used twice"
        self._bytes = (4 * len(names) + 7) // 8 * 8

    def slot(self, name: str) -> int:
        """The offset of a word from sp."""
        return self._slots[name]

    def load(self, rt: int, name: str) -> None:
        self.ldr(rt, SP, self._slots[name])

    def store(self, rt: int, name: str) -> None:
        self.str_(rt, SP, self._slots[name])

    def begin(self) -> None:
        """Saves registers, fills the frame; returns the status for a wrong abi."""
        self.push([R4, R5, R6, R7, LR])
        for low in (R4, R5, R6, R7):
            self.mov(low, low + 4)
        self.push([R4, R5, R6, R7])
        self.ldr(R0, R3)
        self.lsls_imm(R0, R0, 1)  # a small int 2 n + 1, the block is at 4 n
        self.subs_imm(R0, R0, 2)
        self.ldr(R1, R0, 4 * _BLOCK.index("abi"))
        self.add_sp(-self._bytes)
        self.cmp_imm(R1, ABI)
        self.bcond("eq", "begin")
        self.movs(R0, 2 * STATUS_ABI + 1)
        self._leave()
        self.label("begin")
        if self._params:
            self.ldr(R1, R0, 4 * _BLOCK.index("params"))
            self.mov(R2, SP)
            self.movs(R3, len(self._params))
            loop = self.label()
            self.ldm(R1, [R4])
            self.stm(R2, [R4])
            self.subs_imm(R3, R3, 1)
            self.bcond("ne", loop)
        for name in self._block:
            self.ldr(R1, R0, 4 * _BLOCK.index(name))
            self.store(R1, name)

    def finish(self) -> None:
        """Returns status 0."""
        self.movs(R0, 2 * STATUS_OK + 1)
        self._leave()
        self.pool()

    def _leave(self) -> None:
        self.add_sp(self._bytes)
        self.pop([R4, R5, R6, R7])
        for low in (R4, R5, R6, R7):
            self.mov(low + 4, low)
        self.pop([R4, R5, R6, R7, PC])


def signed(word: int) -> int:
    """The int32 of these 32 bits."""
    return (word + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
