"""The .mpy container, version 6: read into a tree, written back byte for byte, and made around machine code of ours.

    4d 06, u8 sub-version | arch << 2, u8 small-int bits      a file of bytecode alone has 0 for the second
    uint strings, uint constants, the strings, the constants, then the module's code
    code     uint length << 3 | has children << 2 | kind, its bytes, uints that depend on the kind, then if it has
             children: uint how many, the children
    string   uint number << 1 | 1 of one that every firmware has, or uint length << 1, its bytes, 0
    constant u8 type; types below 5 are a value by themselves, a tuple has uint items, items; all others uint length,
             its bytes, and a 0 after str and bytes

A uint has seven bits a byte, the highest first, bit 7 set in all but the last. Native code runs only where sub-version
and arch are the firmware's: 6.3 is MicroPython 1.23 and later. Bit 6 of the second byte announces arch flags that older
loaders do not know; midge neither reads nor writes such files. Source: py/persistentcode.c of MicroPython.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

VERSION: Final = 6
SUB_VERSION: Final = 3  # of the interface between firmware and native code
ARCHES: Final[Mapping[str, int]] = {
    "x86": 1, "x64": 2, "armv6": 3, "armv6m": 4, "armv7m": 5, "armv7em": 6, "armv7emsp": 7, "armv7emdp": 8,
    "xtensa": 9, "xtensawin": 10, "rv32imc": 11,
}  # fmt: skip

_ARCH_FLAGS: Final = 0x40
_SMALL_INT_BITS: Final = 31
_MODULE_NAME: Final = 7  # "<module>" among the strings that every firmware has
_TUPLE, _STR, _BYTES, _LAST_TYPE = 10, 5, 6, 10
_ALONE: Final = 4  # the last constant type without bytes: function table, None, False, True, Ellipsis
_SECTIONS: Final = 0x70  # scope flags of what linkers of C code add: relocations, read-only data, zeroed data

# Cortex-M firmware loads the code of every lower arch. Ours uses no floating-point unit: the lowest with DSP will do.
_MARKED: Final = {"armv7emsp": "armv7em"}
_MAKE_FUNCTION, _STORE_NAME, _LOAD_NONE, _RETURN = b"\x32", b"\x16", b"\x51", b"\x63"


class MpyError(ValueError):
    """Bytes that are no .mpy file, or one with parts that midge does not know."""


class Kind(IntEnum):
    """What a piece of code is to the firmware. Viper is called by the C ABI with (self, n_args, n_kw, args)."""

    BYTECODE = 0
    NATIVE = 1
    VIPER = 2
    ASM = 3


_EXTRAS: Final = {Kind.BYTECODE: 0, Kind.NATIVE: 1, Kind.VIPER: 1, Kind.ASM: 3}


@dataclass(frozen=True)
class Constant:
    """An object that code refers to by number: `data` as written, `items` of a tuple."""

    type: int
    data: bytes = b""
    items: tuple[Constant, ...] = ()


@dataclass(frozen=True)
class Code:
    """One function, or the module's own code. `extras`: native has the offset of its prelude; viper its scope flags;
    inline assembler its scope flags, number of arguments and their types."""

    kind: Kind
    data: bytes
    extras: tuple[int, ...] = ()
    children: tuple[Code, ...] = ()


@dataclass(frozen=True)
class Mpy:
    """A file. `strings` are bytes, or the number of one that every firmware has; the first is the source's name."""

    arch: str | None
    sub_version: int
    small_int_bits: int
    strings: tuple[bytes | int, ...]
    constants: tuple[Constant, ...]
    code: Code


def write_module(arch: str, source: str, functions: Mapping[str, bytes]) -> bytes:
    """A module of viper functions, each being machine code of ours, for firmware 1.23 and later of that arch.

    A function's first byte of code is its entry; in memory it lies at a multiple of 4. `source` is the file name that
    a traceback would show. Same arguments, same bytes.
    """
    strings: list[bytes | int] = [source.encode(), _MODULE_NAME, *(name.encode() for name in functions)]
    # Frame of one value, no exceptions; one byte of information: the code's name is string 1.
    body = b"\x00\x02\x01"
    for child in range(len(functions)):
        body += _MAKE_FUNCTION + _uint(child) + _STORE_NAME + _uint(2 + child)
    body += _LOAD_NONE + _RETURN
    children = tuple(Code(Kind.VIPER, code + bytes(-len(code) % 4), (0,)) for code in functions.values())
    module = Code(Kind.BYTECODE, body, children=children)
    return write(Mpy(_MARKED.get(arch, arch), SUB_VERSION, _SMALL_INT_BITS, tuple(strings), (), module))


