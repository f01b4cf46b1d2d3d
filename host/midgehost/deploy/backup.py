"""A board's files to an image and back, hash-checked by the board; the node is held meanwhile and given back after.

A restore writes only what differs. It first takes away what starts the node (and a main.py that will change), and puts
it back last: a cut in between leaves a board that boots to its prompt, and the same restore again completes it.
What an adopted board trusts is never changed by it: a backup is not signed, so it may not be a way around signatures.
"""

from __future__ import annotations

import binascii
import errno
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midgehost.deploy.base import PREFIX
from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.fs_image import (
    FAT,
    LITTLEFS,
    BackupError,
    BadBackup,
    FileSystem,
    NoRoom,
    Origin,
    decode,
    encode,
    spread,
)
from midgehost.deploy.plan import blocks_of, digest_of
from midgehost.deploy.probe import BoardInfo
from midgehost.deploy.progress import Progress, Step, say_nothing, shifted
from midgehost.deploy.protocol import GREET_TIMEOUT, resuming
from midgehost.deploy.slots import ACTIVE, FLOOR, HOLD, MAIN, ROOT, TRIAL, TRUST, Slots
from midgehost.deploy.transport import Transport
from midgehost.errors import Full, HashMismatch

BOOT = "/boot.py"

_TRANSIENT = frozenset({HOLD, f"{HOLD}.new"})  # of the moment: neither kept nor restored
_STARTERS = (BOOT, MAIN, ACTIVE, TRIAL)  # what makes a board start something: away first, back last, in this order
_SPARE_BLOCKS = 4  # littlefs's own copies while it writes
_FLASH_IT = "Flash the backup's image in place of the file system, or restore it on an erased board."
_AGENT = """
import os,binascii
def _midge_tree():
 w=['']
 while w:
  p=w.pop()
  for e in os.ilistdir(p or '/'):
   q=p+'/'+e[0]
   n=binascii.hexlify(q.encode()).decode()
   if e[1]&0x4000:
    w.append(q)
    print('d',n)
   else:print(os.stat(q)[6],n)
def _midge_fat():
 try:os.stat('/*')
 except OSError as e:return e.errno==22
def _midge_off(f,p):
 try:f(p)
 except OSError as e:
  if e.errno!=2:raise
"""
# `_midge_fat`: FatFs calls that name invalid (EINVAL), littlefs only misses it (ENOENT); newer firmware could be asked
# with vfs.mount(), older could not.


class ForeignBoard(BackupError):
    """The backup is of another kind of board."""

    code = "backup.foreign_board"

    def __init__(self, backup: Origin, board: Origin, do: str = "Restore it on a board of its kind.") -> None:
        self.backup, self.board = backup, board
        super().__init__(
            f"The backup is of {backup.title}, this board is {board.title}; the board was not touched.", do
        )


class Protected(BackupError):
    """The restore would change what decides which updates the board accepts."""

    code = "backup.protected"

    def __init__(self, why: str, do: str) -> None:
        self.why = why
        super().__init__(f"{why}; the board was not touched.", do)


class Damaged(BackupError):
    """A file came over the line otherwise than the board has it."""

    code = "backup.damaged"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"{path} arrived damaged (its SHA-256 differs).", "Run the command again; if it repeats, change the cable."
        )


@dataclass
class Tree:
    """What lies on a board: sizes by path, and folders."""

    folders: set[str] = field(default_factory=set[str])
    files: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class _Work:
    """What a restore has to do, by path: what the backup has otherwise, what it lacks, what each side holds."""

    differing: set[str]
    surplus: set[str]
    remove_folders: list[str]
    present: set[str]
    held: set[str]

    @property
    def starts_anew(self) -> bool:
        """Whether anything changes, so that nothing may start until all of it has."""
        return bool(self.differing or self.surplus or self.remove_folders)

    @property
    def remove(self) -> list[str]:
        """Files to remove, what starts the board first: nothing is overwritten, so the room is there."""
        away = (self.differing | self.surplus | {ACTIVE, TRIAL}) & self.present
        starters = [path for path in _STARTERS if path in away]
        return starters + sorted(away - set(starters))

    @property
    def write(self) -> list[str]:
        """Files to write, what starts the board last."""
        if not self.starts_anew:
            return []
        last = [path for path in _STARTERS if path in self.held & (self.differing | {ACTIVE, TRIAL})]
        return spread(self.differing - set(last)) + last


@dataclass(frozen=True)
class Restored:
    """What a restore did. `runs`: whether the node speaks; None where the backup holds none that could."""

    written: tuple[str, ...]
    written_bytes: int
    kept: int  # files that were there already
    removed: int  # files and folders
    runs: bool | None


