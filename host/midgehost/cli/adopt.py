"""`midge adopt`: a board trusts a key, once, and takes updates that it has signed and no others."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from midgehost.cli.passphrase import FromFd, FromFile, passphrase
from midgehost.cli.port import PortOption
from midgehost.errors import Ambiguous

if TYPE_CHECKING:
    from midgehost.keys import KeyInfo


def command(
    port: PortOption = "",
    key: Annotated[
        str, typer.Option("--key", help="A key of `midge keys list`; may be left out if it is the one.")
    ] = "",
    node: Annotated[str, typer.Option("--node", help="The node's name, if none is on the board yet.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Keep a main.py of your own as main.py.bak.")] = False,
    passphrase_file: FromFile = None,
    passphrase_fd: FromFd = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Make a board trust your key. From then on it refuses unsigned, older and foreign updates."""
    from midgehost import connect
    from midgehost.deploy.adoption import adopt
    from midgehost.deploy.protocol import resuming
    from midgehost.keys import KeyStore

    store = KeyStore()
    name = key or _only_key(store.keys())
    opened = store.open(name, passphrase(passphrase_file, passphrase_fd))
    with connect(port) as board:
        with resuming(board.transport):
            info = board.info
        done = adopt(board.transport, info, opened, node, force=force)
    if as_json:
        print(json.dumps({"port": port, **asdict(done)}))
        return
    print(f"{port}: takes updates of {done.node} only, signed by {opened.name} ({done.alg} {done.key})")
    if done.alg == "HS256":
        print("An HS256 key is a secret that both sides hold: who reads this board's flash can sign for it.")
    if done.stranded:
        print("The node on it is not signed and does not start any more: deploy it again.")


def _only_key(keys: list[KeyInfo]) -> str:
    from midgehost.keys import NoKey

    names = sorted({key.name for key in keys})
    if len(names) > 1:
        raise Ambiguous("the key", names)
    if not names:
        raise NoKey("", [])
    return names[0]
