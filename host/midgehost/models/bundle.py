"""What a bundle holds: its sections as typed values. The file around: container.py.

META  canonical JSON (keys sorted, no spaces): what the model is, for which board, what memory it takes
TENS  u8 inputs, u8 outputs, u16 0, then each: u32 arena offset, u32 bytes, i32 scale mantissa, i32 zero point,
      i8 scale exponent, u8 type ("b" int8, "f" float32 ...: struct's letter), u8 rank, u8 name length, u32 labels
      length, rank x u32 shape, name, labels (UTF-8, one a line), zeros up to a multiple of 4
PLAN  12 x i32 a call, see plan.py          PARM  i32 words
WGHT  u32 tiles, then each: u32 offset from the section's start, u32 length; then the tiles, 16-aligned
TEST  u32 vectors, then each: every input's bytes, every output's bytes

These are for every board. A bundle for one arch holds its machine code too, with a plan of its own: TENM, PLNM, PRMM
and WGTM as TENS, PLAN, PARM and WGHT (the first word of a call counts the routines of KERN), and KERN, an .mpy. It may
then lack PLAN, PARM and WGHT: no room for what nobody runs. Where META's machine.residence is "flash", WGTM's tiles are
used where they lie: each is followed by its CRC-32 (counted in its length) and lies, 16-aligned, in one littlefs block.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from midgehost.errors import BadBundle
from midgehost.models import container, littlefs
from midgehost.models.container import Section
from midgehost.models.plan import PlannedCall, decode_calls, encode_calls
from midgehost.models.planner import ALIGNMENT, aligned

ABI: Final = 1  # of the kernel call's block
KINDS: Final = ("META", "TENS", "PLAN", "PARM", "WGHT", "TEST", "TENM", "PLNM", "PRMM", "WGTM", "KERN")
TYPE_LETTERS: Final[Mapping[str, str]] = {"int8": "b", "uint8": "B", "int16": "h", "int32": "i", "float32": "f"}

_GENERAL: Final = ("PLAN", "PARM", "WGHT")
_MACHINE: Final = ("TENM", "PLNM", "PRMM", "WGTM", "KERN")
_TYPE_NAMES: Final = {letter: name for name, letter in TYPE_LETTERS.items()}
_TENSOR: Final = struct.Struct("<IIiibBBBI")


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as the board shows it: its bytes lie at `offset` in the arena; scale 1 if not quantised."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    offset: int
    nbytes: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vector:
    """A self-test vector: raw bytes of every input, and of every output that they must give."""

    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]


@dataclass(frozen=True)
class Machine:
    """A model as machine code for one arch: a plan whose calls count the routines of `kernels`, an .mpy."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    calls: tuple[PlannedCall, ...]
    params: tuple[int, ...]
    tiles: tuple[bytes, ...]
    kernels: bytes
    in_flash: bool = False  # the tiles are not loaded


