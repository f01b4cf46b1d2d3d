"""A node that runs, looked at and made again from what this midge has.

From that come the descriptions that `upgrade_plan` compares, and the payload that the signed deployment takes.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from midgehost.deploy.backup import digests, origin, restore
from midgehost.deploy.base import make_base
from midgehost.deploy.fs_image import FileSystem
from midgehost.deploy.manifest import FIRMWARE
from midgehost.deploy.modules import compile_modules, module_names
from midgehost.deploy.node_folder import build_payload
from midgehost.deploy.plan import Payload, digest_of
from midgehost.deploy.probe import BoardInfo
from midgehost.deploy.progress import Progress, Step
from midgehost.deploy.protocol import resuming
from midgehost.deploy.slots import MAIN, MARKS, ROOT, TRIAL, Slots
from midgehost.deploy.transport import Transport
from midgehost.deploy.upgrade_plan import Firmware, Found, Place, Version, Wanted
from midgehost.errors import BadBundle
from midgehost.models.bundle import Bundle
from midgehost.nodes.schema import SCHEMA

_BUNDLE_NAME = re.compile(r"([^/]+)-[0-9a-f]{12}\.midge$")
_WHERE_FILES_BEGIN = """
try:
 import esp32
 print(esp32.Partition.find(esp32.Partition.TYPE_DATA,label='vfs')[0].info()[2])
except Exception:print(-1)
"""


@dataclass(frozen=True)
class Node:
    """The node on a board: its description, and of its files those that an upgrade takes over."""

    found: Found
    node_json: bytes = b""
    bundles: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    modules: frozenset[str] = frozenset()  # dotted, those that this midge has
    unknown: frozenset[str] = frozenset()  # files that it has none for
    source: bool = False  # deployed as .py
    tools: tuple[str, ...] = ()  # what made the bundles, `midge 0.1.0`


def look(transport: Transport, info: BoardInfo) -> Node:
    """Reads what an upgrade has to know. The node is held meanwhile; it is held still when this returns."""
    slots = Slots(transport)
    slots.hold()
    disk = origin(transport, info)
    begin = int(transport.exec(_WHERE_FILES_BEGIN))
    found = Found(
        firmware=info.version,
        arch=info.arch,
        place=Place(disk.size, disk.kind, None if begin < 0 else begin),
        used=info.fs_total - info.fs_free,
        node="",
    )
    slot = slots.active()
    if slot is None or not slots.starts_nodes():
        return Node(found)
    node_json = slots.text(f"{ROOT}/{slot}/node.json").encode()
    modules = _modules(slots, f"{ROOT}/{slot}/lib/")
    bundles = {_name(path): transport.get(path) for path in slots.models_of(slot) if slots.exists(path)}
    missing = {_name(path): "it is not on the board" for path in slots.models_of(slot) if not slots.exists(path)}
    config = _config(node_json)
    names, unknown = module_names(modules)
    return Node(
        dataclasses.replace(
            found,
            node=str((config or {}).get("name") or slot),
            trial=bool(slots.text(TRIAL).strip()),
            schema=None if config is None else config.get("schema"),
            modules=modules,
            bundles=missing | {name: _why_unusable(data) for name, data in bundles.items()},
            base=digest_of(slots.text(MAIN).encode()),
        ),
        node_json=node_json,
        bundles=bundles,
        modules=frozenset(names),
        unknown=frozenset(unknown),
        source=any(path.endswith(".py") for path in modules),
        tools=tuple(sorted({tool for data in bundles.values() if (tool := _tool(data))})),
    )


def remade(node: Node, info: BoardInfo, folder: Path | None = None) -> Payload:
    """The node as this midge makes it for the board: from its folder, or from what is on the board with new modules.

    Raises NodeFileError, ModelError, CompileError, NotFound.
    """
    if folder is not None:
        return build_payload(folder, info, node.source)
    base = make_base(info)
    return Payload(
        node_json=node.node_json,
        lib=compile_modules(node.modules, info.arch, node.source),
        models=node.bundles,
        board=base.board or "any",
    )


def wanted(
    node: Node, info: BoardInfo, payload: Payload, folder: Path | None = None, firmware: Firmware | None = None
) -> Wanted:
    """What this midge would put in the node's place."""
    config = _config(payload.node_json) or {}
    return Wanted(
        schema=SCHEMA,
        modules={path: digest_of(data) for path, data in payload.lib.items()},
        base=digest_of(make_base(info).main),
        oldest=_version(FIRMWARE[0]),
        too_new=_version(FIRMWARE[1]),
        unknown=() if folder else tuple(node.unknown),
        firmware=firmware,
        folder_node=str(config.get("name", "")) if folder else None,
    )


def bring_back(
    transport: Transport,
    info: BoardInfo,
    backup: FileSystem,
    progress: Progress | None = None,
    on_step: Step | None = None,
) -> bool:
    """After new firmware: compares every file, and restores all when one is not what it was; whether it had to."""
    if on_step:
        on_step("comparing files")
    with resuming(transport):
        Slots(transport).hold()
        there = digests(transport)
        Slots(transport).release()
    if {path: there.get(path) for path in backup.files} == {path: digest_of(d) for path, d in backup.files.items()}:
        return False
    disk = dataclasses.replace(backup.origin, machine=info.machine, platform=info.platform, arch=info.arch)
    same_board = dataclasses.replace(backup, origin=disk)
    restore(transport, info, same_board, with_trust=True, fit=True, progress=progress, on_step=on_step)
    return True


def _modules(slots: Slots, lib: str) -> dict[str, str]:
    """{path below lib/: SHA-256}."""
    paths = [path for path in sorted(slots.files()) if path.startswith(lib) and not path.endswith(MARKS)]
    return {path.removeprefix(lib): digest for path, digest in slots.digests(paths).items()}


def _config(node_json: bytes) -> dict[str, Any] | None:
    try:
        config = json.loads(node_json)
    except ValueError:
        return None
    return cast(dict[str, Any], config) if isinstance(config, dict) else None


def _name(path: str) -> str:
    """A bundle's name from its path; the path itself where it is no path of ours."""
    match = _BUNDLE_NAME.search(path)
    return match[1] if match else path


def _why_unusable(bundle: bytes) -> str:
    try:
        Bundle.decode(bundle)
    except BadBundle as error:
        return error.why
    return ""


def _tool(bundle: bytes) -> str:
    try:
        return str(Bundle.decode(bundle).meta.get("tool", ""))
    except BadBundle:
        return ""


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))
