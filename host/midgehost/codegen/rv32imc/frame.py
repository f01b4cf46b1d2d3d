"""How a routine is entered and left, and its words on the stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from midgehost.codegen.asm.rv32 import A0, A3, CALLEE_SAVED, SP, T0, T1, T2, Rv32
from midgehost.codegen.machine import ABI, BLOCK_WORDS, STATUS_ABI, STATUS_OK

BLOCK: Final = ("abi", "in0", "in1", "out", "weights", "params", "scratch", "row0", "row1")  # a block's words


class Frame:
    """The stack frame: the saved registers, a copy of the block's words by their names, then a routine's own."""

    def __init__(self, assembler: Rv32, words: Sequence[str]) -> None:
        self._assembler = assembler
        names = [*BLOCK, *words]
        first = 4 * len(CALLEE_SAVED)
        self._offsets = {name: first + 4 * i for i, name in enumerate(names)}
        self._size = -(-(first + 4 * len(names)) // 16) * 16

    def offset(self, word: str) -> int:
        """Where a word lies, from the stack pointer."""
        return self._offsets[word]

    def load(self, register: int, word: str) -> None:
        self._assembler.lw(register, SP, self._offsets[word])

    def store(self, register: int, word: str) -> None:
        self._assembler.sw(register, SP, self._offsets[word])

    def enter(self) -> None:
        """From the routine's entry to a filled frame; every register but sp, gp and tp is free then."""
        a = self._assembler
        a.lw(T0, A3)
        a.slli(T0, T0, 1)
        a.addi(T0, T0, -2)
        a.lw(T1, T0)
        a.li(T2, ABI)
        ours = a.fresh("ours")
        a.beq(T1, T2, ours)
        a.li(A0, 2 * STATUS_ABI + 1)
        a.ret()
        a.label(ours)
        a.addi(SP, SP, -self._size)
        for i, register in enumerate(CALLEE_SAVED):
            a.sw(register, SP, 4 * i)
        for i in range(1, BLOCK_WORDS):
            a.lw(T1, T0, 4 * i)
            self.store(T1, BLOCK[i])

    def leave(self) -> None:
        """Restores the registers and returns that all went well."""
        a = self._assembler
        for i, register in enumerate(CALLEE_SAVED):
            a.lw(register, SP, 4 * i)
        a.addi(SP, SP, self._size)
        a.li(A0, 2 * STATUS_OK + 1)
        a.ret()
