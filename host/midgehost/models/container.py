"""The bundle's file format, whatever its sections hold: magic, version, a table of hashed sections. See DESIGN.md.

    0 magic "MDGB"  4 u8 major, u8 minor  6 u16 n_sections  8 u32 total_len  12 u32 crc32 of header and table (this 0)
    16 n x {4 characters kind, u32 offset, u32 length, u32 flags, u8 sha256[32]}     offsets 16-aligned, gaps zero

All little-endian. A section of unknown kind is skipped by readers, unless bit 0 of its flags says that it is needed.
The same sections always give the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from midgehost.errors import BadBundle

MAGIC: Final = b"MDGB"
MAJOR: Final = 1
MINOR: Final = 0
NEEDED: Final = 1  # flag: who does not know this section must refuse the bundle
MAX_SECTIONS: Final = 32

_HEADER: Final = struct.Struct("<4sBBHII")
_ENTRY: Final = struct.Struct("<4sIII32s")


@dataclass(frozen=True)
class Section:
    """One section: a kind of four characters, its bytes, its flags."""

    kind: str
    data: bytes
    flags: int = 0


def pack(sections: Sequence[Section]) -> bytes:
    """The file of these sections, in this order."""
    end = _HEADER.size + _ENTRY.size * len(sections)
    table, body = b"", b""
    for section in sections:
        body = body.ljust(-(-(end + len(body)) // 16) * 16 - end, b"\0")
        kind = section.kind.encode("ascii")
        digest = hashlib.sha256(section.data).digest()
        table += _ENTRY.pack(kind, end + len(body), len(section.data), section.flags, digest)
        body += section.data
    total = end + len(body)
    checksum = zlib.crc32(_HEADER.pack(MAGIC, MAJOR, MINOR, len(sections), total, 0) + table)
    return _HEADER.pack(MAGIC, MAJOR, MINOR, len(sections), total, checksum) + table + body


def next_offset(sections: Sequence[Section]) -> int:
    """Where one more section after these will begin in the file."""
    end = _HEADER.size + _ENTRY.size * (len(sections) + 1)
    for section in sections:
        end = -(-end // 16) * 16 + len(section.data)
    return -(-end // 16) * 16


def unpack(data: bytes, known: Collection[str]) -> dict[str, Section]:
    """The sections of `known` kinds, verified. Raises BadBundle for anything that a loader must not trust."""
    if len(data) < _HEADER.size or data[:4] != MAGIC:
        raise BadBundle("it does not begin with MDGB")
    _, major, _, count, total, checksum = _HEADER.unpack_from(data)
    if major != MAJOR:
        raise BadBundle(f"it has format version {major}, this midge reads {MAJOR}")
    end = _HEADER.size + _ENTRY.size * count
    if total != len(data) or count > MAX_SECTIONS or end > total:
        raise BadBundle(f"it is {len(data):,} bytes long instead of {total:,}")
    if zlib.crc32(data[:12] + bytes(4) + data[16:end]) != checksum:
        raise BadBundle("the checksum of its table differs")
    found: dict[str, Section] = {}
    for raw_kind, offset, length, flags, digest in _ENTRY.iter_unpack(data[_HEADER.size : end]):
        kind = raw_kind.decode("ascii", "replace")
        if kind not in known:
            if flags & NEEDED:
                raise BadBundle(f"it needs section {kind!r}, which this midge does not know")
            continue
        content = data[offset : offset + length]
        if kind in found or offset < end or offset % 16 or len(content) != length:
            raise BadBundle(f"section {kind} lies wrong")
        if hashlib.sha256(content).digest() != digest:
            raise BadBundle(f"the hash of section {kind} differs")
        found[kind] = Section(kind, content, flags)
    return found
