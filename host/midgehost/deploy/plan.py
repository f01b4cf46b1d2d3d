"""What a deployment has to do: what the board has, what it can copy itself, what must be sent, and whether it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from midgehost.deploy.base import PREFIX
from midgehost.deploy.slots import BOOKKEEPING, MARKS, ROOT, SLOTS, Slots, model_path

_SPARE_BLOCKS = 10  # a manifest; main.py and the bookkeeping with their twins while replaced; littlefs's own copies


@dataclass(frozen=True)
class Payload:
    """A node ready to be sent: `lib` is {path below lib/: content}, `models` {name: bundle}. `board` is the board of
    its node file."""

    node_json: bytes
    lib: Mapping[str, bytes]
    models: Mapping[str, bytes]
    board: str = "any"

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
    remove: list[str] = field(default_factory=list[str])  # leftovers in the new slot, models that nobody names
    needed: int = 0  # bytes of the file system that copies and sent files take
    reclaimed: int = 0  # bytes that removals give back

    @property
    def is_same(self) -> bool:
        """Whether the very same node is the active one: nothing has to prove itself."""
        return self.slot == self.active

    @property
    def send_bytes(self) -> int:
        """What goes over the line."""
        return sum(map(len, self.send.values()))


class _Present:
    """What the board has; it hashes only files of the right size."""

    def __init__(self, slots: Slots) -> None:
        self.sizes = slots.files()
        self._slots = slots
        self._digests: dict[str, str] = {}

    def holds(self, files: Mapping[str, bytes]) -> set[str]:
        """Those of these files that are there, with this content."""
        likely = [path for path, data in files.items() if self.sizes.get(path) == len(data)]
        self._digests |= self._slots.digests(path for path in likely if path not in self._digests)
        return {path for path in likely if self._digests[path] == digest_of(files[path])}


def digest_of(data: bytes) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(data).hexdigest()


def make_plan(
    slots: Slots,
    payload: Payload,
    block_bytes: int,
    base: Mapping[str, bytes] | None = None,
    renew: bool = False,
) -> Plan:
    """Compares the payload with what the board has; changes nothing. `base` are the files of the boot code. With
    `renew` the same node goes into the free slot all the same."""
    active = slots.active()
    present = _Present(slots)
    running = payload.files(active) if active else {}
    there = present.holds(running)
    if active and not renew and len(there) == len(running):
        plan = Plan(active, active)
    else:
        plan = Plan(active, SLOTS[1] if active == SLOTS[0] else SLOTS[0])
    wanted = {**payload.files(plan.slot), **(base or {})}
    there |= present.holds(wanted)
    for path, data in wanted.items():
        twin = path.replace(f"{ROOT}/{plan.slot}/", f"{ROOT}/{active}/", 1)
        if path in there:
            plan.keep.append(path)
        elif twin in there:
            plan.copy[path] = twin
        else:
            plan.send[path] = data
    if not plan.is_same:
        plan.remove = _leftovers(plan, present.sizes, slots.models_of(active) if active else set())
    _weigh(plan, present.sizes, wanted, block_bytes)
    return plan


def _leftovers(plan: Plan, present: Mapping[str, int], in_use: set[str]) -> list[str]:
    """Files that neither the active node nor the new one needs; what is known of a file stays with it."""
    stay = {*BOOKKEEPING, *plan.keep, *in_use}
    stay |= {path + mark for path in stay for mark in MARKS}
    folders = (PREFIX, f"{ROOT}/{plan.active}/")
    return [path for path in present if path not in stay and not path.startswith(folders)]


def _weigh(plan: Plan, present: Mapping[str, int], wanted: Mapping[str, bytes], block_bytes: int) -> None:
    """The space that the work takes and gives."""
    new = [*plan.copy, *plan.send]
    folders = {path.rpartition("/")[0] for path in new}
    blocks = sum(blocks_of(len(wanted[path]), block_bytes) for path in new) + 2 * len(folders) + _SPARE_BLOCKS
    plan.needed = blocks * block_bytes
    plan.reclaimed = sum(blocks_of(present[path], block_bytes) for path in plan.remove) * block_bytes


def blocks_of(size: int, block_bytes: int) -> int:
    """Blocks of a littlefs file of `size` bytes: each but the first begins with pointers to earlier ones.

    Their size is 4 bytes * (ctz(n) + 1), 8 on average (littlefs DESIGN.md, "CTZ skip-lists").
    """
    return max(1, -(-size // (block_bytes - 8)))
