"""`midge keys`: the keys that sign updates."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins

from midgehost.cli.passphrase import FromFd, FromFile, passphrase

if TYPE_CHECKING:
    from midgehost.keys import KeyInfo

app = typer.Typer(help="The keys that sign updates.", no_args_is_help=True)


class _Alg(StrEnum):
    RS256 = "RS256"
    HS256 = "HS256"


_Name = Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")]
_Json = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.command()
def new(
    name: _Name,
    alg: Annotated[_Alg, typer.Option(help="RS256: a key pair. HS256: one secret, on the boards too.")] = _Alg.RS256,
    passphrase_file: FromFile = None,
    passphrase_fd: FromFd = None,
    as_json: _Json = False,
) -> None:
    """Make a key, encrypted with a passphrase. A board that was adopted with it takes no other updates."""
    from midgehost.keys import KeyStore

    store = KeyStore()
    store.require_free(name)
    made = store.new(name, alg.value, passphrase(passphrase_file, passphrase_fd, confirm=True))
    print(json.dumps(to_builtins(made)) if as_json else _line(made))


@app.command()
def rotate(
    name: _Name,
    alg: Annotated[_Alg | None, typer.Option(help="Of the new key; the old one's by default.")] = None,
    passphrase_file: FromFile = None,
    passphrase_fd: FromFd = None,
    as_json: _Json = False,
) -> None:
    """Make a key's successor, signed by it: boards that trust the old one follow with their next update."""
    from midgehost.keys import KeyStore

    store = KeyStore()
    store.find(name)
    made = store.rotate(name, passphrase(passphrase_file, passphrase_fd), alg.value if alg else None)
    print(json.dumps(to_builtins(made)) if as_json else _line(made))


@app.command("list")
def list_keys(as_json: _Json = False) -> None:
    """List the keys: nothing is opened, and nothing of it is secret."""
    from midgehost.keys import KeyStore

    keys = KeyStore().keys()
    if as_json:
        print(json.dumps([to_builtins(key) for key in keys]))
        return
    print("\n".join(map(_line, keys)) or "There is no key yet: midge keys new NAME")


def _line(key: KeyInfo) -> str:
    made = time.strftime("%Y-%m-%d", time.gmtime(key.made))
    before = f"  follows {key.rotated_from}" if key.rotated_from else ""
    after = f"  followed by {key.rotated_to}" if key.rotated_to else ""
    return f"{key.name:16}  {key.id}  {key.alg}  {made}{before}{after}"
