"""What a deployment has to do: what the board has, what it can copy itself, what must be sent, and whether it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from midgehost.deploy.slots import ACTIVE, HOLD, ROOT, SLOTS, Slots, model_path
from midgehost.deploy.transport import Transport

_SPARE_BLOCKS = 6  # main.py, active and hold with their twins while they are replaced; littlefs's own copies


@dataclass(frozen=True)
class Payload:
    """A node ready to be sent: `lib` is {path below lib/: content}, `models` {name: bundle}."""

    node_json: bytes
    lib: Mapping[str, bytes]
    models: Mapping[str, bytes]

    def files(self, slot: str) -> dict[str, bytes]:
        """Everything by its path on the board, when it goes into that slot."""
        files = {model_path(name, data): data for name, data in self.models.items()}
        files |= {f"{ROOT}/{slot}/lib/{path}": data for path, data in self.lib.items()}
        return files | {f"{ROOT}/{slot}/node.json": self.node_json}


@dataclass
class Plan:
    """The work, by path on the board. `slot` is the active one when the board has the very same node already."""

    active: str | None
    slot: str
    keep: list[str] = field(default_factory=list[str])
    copy: dict[str, str] = field(default_factory=dict[str, str])  # target: source
    send: dict[str, bytes] = field(default_factory=dict[str, bytes])
    remove: list[str] = field(default_factory=list[str])  # before: leftovers in the new slot, models that nobody names
    collect: list[str] = field(default_factory=list[str])  # after: what only the old node needs
    needed: int = 0  # bytes of the file system that copies and sent files take
    reclaimed: int = 0  # bytes that removals give back

    @property
    def send_bytes(self) -> int:
        """What goes over the line."""
        return sum(map(len, self.send.values()))


def make_plan(transport: Transport, slots: Slots, payload: Payload, block_bytes: int) -> Plan:
    """Compares the payload with what the board has; changes nothing. The board hashes only files of the right size."""
    active = slots.active()
    present = slots.files()
    digests: dict[str, str] = {}

    def has(path: str, data: bytes) -> bool:
        if present.get(path) != len(data):
            return False
        if path not in digests:
            digests[path] = transport.sha256(path)
        return digests[path] == hashlib.sha256(data).hexdigest()

    if active and all(has(path, data) for path, data in payload.files(active).items()):
        plan = Plan(active, active, keep=list(payload.files(active)))
        plan.remove = [path for path in present if path not in {ACTIVE, HOLD, *plan.keep}]
        return plan
    plan = Plan(active, SLOTS[1] if active == SLOTS[0] else SLOTS[0])
    wanted = payload.files(plan.slot)
    for path, data in wanted.items():
        twin = path.replace(f"{ROOT}/{plan.slot}/", f"{ROOT}/{active}/", 1)
        if has(path, data):
            plan.keep.append(path)
        elif has(twin, data):
            plan.copy[path] = twin
        else:
            plan.send[path] = data
    _weigh(plan, present, slots.models_of(active) if active else set(), wanted, block_bytes)
    return plan


def _weigh(plan: Plan, present: dict[str, int], in_use: set[str], wanted: dict[str, bytes], block_bytes: int) -> None:
    """What goes before and after, and the space that all of it takes and gives."""
    active = f"{ROOT}/{plan.active}"
    new = [*plan.copy, *plan.send]
    folders = {path.rpartition("/")[0] for path in new}
    blocks = sum(blocks_of(len(wanted[path]), block_bytes) for path in new) + 2 * len(folders) + _SPARE_BLOCKS
    plan.needed = blocks * block_bytes
    plan.remove = [
        path
        for path in present
        if path not in {ACTIVE, HOLD, *plan.keep, *in_use} and not path.startswith(f"{active}/")
    ]
    plan.reclaimed = sum(blocks_of(present[path], block_bytes) for path in plan.remove) * block_bytes
    if plan.active:
        plan.collect = [active, *sorted(in_use - set(wanted))]


def blocks_of(size: int, block_bytes: int) -> int:
    """Blocks of a littlefs file of `size` bytes: each but the first begins with pointers to earlier ones.

    Their size is 4 bytes * (ctz(n) + 1), 8 on average (littlefs DESIGN.md, "CTZ skip-lists").
    """
    return max(1, -(-size // (block_bytes - 8)))
