"""What every emulated core shares: memory with rights to its words, the entry into a routine, and what is refused.

Memory is handed out in order, each piece with its own rights and a gap behind it; a routine that touches anything else
is refused. `mark` and `release` take pieces back. What `load` places is read-only: code, weights and parameters.
"""

from __future__ import annotations

import random
import struct
from abc import ABC, abstractmethod
from typing import ClassVar, Final, Literal

from midgehost.codegen.machine import ABI, BLOCK_WORDS

Unit = Literal["cycles", "instructions"]

READ, WRITE = 1, 2  # rights to a word
GAP: Final = 16  # bytes that nobody has behind every piece of memory
STACK_BYTES: Final = 512  # what a routine may push
POISON: Final = 0xA5  # fills memory that nobody has written
INSTRUCTION_LIMIT: Final = 100_000_000  # of one call; a routine that needs more has run away


class Fault(RuntimeError):
    """A routine did what it must not do, and where."""


class Memory:
    """A range of addresses from which pieces are taken; `rights` holds READ and WRITE for each of its words."""

    def __init__(self, origin: int, data: memoryview, rights: bytearray | memoryview) -> None:
        self.origin = origin
        self.data = data
        self.rights = rights
        self.top = origin

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.origin + len(self.data)

    def alloc(self, size: int, align: int, rights: int) -> int:
        """The address of `size` bytes, rounded up to `align` (at least a word). Raises MemoryError."""
        align = max(align, 4)
        address = -(-self.top // align) * align
        size = -(-max(size, 1) // align) * align
        if address + size + GAP > self.end:
            raise MemoryError(f"the emulated core has no room for {size:,} bytes more")
        self.top = address + size + GAP
        self.write(address, bytes([POISON]) * size)
        self.set_rights(address, size, rights)
        return address

    def release(self, mark: int) -> None:
        """Takes back every piece since `top` was `mark`."""
        self.set_rights(mark, self.top - mark, 0)
        self.top = mark

    def set_rights(self, address: int, size: int, rights: int) -> None:
        """Sets the rights to whole words."""
        first = (address - self.origin) >> 2
        count = -(-size // 4)
        self.rights[first : first + count] = bytes([rights]) * count

    def write(self, address: int, data: bytes) -> None:
        """Stores bytes, whatever the rights."""
        at = address - self.origin
        self.data[at : at + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        """The bytes there, whatever the rights."""
        at = address - self.origin
        return bytes(self.data[at : at + size])


class Core(ABC):
    """An emulated core. Use it as a context manager, or `close` it.

    `ram` ends in the stack; `rom` is where `load` places things, it may be `ram` itself. A call that executes more than
    `limit` instructions is a fault.
    """

    arch: ClassVar[str]
    unit: ClassVar[Unit]
    estimate: ClassVar[bool]
    always_checked: ClassVar[bool] = False  # every memory access is looked at, `check` or not

    def __init__(self, ram: Memory, rom: Memory | None = None) -> None:
        self.ram = ram
        self.rom = rom or ram
        self.limit = INSTRUCTION_LIMIT
        self._calls = 0
        self._blocks = ram.alloc(4 * BLOCK_WORDS, 16, READ)
        self._args = ram.alloc(4, 16, READ)
        low = ram.end - GAP - STACK_BYTES
        self.stack = ram.end - GAP  # the stack pointer at entry, a multiple of 16
        ram.set_rights(low, STACK_BYTES, READ | WRITE)

    def alloc(self, size: int, align: int = 16) -> int:
        """The address of new memory that a routine may read and write up to the next multiple of `align`."""
        return self.ram.alloc(size, align, READ | WRITE)

    def put(self, data: bytes, align: int = 16) -> int:
        """The address of a copy of `data` in new memory, see `alloc`."""
        address = self.alloc(len(data), align)
        self.write(address, data)
        self._changed()
        return address

    def load(self, data: bytes, align: int = 16) -> int:
        """The address of a read-only copy of `data`: code, weights, parameters."""
        address = self.rom.alloc(len(data), align, READ)
        self.write(address, data)
        self._changed()
        return address

    def write(self, address: int, data: bytes) -> None:
        """Stores bytes."""
        self._memory(address).write(address, data)

    def read(self, address: int, size: int) -> bytes:
        """The bytes there."""
        return self._memory(address).read(address, size)

    def allow(self, address: int, size: int, rights: int) -> None:
        """Sets what a routine may do (READ, WRITE, both or 0) with the words of a piece of memory."""
        self._memory(address).set_rights(address, size, rights)

    def mark(self) -> tuple[int, int]:
        """Where the heap stands, for `release`."""
        return self.ram.top, self.rom.top

    def release(self, mark: tuple[int, int]) -> None:
        """Takes back all memory handed out since `mark`."""
        self.rom.release(mark[1])
        self.ram.release(mark[0])

    def block(
        self,
        in0: int = 0,
        in1: int = 0,
        out: int = 0,
        weights: int = 0,
        params: int = 0,
        scratch: int = 0,
        rows: tuple[int, int] = (0, 1),
        abi: int = ABI,
    ) -> int:
        """The address of the block of the next call, filled with these."""
        self.ram.write(self._blocks, struct.pack("<9I", abi, in0, in1, out, weights, params, scratch, *rows))
        return self._blocks

    def call(self, code: int, block: int, check: bool = True) -> tuple[int, int]:
        """Runs the routine at `code` with the block at `block`: its status, and what it cost in `unit`s.

        `check` looks at every memory access, where that costs time (see the subclass). Raises Fault.
        """
        self.ram.write(self._args, struct.pack("<I", 2 * (block >> 2) + 1))
        self._calls += 1
        leftovers = random.Random(self._calls).randbytes(STACK_BYTES)  # of whoever ran between two calls
        self.ram.write(self.stack - STACK_BYTES, leftovers)
        result, count = self._execute(code, self._args, check)
        if not result & 1:
            raise Fault(f"the routine returned {result:#010x}, which is no small int")
        return (result ^ 1 << 31) - (1 << 31) >> 1, count

    def close(self) -> None:
        """Frees what the core holds."""
        return

    def __enter__(self) -> Core:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _execute(self, code: int, args: int, check: bool) -> tuple[int, int]:
        """Enters `code` with (self, n_args = 1, n_kw = 0, args): the returned word and the count. Raises Fault."""

    def _changed(self) -> None:
        """Memory that may hold code has changed."""
        return

    def _memory(self, address: int) -> Memory:
        return self.ram if self.ram.origin <= address < self.ram.end else self.rom
