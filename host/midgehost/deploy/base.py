"""The boot code that lies on a board outside of its slots, and the main.py that starts it.

It chooses the slot and proves it, so no slot may bring it along. Its folder's name holds its hash: a new one is written
beside the old one, and the rename of main.py is what puts it in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from midgehost.deploy.modules import compile_modules, main_source
from midgehost.deploy.probe import BoardInfo

PREFIX = "/midge/base-"

_MODULES = ("boot",)
_FOLDER_HERE, _NAMES_HERE = '"/midge/base"', "choose(None)"  # in firmware/midge/main.py


@dataclass(frozen=True)
class Base:
    """`files` by path on the board; `board` is the name that the board is sent updates under, None where no board file
    fits it: then it does not look at the name."""

    folder: str
    files: Mapping[str, bytes]
    board: str | None

    @property
    def main(self) -> bytes:
        """The board's /main.py."""
        names = None if self.board is None else [self.board]
        source = main_source().decode()
        return source.replace(_FOLDER_HERE, f'"{self.folder}"').replace(_NAMES_HERE, f"choose({names!r})").encode()

    def enter(self) -> str:
        """Code after which `midge` is this base."""
        return (
            "import sys\nfor _n in list(sys.modules):\n if _n.split('.')[0]=='midge':del sys.modules[_n]\n"
            f"sys.path.insert(0,{self.folder!r})\n"
        )

    @staticmethod
    def leave() -> str:
        """Code that undoes `enter`."""
        return "sys.path.pop(0)\nfor _n in list(sys.modules):\n if _n.split('.')[0]=='midge':del sys.modules[_n]\n"


def make_base(info: BoardInfo) -> Base:
    """The boot code for the board that answered: bytecode, which every board runs."""
    modules = compile_modules(_MODULES, None)
    digest = hashlib.sha256()
    for path, data in sorted(modules.items()):
        digest.update(path.encode() + b"\0" + hashlib.sha256(data).digest())
    folder = PREFIX + digest.hexdigest()[:8]
    return Base(
        folder, {f"{folder}/{path}": data for path, data in modules.items()}, info.board.name if info.board else None
    )