def write(mpy: Mpy) -> bytes:
    """The file."""
    second = mpy.sub_version | (ARCHES[mpy.arch] << 2 if mpy.arch else 0)
    parts = [b"M", bytes((VERSION, second, mpy.small_int_bits)), _uint(len(mpy.strings)), _uint(len(mpy.constants))]
    for string in mpy.strings:
        parts.append(_uint(string << 1 | 1) if isinstance(string, int) else _uint(len(string) << 1) + string + b"\0")
    parts += [_constant(constant) for constant in mpy.constants]
    parts.append(_code(mpy.code))
    return b"".join(parts)


def read(data: bytes) -> Mpy:
    """The inverse of `write`. Raises MpyError."""
    return _Reader(data).mpy()


def _uint(value: int) -> bytes:
    encoded = bytes((value & 0x7F,))
    while value := value >> 7:
        encoded = bytes((value & 0x7F | 0x80,)) + encoded
    return encoded


def _constant(constant: Constant) -> bytes:
    start = bytes((constant.type,))
    if constant.type <= _ALONE:
        return start
    if constant.type == _TUPLE:
        return start + _uint(len(constant.items)) + b"".join(map(_constant, constant.items))
    end = b"\0" if constant.type in (_STR, _BYTES) else b""
    return start + _uint(len(constant.data)) + constant.data + end


def _code(code: Code) -> bytes:
    head = _uint(len(code.data) << 3 | bool(code.children) << 2 | code.kind)
    extras = b"".join(map(_uint, code.extras))
    children = b"".join(map(_code, code.children))
    return head + code.data + extras + (_uint(len(code.children)) + children if code.children else b"")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def mpy(self) -> Mpy:
        magic, version, second, bits = self._take(4)
        if magic != ord("M") or version != VERSION:
            raise MpyError("it does not begin as an .mpy file of version 6")
        names = {number: arch for arch, number in ARCHES.items()} | {0: None}
        if second & _ARCH_FLAGS or second >> 2 not in names:
            raise MpyError(f"its header names arch and flags {second >> 2:#x}, which midge does not know")
        n_strings, n_constants = self._uint(), self._uint()
        strings = tuple(self._string() for _ in range(n_strings))
        constants = tuple(self._constant() for _ in range(n_constants))
        code = self._code()
        if self._at != len(self._data):
            raise MpyError(f"{len(self._data) - self._at} bytes follow its end")
        return Mpy(names[second >> 2], second & 3, bits, strings, constants, code)

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise MpyError("it is cut short")
        self._at += count
        return taken

    def _uint(self) -> int:
        value = 0
        while True:
            (byte,) = self._take(1)
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value

    def _string(self) -> bytes | int:
        head = self._uint()
        return head >> 1 if head & 1 else self._ended(head >> 1)

    def _ended(self, length: int) -> bytes:
        *_, end = data = self._take(length + 1)
        if end:
            raise MpyError("a string does not end where it should")
        return data[:-1]

    def _constant(self) -> Constant:
        (kind,) = self._take(1)
        if kind > _LAST_TYPE:
            raise MpyError(f"it has a constant of type {kind}, which midge does not know")
        if kind <= _ALONE:
            return Constant(kind)
        length = self._uint()
        if kind == _TUPLE:
            return Constant(kind, items=tuple(self._constant() for _ in range(length)))
        return Constant(kind, self._ended(length) if kind in (_STR, _BYTES) else self._take(length))

    def _code(self) -> Code:
        head = self._uint()
        kind = Kind(head & 3)
        data = self._take(head >> 3)
        extras = tuple(self._uint() for _ in range(_EXTRAS[kind]))
        if kind is Kind.VIPER and extras[0] & _SECTIONS:
            raise MpyError("it has code with sections of a linker, which midge does not know")
        children = tuple(self._code() for _ in range(self._uint())) if head & 4 else ()
        return Code(kind, data, extras, children)
