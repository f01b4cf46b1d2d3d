"""A routine's parameters by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midgehost.codegen.asm.rv32 import Rv32


class Parameters:
    """The order of a routine's parameter words."""

    def __init__(self, assembler: Rv32, names: Sequence[str]) -> None:
        self._assembler = assembler
        self._names = tuple(names)

    def load(self, register: int, base: int, name: str) -> None:
        """Loads a parameter; register `base` holds their address."""
        self._assembler.lw(register, base, 4 * self._names.index(name))

    def values(self, words: Mapping[str, int]) -> list[int]:
        """The parameters in order. Every name must have a value."""
        return [int(words[name]) for name in self._names]