@dataclass(frozen=True)
class Bundle:
    """A model made ready for boards. `meta` must hold JSON values only. No calls: it runs as machine code only."""

    meta: Mapping[str, Any]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    calls: tuple[PlannedCall, ...]
    params: tuple[int, ...]
    tiles: tuple[bytes, ...]
    tests: tuple[Vector, ...]
    machine: Machine | None = None

    @property
    def name(self) -> str:
        return self.meta["name"]

    @property
    def plan_hash(self) -> str:
        """Eight hex digits of the plan for every board: they change with every call, parameter and weight."""
        return self._hash("PLAN", "PARM", "WGHT")

    @property
    def machine_hash(self) -> str:
        """The same of the machine code's plan, and of the code itself."""
        return self._hash("PLNM", "PRMM", "WGTM", "KERN")

    def encode(self) -> bytes:
        """The file. The same bundle always gives the same bytes."""
        return container.pack(self._sections())

    @staticmethod
    def decode(data: bytes) -> Bundle:
        """The inverse of `encode`. Raises BadBundle for anything damaged, incomplete or newer."""
        sections = {kind: section.data for kind, section in container.unpack(data, KINDS).items()}
        wanted = ["META", "TENS", "TEST"]
        wanted += _MACHINE if "KERN" in sections else ()
        wanted += _GENERAL if "KERN" not in sections or "PLAN" in sections else ()
        missing = [kind for kind in wanted if kind not in sections]
        if missing:
            raise BadBundle(f"it has no section {missing[0]}")
        try:
            meta = json.loads(sections["META"])
            in_flash = "KERN" in sections and meta.get("machine", {}).get("residence") == "flash"
            inputs, outputs = _decode_tensors(sections["TENS"])
            return Bundle(
                meta=meta,
                inputs=inputs,
                outputs=outputs,
                calls=decode_calls(sections.get("PLAN", b"")),
                params=_decode_params(sections.get("PARM", b"")),
                tiles=_decode_tiles(sections["WGHT"]) if "WGHT" in sections else (),
                tests=_decode_tests(sections["TEST"], inputs, outputs),
                machine=_decode_machine(sections, in_flash) if "KERN" in sections else None,
            )
        except (struct.error, ValueError, KeyError) as error:
            raise BadBundle(f"a section does not read ({error})") from error

    def _hash(self, *kinds: str) -> str:
        sections = [section for section in self._sections() if section.kind in kinds]
        return hashlib.sha256(b"".join(hashlib.sha256(s.data).digest() for s in sections)).hexdigest()[:8]

    def _sections(self) -> list[Section]:
        meta = json.dumps(self.meta, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        sections = [Section("META", meta.encode()), Section("TENS", _encode_tensors(self.inputs, self.outputs))]
        machine = self.machine
        if self.calls or machine is None:
            sections += [
                Section("PLAN", encode_calls(self.calls)),
                Section("PARM", _encode_params(self.params)),
                Section("WGHT", _encode_tiles(self.tiles)),
            ]
        sections.append(Section("TEST", _encode_tests(self.tests)))
        if machine is not None:
            sections += [
                Section("TENM", _encode_tensors(machine.inputs, machine.outputs)),
                Section("PLNM", encode_calls(machine.calls)),
                Section("PRMM", _encode_params(machine.params)),
                Section("KERN", machine.kernels),
            ]
            where = container.next_offset(sections)
            tiles = _encode_flash_tiles(machine.tiles, where) if machine.in_flash else _encode_tiles(machine.tiles)
            sections.append(Section("WGTM", tiles))
        return sections


def split_scale(scale: float) -> tuple[int, int]:
    """A float32 scale as (mantissa, exponent), exactly: scale = mantissa * 2^exponent, mantissa below 2^24."""
    fraction, exponent = math.frexp(scale)
    mantissa, exponent = round(fraction * (1 << 24)), exponent - 24
    while exponent < -128:  # smaller than any scale that means something
        mantissa, exponent = mantissa >> 1, exponent + 1
    return mantissa, exponent


def _encode_tensors(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> bytes:
    section = struct.pack("<BBH", len(inputs), len(outputs), 0)
    for tensor in (*inputs, *outputs):
        mantissa, exponent = split_scale(tensor.scale)
        name, labels = tensor.name.encode(), "\n".join(tensor.labels).encode()
        letter, rank = ord(TYPE_LETTERS[tensor.dtype]), len(tensor.shape)
        section += _TENSOR.pack(
            tensor.offset, tensor.nbytes, mantissa, tensor.zero_point, exponent, letter, rank, len(name), len(labels)
        )
        section += struct.pack(f"<{rank}I", *tensor.shape) + name + labels
        section += bytes(-len(section) % 4)
    return section


def _decode_tensors(section: bytes) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    n_inputs, n_outputs, _ = struct.unpack_from("<BBH", section)
    found: list[TensorInfo] = []
    at = 4
    for _ in range(n_inputs + n_outputs):
        offset, nbytes, mantissa, zero, exponent, letter, rank, n_name, n_labels = _TENSOR.unpack_from(section, at)
        at += _TENSOR.size
        shape = struct.unpack_from(f"<{rank}I", section, at)
        at += 4 * rank
        name, labels = section[at : at + n_name].decode(), section[at + n_name : at + n_name + n_labels].decode()
        at += n_name + n_labels + -(n_name + n_labels) % 4
        scale = math.ldexp(mantissa, exponent)
        words = tuple(labels.split("\n")) if labels else ()
        found.append(TensorInfo(name, shape, _TYPE_NAMES[chr(letter)], scale, zero, offset, nbytes, words))
    return tuple(found[:n_inputs]), tuple(found[n_inputs:])


def _decode_machine(sections: Mapping[str, bytes], in_flash: bool) -> Machine:
    inputs, outputs = _decode_tensors(sections["TENM"])
    calls, params = decode_calls(sections["PLNM"]), _decode_params(sections["PRMM"])
    tiles = _decode_tiles(sections["WGTM"])
    if in_flash:
        if any(zlib.crc32(tile[:-4]).to_bytes(4, "little") != tile[-4:] for tile in tiles):
            raise ValueError("the checksum of a tile differs")
        tiles = tuple(tile[:-4] for tile in tiles)
    return Machine(inputs, outputs, calls, params, tiles, sections["KERN"], in_flash)


def _encode_params(params: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(params)}i", *params)


def _decode_params(section: bytes) -> tuple[int, ...]:
    return tuple(word for (word,) in struct.iter_unpack("<i", section))


def _encode_tiles(tiles: Sequence[bytes]) -> bytes:
    table, body = struct.pack("<I", len(tiles)), b""
    start = aligned(4 + 8 * len(tiles))
    for tile in tiles:
        body = body.ljust(aligned(len(body)), b"\0")
        table += struct.pack("<II", start + len(body), len(tile))
        body += tile
    return table.ljust(start, b"\0") + body if tiles else table


def _encode_flash_tiles(tiles: Sequence[bytes], where: int) -> bytes:
    """The section when it begins at byte `where` of the file."""
    checked = [tile + zlib.crc32(tile).to_bytes(4, "little") for tile in tiles]
    section = bytearray(4 + 8 * len(tiles))
    places = littlefs.place([len(tile) for tile in checked], where + len(section), ALIGNMENT)
    struct.pack_into("<I", section, 0, len(tiles))
    for i, (tile, place) in enumerate(zip(checked, places, strict=True)):
        struct.pack_into("<II", section, 4 + 8 * i, place - where, len(tile))
        section = section.ljust(place - where, b"\0") + tile
    return bytes(section)


def _decode_tiles(section: bytes) -> tuple[bytes, ...]:
    (count,) = struct.unpack_from("<I", section)
    if 4 + 8 * count > len(section):
        raise ValueError("its tile table is longer than the section")
    places = [struct.unpack_from("<II", section, 4 + 8 * i) for i in range(count)]
    if any(offset + length > len(section) for offset, length in places):
        raise ValueError("a tile lies outside of its section")
    return tuple(section[offset : offset + length] for offset, length in places)


def _encode_tests(tests: Sequence[Vector]) -> bytes:
    return struct.pack("<I", len(tests)) + b"".join(b"".join((*test.inputs, *test.outputs)) for test in tests)


def _decode_tests(section: bytes, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> tuple[Vector, ...]:
    (count,) = struct.unpack_from("<I", section)
    sizes = [tensor.nbytes for tensor in (*inputs, *outputs)]
    if len(section) != 4 + count * sum(sizes):
        raise ValueError("its test vectors do not have the tensors' sizes")
    found: list[Vector] = []
    at = 4
    for _ in range(count):
        parts: list[bytes] = []
        for size in sizes:
            parts.append(section[at : at + size])
            at += size
        found.append(Vector(tuple(parts[: len(inputs)]), tuple(parts[len(inputs) :])))
    return tuple(found)