def read_board(
    transport: Transport,
    info: BoardInfo,
    progress: Progress | None = None,
    on_step: Step | None = None,
) -> FileSystem:
    """All files of the board, each held against the SHA-256 that the board computes. Holds the node meanwhile.

    Raises Damaged and what the transport raises; in every case the node starts again.
    """
    say = on_step or say_nothing
    with resuming(transport):
        say("holding the node")
        _hold(transport)
        say("reading files")
        tree = _list(transport)
        source = origin(transport, info)
        files: dict[str, bytes] = {}
        done, total = 0, sum(tree.files.values())
        for path in sorted(tree.files):
            Slots(transport).keep_held()
            try:
                files[path] = transport.get(path, shifted(progress, done, total))
            except HashMismatch:
                raise Damaged(path) from None
            done += tree.files[path]
    Slots(transport).release()
    return FileSystem(source, frozenset(tree.folders), files)


def restore(
    transport: Transport,
    info: BoardInfo,
    backup: FileSystem,
    *,
    with_trust: bool = False,
    fit: bool = False,
    progress: Progress | None = None,
    on_step: Step | None = None,
    greet_timeout: float = GREET_TIMEOUT,
) -> Restored:
    """Makes the board's files those of the backup: writes what differs, removes what it does not hold.

    `with_trust` brings keys and version floor to a board that trusts nobody; `fit` allows another file-system size.
    Raises ForeignBoard, Protected, NoRoom before anything is changed; Damaged, Full and what the transport raises
    after. What was written stays: the same call again goes on from there.
    """
    say = on_step or say_nothing
    slots = Slots(transport)
    with resuming(transport):
        say("comparing files")
        tree = _list(transport)
        _check_kind(backup, origin(transport, info), fit)
        _check_trust(transport, backup, tree, with_trust)
        say("holding the node")
        _hold(transport)
        work = _compare(transport, backup, tree)
        if work.starts_anew:
            say("removing files")
            _remove(transport, work.remove, "remove")
            _remove(transport, work.remove_folders, "rmdir")
        say("sending files")
        _make_folders(transport, backup.folders - tree.folders)
        _send(transport, backup, work.write, progress)
    slots.release()
    runs = None
    if ACTIVE in backup.files:
        say("waiting for the node")
        runs = NodeConnection(transport).greet(greet_timeout) != ""
    written = tuple(path for path in work.write if path in work.differing)
    return Restored(
        written=written,
        written_bytes=sum(len(backup.files[path]) for path in written),
        kept=len(backup.files) - len(written),
        removed=len(work.surplus) + len(work.remove_folders),
        runs=runs,
    )


def require_place(file: Path) -> Path:
    """Where a backup called `file` is to lie, links followed. Raises OSError for a folder, a device or a pipe, which no
    backup replaces, and where nothing can be written."""
    place = file.resolve()
    if place.exists() and not place.is_file():
        why = "it is a folder" if place.is_dir() else "it is a device or a pipe, which a backup does not replace"
        raise OSError(errno.EINVAL, why, str(file))
    if not place.parent.is_dir():
        raise OSError(errno.ENOENT, "there is no such folder", str(file.parent))
    if not os.access(place.parent, os.W_OK):
        raise OSError(errno.EACCES, "you may not write to this folder", str(file.parent))
    return place


def save(content: FileSystem, file: Path) -> int:
    """Writes the image, readable by its owner only, and reads it back; its bytes. Raises NoRoom, OSError, BadBackup."""
    image = encode(content)
    if decode(image, str(file)) != content:
        raise BadBackup(str(file), "it does not read back as it was written")
    place = require_place(file)
    descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)  # new, and mode 0600
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as made:
            made.write(image)
        partial.replace(place)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return len(image)


def load(file: Path) -> FileSystem:
    """What a backup holds, proved. Raises BadBackup, OSError."""
    return decode(file.read_bytes(), str(file))


def digests(transport: Transport) -> dict[str, str]:
    """The SHA-256 of every file on the board, as it computes them. The node should be held."""
    return Slots(transport).digests(sorted(_list(transport).files))


# --- looking ----------------------------------------------------------------------------------------------------------


def _hold(transport: Transport) -> None:
    """Holds the node; a board too full even for the order to hold is only interrupted."""
    try:
        Slots(transport).hold()
    except Full:
        transport.restart()


def _list(transport: Transport) -> Tree:
    """The board's files and folders, without what is of the moment. Names come as hex: they may hold anything."""
    tree = Tree()
    transport.exec(_AGENT)
    for line in transport.exec("_midge_tree()", timeout=60).splitlines():
        what, _, name = line.partition(" ")
        try:
            path = binascii.unhexlify(name).decode()
        except UnicodeDecodeError as error:
            shown = error.object.decode(errors="replace")
            raise BackupError(f"The name of {shown} on the board is no UTF-8.", "Rename or remove it.") from None
        if what == "d":
            tree.folders.add(path)
        elif path not in _TRANSIENT:
            tree.files[path] = int(what)
    return tree


