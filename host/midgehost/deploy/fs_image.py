"""A board's file system as one file: a littlefs image that the board mounts, and that proves itself.

The image is what stock MicroPython would have made (littlefs on-disk version 2.0, `SPEC.md` of littlefs), so it can be
flashed as it is, and a virtual board runs on it. What a backup needs beyond its files lies in a user attribute of the
root folder, which littlefs keeps and MicroPython does not see: where the image comes from, and one SHA-256 over every
name and every file's SHA-256. So there is no second file to lose, and no hash of the image to go stale.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from midgehost.errors import MidgeError

LITTLEFS, FAT = "littlefs", "fat"

_DISK_VERSION = 0x00020000  # 2.1 since MicroPython 1.22; every version reads 2.0
_PROG_BYTES = {"rp2": 256}  # what the port's own mkfs uses (ports/rp2/modules/_boot.py), else MicroPython's default
_DEFAULT_PROG_BYTES = 32
_ATTRIBUTE = "M"
_FORMAT = 1
_BLOCK_BYTES = 4096  # of every stock board; where the second copy of a superblock lies
_SUPERBLOCK = struct.Struct("<8s4xIII")  # at byte 8: magic, tag, version, block size, block count


class BackupError(MidgeError):
    """A backup cannot be made, or not be restored here."""

    code = "backup"


class BadBackup(BackupError):
    """The file is no backup of midge's, or a damaged one."""

    code = "backup.bad_file"

    def __init__(self, path: str, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path} is not a usable backup: {why}; the board was not touched.", "Use another backup.")


class NoRoom(BackupError):
    """The files do not fit a file system. Sizes in bytes."""

    code = "backup.no_room"

    def __init__(
        self,
        needed: int,
        available: int,
        do: str = "Delete files, or choose a board or firmware with a larger file system.",
    ) -> None:
        self.needed, self.available = needed, available
        super().__init__(f"The files need {needed:,} bytes, the file system has room for {available:,}.", do)


@dataclass(frozen=True)
class Origin:
    """The board that files came from: `machine` and `platform` as MicroPython says them, `arch` as in BoardInfo."""

    machine: str
    platform: str
    arch: str | None
    kind: str  # of its file system: littlefs | fat
    block_bytes: int
    blocks: int

    @property
    def size(self) -> int:
        """Bytes of the file system."""
        return self.block_bytes * self.blocks

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.machine} ({self.kind}, {self.size:,} bytes)"


@dataclass(frozen=True)
class FileSystem:
    """All that a file system holds, by absolute path. Folders are named whether or not they are empty."""

    origin: Origin
    folders: frozenset[str]
    files: Mapping[str, bytes]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))


