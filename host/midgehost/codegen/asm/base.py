"""What every assembler shares: a buffer, labels, and fixups that are resolved, ranges checked, at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# (address of the instruction, address of the label, its bytes so far) -> its bytes
Patch = Callable[[int, int, bytes], bytes]


class AssemblyError(ValueError):
    """An operand that does not fit its instruction, or a label that is missing or defined twice: a fault of midge."""


@dataclass(frozen=True)
class _Fixup:
    at: int
    size: int
    label: str
    patch: Patch


class Assembler:
    """Machine code of one routine. Addresses count from its first byte; the code is position independent."""

    def __init__(self) -> None:
        self._code = bytearray()
        self._labels: dict[str, int] = {}
        self._fixups: list[_Fixup] = []
        self._names = 0

    @property
    def here(self) -> int:
        """The address of the next instruction."""
        return len(self._code)

    def emit(self, code: bytes) -> None:
        """Appends bytes as they are."""
        self._code += code

    def label(self, name: str | None = None) -> str:
        """Defines a label here; without a name a fresh one."""
        name = self.fresh() if name is None else name
        if name in self._labels:
            raise AssemblyError(f"label {name!r} is defined twice")
        self._labels[name] = self.here
        return name

    def fresh(self, stem: str = "l") -> str:
        """A label name that nobody else has, to be defined later."""
        self._names += 1
        return f".{stem}{self._names}"

    def address(self, label: str) -> int:
        """Where a label that is already defined lies."""
        return self._labels[label]

    def emit_fixup(self, code: bytes, label: str, patch: Patch) -> None:
        """Appends an instruction that `patch` completes once the label's address is known."""
        self._fixups.append(_Fixup(self.here, len(code), label, patch))
        self.emit(code)

    def code(self) -> bytes:
        """The finished code. Raises AssemblyError."""
        code = bytearray(self._code)
        for fixup in self._fixups:
            if fixup.label not in self._labels:
                raise AssemblyError(f"label {fixup.label!r} is missing")
            end = fixup.at + fixup.size
            code[fixup.at : end] = fixup.patch(fixup.at, self._labels[fixup.label], bytes(code[fixup.at : end]))
        return bytes(code)


def check_range(value: int, low: int, high: int, what: str, step: int = 1) -> int:
    """The value, if it lies within low..high (both included) and is a multiple of `step`. Raises AssemblyError."""
    if not low <= value <= high or value % step:
        multiple = f", a multiple of {step}" if step > 1 else ""
        raise AssemblyError(f"{what} is {value}, it must be {low} to {high}{multiple}")
    return value