def origin(transport: Transport, info: BoardInfo) -> Origin:
    """The board and its file system, as a backup names it."""
    transport.exec(_AGENT)
    kind = FAT if transport.exec("print(_midge_fat())").strip() == "True" else LITTLEFS
    return Origin(info.machine, info.platform, info.arch, kind, info.block_bytes, info.fs_total // info.block_bytes)


def _check_kind(backup: FileSystem, board: Origin, fit: bool) -> None:
    """Raises ForeignBoard, NoRoom."""
    source = backup.origin
    if (source.machine, source.platform, source.arch) != (board.machine, board.platform, board.arch):
        raise ForeignBoard(source, board)
    if source.kind != board.kind:
        raise ForeignBoard(source, board, "midge does not change the kind of a board's file system: format it first.")
    if (source.block_bytes, source.blocks) == (board.block_bytes, board.blocks):
        return
    if not fit:
        raise ForeignBoard(source, board, "With --fit only its files are taken, if the board has room for them.")
    blocks = sum(blocks_of(len(data), board.block_bytes) for data in backup.files.values())
    blocks += 2 * len(backup.folders) + _SPARE_BLOCKS
    if blocks > board.blocks:
        raise NoRoom(blocks * board.block_bytes, board.size)


def _check_trust(transport: Transport, backup: FileSystem, tree: Tree, with_trust: bool) -> None:
    """Raises Protected. Trust and floor stay as they are; on an adopted board the code that verifies does too."""
    adopted = TRUST in tree.files
    holds_node = any(path.startswith(f"{ROOT}/") for path in backup.files)
    deploy = "Run `midge deploy`: it signs what it sends."
    if TRUST in backup.files and not adopted and not with_trust:
        why = "The backup is of an adopted board, this one trusts nobody yet"
        raise Protected(why, "With --with-trust it gets the backup's keys and version floor.")
    for path, what in ((TRUST, "trusts other keys than the backup's"), (FLOOR, "has another version floor")):
        if path not in tree.files or not holds_node or (with_trust and not adopted):
            continue
        if not _same(transport, path, backup.files.get(path)):
            why = f"The board {what}: what it has outgrown would come back"
            raise Protected(why, deploy if adopted else "With --with-trust it gets the backup's floor.")
    for path, data in backup.files.items() if adopted and holds_node else ():
        guards = path == MAIN or path.startswith(PREFIX)
        if guards and path in tree.files and not _same(transport, path, data):
            raise Protected(f"The backup has another {path}, which verifies updates on an adopted board", deploy)


def _compare(transport: Transport, backup: FileSystem, tree: Tree) -> _Work:
    """What has to be done; the board hashes only files of the right size."""
    likely = [path for path, data in backup.files.items() if tree.files.get(path) == len(data)]
    there = Slots(transport).digests(likely)
    differing = {path for path, data in backup.files.items() if there.get(path) != digest_of(data)}
    kept = {path for path in (TRUST, FLOOR) if path in tree.files}
    surplus = set(tree.files) - set(backup.files) - kept
    return _Work(
        differing=differing,
        surplus=surplus,
        remove_folders=sorted(tree.folders - backup.folders - ({ROOT} if kept else set()), reverse=True),
        present=set(tree.files),
        held=set(backup.files),
    )


def _same(transport: Transport, path: str, data: bytes | None) -> bool:
    return data is not None and transport.sha256(path) == digest_of(data)


# --- changing ---------------------------------------------------------------------------------------------------------


def _remove(transport: Transport, paths: Iterable[Any], how: str) -> None:
    transport.exec(_AGENT)
    for path in paths:
        transport.exec(f"_midge_off(os.{how},{path!r})", timeout=30)


def _make_folders(transport: Transport, folders: Iterable[str]) -> None:
    transport.exec("import os")
    for folder in sorted(folders):
        transport.exec(f"os.mkdir({folder!r})", timeout=30)


def _send(transport: Transport, backup: FileSystem, order: list[str], progress: Progress | None) -> None:
    done, total = 0, sum(len(backup.files[path]) for path in order)
    for path in order:
        Slots(transport).keep_held()
        try:
            transport.put(path, backup.files[path], shifted(progress, done, total))
        except HashMismatch:
            raise Damaged(path) from None
        except Full as error:  # a file system full to the last block: wear levelling has taken two of them since
            raise NoRoom(total - done, max(0, min(error.free, total)), _FLASH_IT) from None
        done += len(backup.files[path])
