"""What an update says of itself: canonical JSON, and the signature over exactly these bytes.

Line 1 is JSON in the form of RFC 8785, kept to what a board can check: keys sorted, no spaces, ASCII, integers below
2**53. Line 2 is `alg keyid base64(signature)`, or `none`. The board's side is `firmware/midge/update.py`; `parse` here
is as strict, so that the host sees what a board would refuse. `midgehost.keys.signed` joins the lines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import msgspec

from midgehost.deploy.plan import Payload
from midgehost.deploy.slots import model_path
from midgehost.errors import DeployError
from midgehost.keys import canonical

LIMIT: Final = 32768  # bytes of a manifest that a board reads
LARGEST: Final = 2**53 - 1  # RFC 7493, section 2.2
FIRMWARE: Final = ("1.23", "1.30")  # lowest, first not allowed: .mpy files of ABI 6.3, and what midge was tried with
_PATH: Final = re.compile(r"/midge/models/[\w.-]+|[\w.-]+(/[\w.-]+)*", re.ASCII)
_VERSION: Final = re.compile(r"(0|[1-9]\d{0,5})(\.(0|[1-9]\d{0,5})){0,2}", re.ASCII)


class BadManifest(DeployError):
    """A manifest that no board would take."""

    code = "deploy.bad_manifest"

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"This is no manifest that a board takes: {why}.", "Deploy the node again.")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Line 1. `files` is {path: (bytes, SHA-256 in hex)}, the path below the slot or /midge/models/...; `firmware` the
    lowest version and the first that is too new; `expires` Unix seconds; `arch` is empty for bytecode alone."""

    schema: int
    name: str
    board: str
    arch: str
    version: int
    firmware: tuple[str, str]
    files: dict[str, tuple[int, str]]
    expires: int | None = None

    def line(self) -> bytes:
        """The bytes that are signed. Raises BadManifest."""
        made = msgspec.to_builtins(self)
        line = canonical(made)
        _check(self, line)
        return line


@dataclass(frozen=True)
class Signature:
    """Line 2."""

    alg: str
    key_id: str
    value: bytes


def make(
    payload: Payload,
    *,
    name: str,
    board: str,
    arch: str | None,
    version: int,
    firmware: tuple[str, str] = FIRMWARE,
    expires: int | None = None,
) -> Manifest:
    """The manifest of a payload; `arch` is what the board reports. Raises BadManifest."""
    files = {model_path(name, data): data for name, data in payload.models.items()}
    files |= {f"lib/{path}": data for path, data in payload.lib.items()}
    files["node.json"] = payload.node_json
    made = Manifest(
        schema=1,
        name=name,
        board=board,
        arch=arch or "",
        version=version,
        firmware=firmware,
        files={path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in files.items()},
        expires=expires,
    )
    made.line()
    return made


def next_version(floor: int, now: float) -> int:
    """The version of an update made at `now` (Unix seconds) for a board that has confirmed `floor`: it must rise, also
    where the clock of an earlier host was ahead."""
    return max(int(now), floor + 1)


def parse(data: bytes) -> tuple[Manifest, Signature | None]:
    """Both lines, the signature None where it says `none`. It is not verified here. Raises BadManifest."""
    if len(data) > LIMIT:
        raise BadManifest(f"it has {len(data):,} bytes, more than {LIMIT:,}")
    lines = data.split(b"\n")
    if len(lines) != 3 or lines[2]:
        raise BadManifest("it is not two lines")
    try:
        made = msgspec.json.decode(lines[0], type=Manifest, strict=True)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadManifest(str(error)) from None
    if made.line() != lines[0]:
        raise BadManifest("its JSON is not canonical")
    return made, _signature(lines[1])


def _signature(mark: bytes) -> Signature | None:
    if mark == b"none":
        return None
    match = re.fullmatch(rb"(RS256|HS256) ([0-9a-f]{8}) (\S+)", mark)
    if match is None:
        raise BadManifest("its second line is no signature")
    alg, key_id, text = match.groups()
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        value = b""
    if base64.b64encode(value) != text:
        raise BadManifest("its signature is no base64")
    return Signature(alg.decode(), key_id.decode(), value)


def _check(made: Manifest, line: bytes) -> None:
    if made.schema != 1:
        raise BadManifest(f"it has schema {made.schema}, this midge writes 1")
    for what, number in (("version", made.version), ("expires", 1 if made.expires is None else made.expires)):
        if not 0 < number <= LARGEST:
            raise BadManifest(f"its {what} {number} is out of range")
    for version in made.firmware:
        if not _VERSION.fullmatch(version):
            raise BadManifest(f"{version!r} is no firmware version")
    for text in (made.name, made.board, made.arch):
        if not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
            raise BadManifest(f"{text!r} has characters that a manifest does not")
    for path, (length, digest) in made.files.items():
        if not _PATH.fullmatch(path) or {".", ".."} & set(PurePosixPath(path).parts) or "/./" in f"/{path}/":
            raise BadManifest(f"{path!r} is no path of a slot")
        if not 0 <= length <= LARGEST or not re.fullmatch("[0-9a-f]{64}", digest):
            raise BadManifest(f"{path} has no length and hash")
    if len(line) > LIMIT - 512:  # what the second line takes
        raise BadManifest(f"it has {len(line):,} bytes, a board reads {LIMIT:,}")
