"""How a routine is entered and left, its words on the stack, and its parameters by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from midgehost.codegen.asm.xtensa import Xtensa
from midgehost.codegen.machine import ABI, STATUS_ABI, STATUS_OK

MOST_SCRATCH: Final = 24_576  # bytes; a layer that would need more is left to the general kernels

_BLOCK: Final = ("abi", "in0", "in1", "out", "weights", "params", "scratch", "row0", "row1")  # a block's words
_WINDOWS: Final = 32  # bytes at the top of a frame that belong to the register windows
_ARGS: Final = 5  # what the caller leaves in a5: args
_SP: Final = 1


class Frame:
    """The stack frame: words by their names. `enter` leaves the address of the block in `block`."""

    def __init__(self, a: Xtensa, words: Iterable[str] = ()) -> None:
        self._a = a
        self._offsets = {name: 4 * i for i, name in enumerate(words)}

    def enter(self, block: int) -> None:
        """From the routine's entry on: refuses a block of another abi. Every other register but a0, a1 is free."""
        a = self._a
        a.entry(_SP, -(-(_WINDOWS + 4 * len(self._offsets)) // 16) * 16)
        a.l32i(block, _ARGS)
        a.add(block, block, block)
        a.addi(block, block, -2)
        other = _ARGS if block != _ARGS else 6
        a.l32i(other, block)
        ours = a.fresh("ours")
        a.beqi(other, ABI, ours)
        a.movi(2, 2 * STATUS_ABI + 1)
        a.retw()
        a.label(ours)

    def leave(self) -> None:
        """Returns that all went well."""
        self._a.movi(2, 2 * STATUS_OK + 1)
        self._a.retw()

    def load(self, register: int, word: str) -> None:
        self._a.l32i(register, _SP, self._offsets[word])

    def store(self, register: int, word: str) -> None:
        self._a.s32i(register, _SP, self._offsets[word])


def block_word(a: Xtensa, register: int, block: int, word: str) -> None:
    """Loads a word of the block."""
    a.l32i(register, block, 4 * _BLOCK.index(word))


class Parameters:
    """The order of a routine's parameter words; what comes behind them begins at `size`."""

    def __init__(self, a: Xtensa, names: Sequence[str]) -> None:
        self._a = a
        self._names = tuple(names)
        self.size = 4 * len(self._names)

    def load(self, register: int, base: int, name: str) -> None:
        """Loads a parameter; register `base` holds the address of the first one."""
        self._a.l32i(register, base, 4 * self._names.index(name))

    def values(self, words: Mapping[str, int]) -> list[int]:
        """The parameters in order. Every name must have a value."""
        return [int(words[name]) for name in self._names]
