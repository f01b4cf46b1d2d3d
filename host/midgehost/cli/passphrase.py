"""Where the passphrase of a signing key comes from. Never from the command line: other users can read that."""

from __future__ import annotations

import getpass
import os
import stat
import sys
from pathlib import Path
from typing import Annotated

import typer

from midgehost.keys import Exposed, NoPassphrase

ENVIRONMENT = "MIDGE_KEY_PASSPHRASE"
_LIMIT = 4096  # bytes

FromFile = Annotated[Path | None, typer.Option("--passphrase-file", help="A file whose first line is the passphrase.")]
FromFd = Annotated[int | None, typer.Option("--passphrase-fd", help="A file descriptor to read it from.")]


def passphrase(file: Path | None = None, fd: int | None = None, *, confirm: bool = False) -> str:
    """From the file, the descriptor, MIDGE_KEY_PASSPHRASE, or the terminal (asked twice with `confirm`): the first one
    there is. Raises NoPassphrase, Exposed for a file that others can read, OSError."""
    if file is not None:
        return _first_line(os.open(file, os.O_RDONLY), str(file))
    if fd is not None:
        return _first_line(fd, f"file descriptor {fd}")
    if ENVIRONMENT in os.environ:
        return _usable(os.environ[ENVIRONMENT], f"and {ENVIRONMENT} is empty")
    if not sys.stdin.isatty():
        raise NoPassphrase("and there is no terminal to ask on")
    answer = _usable(getpass.getpass("Passphrase of the key: "), "and this was an empty one")
    if confirm and getpass.getpass("Once more: ") != answer:
        raise NoPassphrase("and the two differ")
    return answer


def _first_line(fd: int, name: str) -> str:
    with os.fdopen(fd, "rb") as source:
        status = os.fstat(source.fileno())
        if os.name == "posix" and stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            raise Exposed(Path(name), "600")
        line = source.read(_LIMIT).splitlines()[:1]
    return _usable(b"".join(line).decode("utf-8", "surrogateescape"), f"and {name} is empty")


def _usable(answer: str, why: str) -> str:
    if not answer:
        raise NoPassphrase(why)
    return answer