def encode(content: FileSystem) -> bytes:
    """The image. A FAT file system's files become littlefs as well, in blocks of 4096. Raises NoRoom."""
    origin = content.origin
    if origin.kind == LITTLEFS:
        return _encode(content, origin.block_bytes, origin.blocks)
    blocks = -(-origin.size // _BLOCK_BYTES)
    try:
        return _encode(content, _BLOCK_BYTES, blocks)
    except NoRoom:  # littlefs gives every file a block; nobody flashes this image, so it may be larger than the board
        return _encode(content, _BLOCK_BYTES, blocks + len(content.files) + 2 * len(content.folders) + 8)


def _encode(content: FileSystem, block_bytes: int, blocks: int) -> bytes:
    from littlefs import LittleFS, LittleFSError

    prog = _PROG_BYTES.get(content.origin.platform, _DEFAULT_PROG_BYTES)
    disk: Any = LittleFS(
        block_size=block_bytes,
        block_count=blocks,
        disk_version=_DISK_VERSION,
        read_size=_DEFAULT_PROG_BYTES,
        prog_size=prog,
        cache_size=min(block_bytes, 4 * prog),  # as MicroPython's: small files are inlined up to this size
        lookahead_size=32,
    )
    try:
        disk.setattr("/", _ATTRIBUTE, _describe(content))
        for folder in sorted(content.folders):
            disk.mkdir(folder)
        for path in spread(content.files):
            with disk.open(path, "wb") as file:
                file.write(content.files[path])
    except (LittleFSError, OSError) as error:
        if getattr(error, "code", None) == LittleFSError.Error.LFS_ERR_NOSPC or getattr(error, "errno", 0) == 28:
            raise NoRoom(content.nbytes, block_bytes * blocks) from None
        raise
    disk.unmount()
    return bytes(disk.context.buffer)


def decode(image: bytes, path: str) -> FileSystem:
    """What an image holds, every byte of it proved; `path` is for messages. Raises BadBackup."""
    from littlefs import LittleFS, LittleFSError, UserContext

    block_bytes = _block_bytes(image, path)
    try:
        disk: Any = LittleFS(
            context=UserContext(0, buffer=bytearray(image)), mount=False, block_size=block_bytes, block_count=0
        )
        disk.mount()
        described = _described(disk.getattr("/", _ATTRIBUTE), path)
        folders: set[str] = set()
        files: dict[str, bytes] = {}
        for root, below, names in disk.walk("/"):
            base = root.rstrip("/")
            folders |= {f"{base}/{name}" for name in below}
            for name in names:
                with disk.open(f"{base}/{name}", "rb") as file:
                    files[f"{base}/{name}"] = file.read()
    except (LittleFSError, OSError, ValueError) as error:
        if getattr(error, "code", None) == LittleFSError.Error.LFS_ERR_NOATTR:
            raise BadBackup(path, "it is a littlefs image, but none of `midge backup`") from None
        raise BadBackup(path, f"it is damaged ({error})") from None
    content = FileSystem(described[0], frozenset(folders), files)
    if tree_hash(content) != described[1]:
        raise BadBackup(path, "it is damaged (the SHA-256 of its files differs)")
    return content


def spread(paths: Iterable[str]) -> list[str]:
    """The order in which files take least room: five of nine names in order, then those that lie between them.

    littlefs keeps a folder's names sorted and halves a metadata block that is half full: names that come in order leave
    every block a quarter full, which a full file system has no room for (600 files: 36 blocks, so 22).
    """
    names = sorted(paths)
    return [name for odd in (0, 1) for i, name in enumerate(names) if i % 9 % 2 == odd]


def tree_hash(content: FileSystem) -> str:
    """One SHA-256 (hex) over every folder, and every file's path, length and SHA-256."""
    lines: list[list[Any]] = [[folder] for folder in content.folders]
    lines += [[path, len(data), hashlib.sha256(data).hexdigest()] for path, data in content.files.items()]
    return hashlib.sha256(json.dumps(sorted(lines)).encode()).hexdigest()


def _describe(content: FileSystem) -> bytes:
    """The attribute: one JSON text, within littlefs's 1022 bytes."""
    origin = content.origin
    about = {
        "midge": _FORMAT,
        "sha256": tree_hash(content),
        "machine": origin.machine,
        "platform": origin.platform,
        "arch": origin.arch,
        "fs": [origin.kind, origin.block_bytes, origin.blocks],
    }
    return json.dumps(about, separators=(",", ":")).encode()


def _described(attribute: bytes, path: str) -> tuple[Origin, str]:
    """What `_describe` wrote. Raises ValueError, BadBackup."""
    about = cast("dict[str, Any]", json.loads(attribute))
    if about.get("midge") != _FORMAT:
        raise BadBackup(path, "another version of midge made it")
    try:
        kind, block_bytes, blocks = about["fs"]
        origin = Origin(about["machine"], about["platform"], about["arch"], kind, block_bytes, blocks)
        return origin, about["sha256"]
    except (KeyError, TypeError):
        raise ValueError("its description does not read") from None


def _block_bytes(image: bytes, path: str) -> int:
    """The block size that a superblock names: the first of two that reads (littlefs SPEC.md, "superblock")."""
    for at in (0, _BLOCK_BYTES):
        if len(image) < at + 44:
            break
        magic, _, block_bytes, blocks = _SUPERBLOCK.unpack_from(image, at + 8)
        if magic == b"littlefs" and block_bytes >= 128 and blocks >= 2:
            if block_bytes * blocks != len(image):
                raise BadBackup(path, f"it has {len(image):,} bytes, its file system {block_bytes * blocks:,}")
            return block_bytes
    raise BadBackup(path, "it is no littlefs image")
