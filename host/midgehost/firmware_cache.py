"""Stock firmware images on this computer: `<cache>/firmware`, each beside a small JSON record.

An image's size and SHA-256 are recorded when it comes (or, for one that a person put there, when it is first seen), and
checked whenever it is used. Offline use needs nothing but this module.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from midgehost.boards import Board, FirmwareImage, all_boards
from midgehost.errors import FlashError, NotFound
from midgehost.resources import cache_dir, write_whole

_NAME: Final = re.compile(r"(?P<file>[A-Z0-9_]+(?:-[A-Z0-9_]+)?)-(?P<date>\d{8})-v(?P<version>\d[\w.-]*)\.(?:uf2|bin)")


@dataclass(frozen=True)
class Image:
    """A stock image in the cache. `sha256` in hex, `source` is the address or path that it came from."""

    path: Path
    file: str  # the start of its name, see boards.FirmwareImage
    version: str
    nbytes: int
    sha256: str
    source: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The image as `--json` prints it."""
        return {
            "path": str(self.path),
            "version": self.version,
            "bytes": self.nbytes,
            "sha256": self.sha256,
            "source": self.source,
        }


class ChangedImage(FlashError):
    """A cached image is not what it was when its hash was recorded."""

    code = "flash.changed_image"
    exit_code = 2

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path} has changed since it was recorded.",
            "Delete it, then run `midge firmware get BOARD`, or `midge firmware add FILE` if the change is yours.",
        )


def folder() -> Path:
    """Where the images lie."""
    return cache_dir() / "firmware"


def parse_name(name: str) -> tuple[str, str, str] | None:
    """(start, date, version) of a file name as micropython.org gives them, or None."""
    match = _NAME.fullmatch(name)
    return (match["file"], match["date"], match["version"]) if match else None


def age(version: str) -> tuple[tuple[int, ...], bool, str]:
    """Sorts versions: 1.9 before 1.10, a preview before its release."""
    numbers, _, rest = version.partition("-")
    return tuple(int(part) for part in re.findall(r"\d+", numbers)), not rest, rest


def of_board(board: Board, arch: str | None = None) -> list[Image]:
    """The board's images in the cache, newest first; for one arch only if it is given. Raises ChangedImage."""
    files = {image.file for image in board.firmware if arch in (None, image.arch)}
    return [image for image in all_images() if image.file in files]


def find(board: Board, version: str | None = None, arch: str | None = None) -> Image:
    """The cached image of that version (by default the newest release) for the board and arch (by default its first).

    Its SHA-256 has just been checked. Raises NotFound, saying how to get one, ChangedImage.
    """
    wanted = board.image(arch)
    found = [image for image in _in_cache(wanted) if version in (None, image.version)]
    if not found:
        which = f"{wanted.file} {version}" if version else wanted.file
        more = "" if version is None else f" --version {version}"
        raise NotFound(
            f"There is no stock image {which} in {folder()}.",
            f"Run `midge firmware get {board.name}{more}`, or `midge firmware add FILE`.",
        )
    return checked(found[0])


def board_of(file: str) -> tuple[Board, FirmwareImage] | None:
    """The board whose images' names start so."""
    for board in all_boards().values():
        for image in board.firmware:
            if image.file == file:
                return board, image
    return None


def all_images() -> list[Image]:
    """Every image in the cache: by board, newest first. Nothing is hashed but what has no record yet."""
    found: list[Image] = []
    for path in folder().glob("*"):
        parsed = parse_name(path.name)
        if parsed and path.is_file():
            found.append(_read(path, parsed[0], parsed[2]))
    found.sort(key=lambda image: (age(image.version), image.path.name), reverse=True)
    return sorted(found, key=lambda image: image.file)


def _in_cache(wanted: FirmwareImage) -> list[Image]:
    """Releases before previews, newest first."""
    found = [image for image in all_images() if image.file == wanted.file]
    return sorted(found, key=lambda image: age(image.version)[1], reverse=True)


def checked(image: Image) -> Image:
    """The image, its bytes held against its record. Raises ChangedImage."""
    data = image.path.read_bytes()
    if len(data) != image.nbytes or hashlib.sha256(data).hexdigest() != image.sha256:
        raise ChangedImage(image.path)
    return image


def store(name: str, data: bytes, source: str) -> Image:
    """Puts an image into the cache under a name that `parse_name` reads, whole or not at all, and records its hash."""
    parsed = parse_name(name)
    if parsed is None:
        raise ValueError(f"{name} is no name of a stock image")
    folder().mkdir(parents=True, exist_ok=True)
    path = folder() / name
    image = Image(path, parsed[0], parsed[2], len(data), hashlib.sha256(data).hexdigest(), source)
    _record_path(path).unlink(missing_ok=True)
    write_whole(path, data)
    _record(image)
    return image


def _read(path: Path, file: str, version: str) -> Image:
    try:
        known = json.loads(_record_path(path).read_text())
        return Image(path, file, version, int(known["bytes"]), str(known["sha256"]), str(known["source"]))
    except (OSError, ValueError, KeyError, TypeError):
        data = path.read_bytes()
        image = Image(path, file, version, len(data), hashlib.sha256(data).hexdigest())
        with suppress(OSError):  # a cache that may only be read
            _record(image)
        return image


def _record(image: Image) -> None:
    known = {"bytes": image.nbytes, "sha256": image.sha256, "source": image.source}
    write_whole(_record_path(image.path), json.dumps(known).encode())


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
