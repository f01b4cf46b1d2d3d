"""A chain of unrolled taps that is entered in the middle: how chunks of any length run without a loop.

The taps are emitted from the `longest`-th to the last, each reading at fixed distances *before* two pointers; behind
the last one the sums are flushed and the next chunk is dispatched to. A chunk of n taps has an entry of its own, which
moves the pointers to the chunk's end, does the first tap with plain products (no sum to add to yet) and jumps to the
n - 1 taps that are left. The stream's headers are distances from the chain's anchor, see `header`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from midgehost.codegen.asm.rv32 import Rv32


class Chain(ABC):
    """The taps of one kernel; `emit` puts them into its code."""

    def __init__(self, assembler: Rv32, longest: int) -> None:
        self.a = assembler
        self.longest = longest
        self._anchor = assembler.fresh("anchor")
        self._entries = [assembler.fresh("entry") for _ in range(longest)]

    @abstractmethod
    def advance(self, taps: int) -> None:
        """Moves the pointers from a chunk's header to what follows its `taps` taps."""

    @abstractmethod
    def first(self, ahead: int) -> None:
        """A chunk's first tap, `ahead` taps before the pointers: the sums start here."""

    @abstractmethod
    def tap(self, ahead: int) -> None:
        """A later tap."""

    @abstractmethod
    def flush(self) -> None:
        """Adds the sums to the accumulators, then jumps to what the next header says."""

    def emit(self) -> None:
        """The code; nothing falls into it."""
        links = [self.a.fresh("link") for _ in range(self.longest)]
        for taps, entry in enumerate(self._entries, 1):
            self.a.label(entry)
            self.advance(taps)
            self.first(taps)
            self.a.j(links[taps - 1])
        for ahead in range(self.longest - 1, 0, -1):
            self.a.label(links[ahead])
            self.tap(ahead)
        self.a.label(links[0])
        self.a.label(self._anchor)
        self.flush()

    def load_anchor(self, register: int) -> None:
        self.a.la(register, self._anchor)

    def headers(self) -> list[int]:
        """The header of a chunk of 1, 2, ... taps, once the code is complete."""
        return [self.header(entry) for entry in self._entries]

    def header(self, label: str) -> int:
        """The header that leads to a label."""
        return self.a.address(label) - self.a.address(self._anchor)
