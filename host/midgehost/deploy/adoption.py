"""Adoption: a board gets the public half of a key over its cable, once, and takes signed updates only from then on."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from midgehost.deploy.base import make_base
from midgehost.deploy.probe import BoardInfo
from midgehost.deploy.progress import Step, say_nothing
from midgehost.deploy.protocol import resuming
from midgehost.deploy.slots import ROOT, TRUST, Slots
from midgehost.deploy.transport import Transport
from midgehost.errors import DeployError
from midgehost.keys import SigningKey, canonical

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")  # as the node file's


class Adopted(DeployError):
    """The board trusts somebody already."""

    code = "deploy.adopted"

    def __init__(self, node: str, keys: list[str]) -> None:
        self.node, self.keys = node, keys
        super().__init__(
            f"The board is adopted already, as {node!r}, and trusts {', '.join(keys)}.",
            "To adopt it anew, take everything off it first: midge remove --forget",
        )


class NoNodeName(DeployError):
    """An adopted board takes updates for one node only, and its name is not known."""

    code = "deploy.no_node_name"

    def __init__(self, name: str) -> None:
        self.name = name
        what = f"{name!r} cannot name a node." if name else "No node on the board tells its name."
        super().__init__(what, "Give the name that stands in its node.toml: --node NAME")


@dataclass(frozen=True)
class Adoption:
    """What an adoption did. `stranded`: a node was on the board; it is not signed, so it does not start any more."""

    node: str
    key: str
    alg: str
    stranded: bool


def adopt(
    transport: Transport,
    board: BoardInfo,
    key: SigningKey,
    node: str = "",
    *,
    force: bool = False,
    on_step: Step | None = None,
) -> Adoption:
    """Makes the board trust that key for updates of that node (by default the one that is on it).

    Raises Adopted, NoNodeName, ForeignMain and what the transport raises; then nothing has changed. Whatever else
    breaks it off, trust.json is what adopts, and it is written last.
    """
    say = on_step or say_nothing
    slots, base = Slots(transport), make_base(board)
    with resuming(transport):
        slots.check_main(force)
        say("holding the node")
        slots.hold()
        trust = slots.trust()
        if trust is not None:
            raise Adopted(trust["node"], [entry["id"] for entry in trust["keys"]])
        active = slots.active()
        name = node or _name_of(slots, active)
        if not _NAME.fullmatch(name):
            raise NoNodeName(name)
        say("installing the boot code")
        slots.send_base(base)
        slots.install_base(base, force)
        say("trusting the key")
        slots.replace(TRUST, canonical({"keys": [key.trusted()], "node": name, "serial": key.serial}))
        stranded = active is not None and not slots.passes(active, base)
    slots.release()
    return Adoption(name, key.id, key.alg, stranded)


def _name_of(slots: Slots, slot: str | None) -> str:
    """The name in a slot's node file; empty when there is none."""
    try:
        return str(json.loads(slots.text(f"{ROOT}/{slot}/node.json"))["name"]) if slot else ""
    except (ValueError, KeyError):
        return ""
