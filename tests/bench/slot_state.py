"""What a board has in its slots, held against its manifests from outside: the board's own check takes no part."""

from __future__ import annotations

import dataclasses
import re

from midgehost.deploy.manifest import Manifest, parse
from midgehost.deploy.plan import Payload
from midgehost.deploy.slots import MARKS, MODELS, ROOT, TRIAL, Slots
from midgehost.deploy.transport import SerialTransport


def quick(payload: Payload, confirm_ms: int = 200, boots: int = 3) -> Payload:
    """The same node, sooner sure of itself."""
    update = f'"update": {{"confirm_ms": {confirm_ms}, "boots": {boots}}}'
    text = re.sub(r'"update": ?\{[^}]*\}', update, payload.node_json.decode())
    assert update in text
    return dataclasses.replace(payload, node_json=text.encode())


def manifest_of(line: SerialTransport, slot: str) -> Manifest:
    return parse(line.get(f"{ROOT}/{slot}/manifest"))[0]


def mixed(line: SerialTransport, slot: str) -> list[str]:
    """The files of a slot that are not those of its manifest, and those that it has not; a whole slot has none."""
    wanted = {
        path if path.startswith("/") else f"{ROOT}/{slot}/{path}": entry
        for path, entry in manifest_of(line, slot).files.items()
    }
    present = Slots(line).files()
    marks = {path + mark for path in wanted for mark in MARKS}
    found = [path for path in present if path.startswith(f"{ROOT}/{slot}/")]
    strange = [path for path in found if path not in wanted and path not in marks and not path.endswith("/manifest")]
    strange += [path for path, (length, _) in wanted.items() if present.get(path) != length]
    digests = Slots(line).digests(path for path in wanted if path in present)
    return strange + [path for path, digest in digests.items() if digest != wanted[path][1]]


def holds(line: SerialTransport, payload: Payload, slot: str) -> bool:
    """Whether that slot is the active one, whole, and exactly this payload; and nothing is left on trial."""
    slots = Slots(line)
    wanted = {path.removeprefix(f"{ROOT}/{slot}/") for path in payload.files(slot)}
    made = manifest_of(line, slot)
    config = payload.files(slot)[f"{ROOT}/{slot}/node.json"]
    return (
        slots.active() == slot
        and not slots.exists(TRIAL)
        and mixed(line, slot) == []
        and set(made.files) == wanted
        and line.get(f"{ROOT}/{slot}/node.json") == config
    )


def models(line: SerialTransport) -> set[str]:
    """The bundles that lie on the board."""
    return {path for path in Slots(line).files() if path.startswith(MODELS) and not path.endswith(MARKS)}
