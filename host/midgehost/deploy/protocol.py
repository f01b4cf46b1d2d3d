"""Copy, verify, test, try: a new node goes into the free slot, and the board itself decides that it stays.

Until the slot is put on trial, whatever breaks leaves the old node in place; from then on the new one has to confirm
itself (firmware/midge/boot.py), or the board goes back to the old one and says why.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from midgehost.deploy import manifest
from midgehost.deploy.base import Base, make_base
from midgehost.deploy.connection import CommandError, NodeConnection
from midgehost.deploy.plan import Payload, Plan, make_plan
from midgehost.deploy.probe import BoardInfo
from midgehost.deploy.progress import Progress, Step, say_nothing, shifted
from midgehost.deploy.signing import Credentials, Signer, nobody
from midgehost.deploy.slots import FLOOR, MODELS, ROOT, TRUST, Slots
from midgehost.deploy.transport import Transport
from midgehost.deploy.trial import NotStarted, await_verdict, terms
from midgehost.errors import Full, HashMismatch, LineDropped, MidgeError, Rejected, RemoteError, Timeout
from midgehost.keys import signed

GREET_TIMEOUT = 20.0  # s, from the reset to the new node's first record
_IMPORT_TIMEOUT = 30.0
_SELF_TEST_TIMEOUT = 120.0  # s, a bundle
_IMPORT_NODE = """
{enter}
from midge.trial import watchdog
_w=watchdog()
_feed=_w.feed if _w else None
{leave}
import gc
gc.collect()
sys.path.insert(0,{lib!r})
import midge.node
from midge.errors import MidgeError
"""
_SELF_TEST = """
gc.collect()
from midge.inference import Model
try:
 _m=Model({path!r},breathe=_feed)
 print('failed',_m.self_test(_feed))
except MidgeError as e:
 print('refused',e.code,e.what)
_m=None
if _feed:_feed()
"""


@dataclass(frozen=True)
class Report:
    """What a deployment did."""

    slot: str
    version: int
    confirmed: bool  # False: it runs, on trial
    signed_by: str | None  # the key's id
    sent: tuple[str, ...]  # paths on the board
    sent_bytes: int
    copied: int  # files that the board copied from the old slot
    kept: int  # files that were there already
    tested: int  # bundles whose self-test passed
    disabled: dict[str, Any]  # parts of the node that do not work: the reason


@dataclass(frozen=True)
class Terms:
    """How an update is made: its version (None: the next), when it expires (Unix seconds), what signs it for an adopted
    board, and whether to wait until it has confirmed itself."""

    version: int | None = None
    expires: int | None = None
    signer: Signer = nobody
    confirm: bool = True

    @property
    def renews(self) -> bool:
        """Whether the very same node has to be deployed again."""
        return self.version is not None or self.expires is not None


def deploy(
    transport: Transport,
    board: BoardInfo,
    payload: Payload,
    terms: Terms | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    on_step: Step | None = None,
    greet_timeout: float = GREET_TIMEOUT,
) -> Report:
    """Puts a node on a board and starts it. `progress` counts the bytes sent, `on_step` names what is done now.

    Raises ForeignMain, NoTrustedKey, Full, HashMismatch, Refused, Rejected (self-test failed, FellBack, NotStarted: the
    old one runs again), Unconfirmed and what the transport raises. After a LineDropped the same call resumes: what has
    arrived stays.
    """
    work = _Deployment(transport, board, payload, terms or Terms(), progress, on_step or say_nothing)
    with resuming(transport):
        work.prepare(force)
    return work.run(greet_timeout)


class _Deployment:
    """One deployment: `prepare` while the board is held, then `run`."""

    def __init__(
        self,
        transport: Transport,
        board: BoardInfo,
        payload: Payload,
        terms: Terms,
        progress: Progress | None,
        say: Step,
    ) -> None:
        self._transport, self._board, self._payload, self._terms = transport, board, payload, terms
        self._progress, self._say = progress, say
        self._slots = Slots(transport)
        self._base = make_base(board)
        self._credentials: Credentials | None = None
        self._version = 0
        self._tested = 0

    def prepare(self, force: bool) -> None:
        """All that can fail while the old node still stands."""
        slots, say = self._slots, self._say
        slots.check_main(force)
        say("holding the node")
        slots.hold()
        trust = slots.trust()
        if trust is not None:
            self._credentials = self._terms.signer([key["id"] for key in trust["keys"]])
        say("comparing files")
        self._plan = self._make_plan(self._terms.renews)
        self._send()
        if self._plan.is_same and not self._slots.passes(self._plan.slot, self._base):  # adopted after it was deployed
            self._plan = self._make_plan(True)
            self._send()
        self._rotate_keys()
        if not self._plan.is_same:
            self._write_manifest()
        say("verifying on the board")
        if self._terms.expires is not None:
            slots.set_clock()
        slots.restart()  # sending has scattered small objects over the heap, and it does not compact
        slots.check(self._plan.slot, self._base)
        say("testing models")
        self._tested = _self_test(self._transport, self._base, self._plan.slot, self._payload)
        slots.hold_again()
        say("activating")
        slots.install_base(self._base, force)
        if not self._plan.is_same:
            slots.arm(self._plan.slot, terms(self._payload)[1])

    def run(self, greet_timeout: float) -> Report:
        """Starts the node, and waits for what becomes of it."""
        self._slots.release()
        plan = self._plan
        if plan.is_same:
            self._say("waiting for the node")
            status = _greeted(self._transport, greet_timeout)
        else:
            self._say("waiting for the node to confirm itself" if self._terms.confirm else "waiting for the node")
            confirm_s, _ = terms(self._payload)
            status = await_verdict(
                self._transport,
                self._version,
                greet_s=greet_timeout,
                confirm_s=confirm_s,
                confirm=self._terms.confirm,
            )
        update = status.get("update") or {}
        return Report(
            slot=plan.slot,
            version=update.get("version", self._version),
            confirmed=update.get("state") != "trial",
            signed_by=self._credentials.key.id if self._credentials else None,
            sent=tuple(plan.send),
            sent_bytes=plan.send_bytes,
            copied=len(plan.copy),
            kept=len(plan.keep),
            tested=self._tested,
            disabled=status.get("disabled", {}),
        )

    def _make_plan(self, renew: bool) -> Plan:
        plan = make_plan(self._slots, self._payload, self._board.block_bytes, self._base.files, renew)
        _check_space(self._transport, plan)
        return plan

    def _send(self) -> None:
        """Fills the free slot. What was on trial there is over."""
        self._slots.disarm()
        self._slots.remove(self._plan.remove)
        if not self._plan.is_same:
            self._slots.prune(f"{ROOT}/{self._plan.slot}")
        self._say("sending files")
        _fill_slot(self._transport, self._slots, self._plan, self._progress)

    def _rotate_keys(self) -> None:
        for statement in self._credentials.statements if self._credentials else ():
            self._slots.accept_keys(self._base, statement)

    def _write_manifest(self) -> None:
        asked, floor = self._terms.version, self._slots.version_floor()
        self._version = manifest.next_version(floor, time.time()) if asked is None else asked
        made = manifest.make(
            self._payload,
            name=json.loads(self._payload.node_json).get("name", ""),
            board=self._base.board or self._payload.board,
            arch=self._board.arch,
            version=self._version,
            expires=self._terms.expires,
        )
        key = self._credentials.key if self._credentials else None
        self._slots.write_manifest(self._plan.slot, signed(made.line(), key))


@contextlib.contextmanager
def resuming(transport: Transport) -> Generator[None]:
    """When the block fails, what the board ran before starts again: talking to a board has stopped it."""
    try:
        yield
    except (LineDropped, Timeout):  # nobody is there to be told; a held board starts its node again by itself
        raise
    except BaseException:  # Ctrl-C as well
        with contextlib.suppress(MidgeError):
            Slots(transport).release()
        raise


@dataclass(frozen=True)
class Removed:
    """What a removal did: files taken away; whether the board stays adopted."""

    files: int
    adopted: bool


def remove(transport: Transport, on_step: Step | None = None, *, forget: bool = False) -> Removed:
    """Takes everything off the board that midge put there, and puts a kept main.py back.

    An adopted board keeps its keys and version floor, so that it stays adopted; not with `forget`.
    """
    say = on_step or say_nothing
    slots = Slots(transport)
    with resuming(transport):
        say("holding the node")
        slots.hold()
        say("removing files")
        present = set(slots.files())
        stay = {TRUST, FLOOR} & present if TRUST in present and not forget else set[str]()
        slots.restore_main()
        slots.remove(sorted(present - stay))
        slots.prune(ROOT)
        if not stay:
            slots.remove([ROOT])
    transport.reset()
    return Removed(len(present) - len(stay), bool(stay))


def _check_space(transport: Transport, plan: Plan) -> None:
    room = transport.free_bytes() + plan.reclaimed
    if plan.needed > room:
        raise Full(plan.needed, room)


def _fill_slot(transport: Transport, slots: Slots, plan: Plan, progress: Progress | None) -> None:
    """Copies on the board, then sends; `put` verifies what is sent, copies are verified here."""
    for folder in sorted({path.rpartition("/")[0] for path in plan.copy}):
        slots.make_folders(f"{folder}/")
    for target, source in plan.copy.items():
        slots.copy(source, target)
    digests = slots.digests([*plan.copy, *plan.copy.values()])
    for target, source in plan.copy.items():
        if digests[target] != digests[source]:
            raise HashMismatch(target)
    done, total = 0, plan.send_bytes
    for path, data in plan.send.items():
        slots.keep_held()
        transport.put(path, data, shifted(progress, done, total))
        done += len(data)


def _self_test(transport: Transport, base: Base, slot: str, payload: Payload) -> int:
    """Imports the new slot's node and runs every bundle's vectors with the new slot's kernels. Raises Rejected.

    The board's watchdog runs, and is fed between kernels: code that never returns gives the board back to its old node.
    """
    models = [path for path in payload.files(slot) if path.startswith(MODELS)]
    code = _IMPORT_NODE.format(enter=base.enter(), leave=base.leave(), lib=f"{ROOT}/{slot}/lib")
    try:
        transport.exec(code, _IMPORT_TIMEOUT)
        for path in models:
            words = transport.exec(_SELF_TEST.format(path=path), _SELF_TEST_TIMEOUT).strip().split(" ", 2)
            if words[0] == "refused":
                raise Rejected(f"{path} cannot be loaded: {words[2]} [{words[1]}]")
            if words != ["failed", "0"]:
                raise Rejected(f"{words[1]} self-test vectors of {path} came out wrong")
    except RemoteError as error:
        raise Rejected(error.traceback.strip().splitlines()[-1]) from None
    except Timeout:
        raise Rejected("its self-test came to no end") from None
    return len(models)


def _greeted(transport: Transport, timeout: float) -> dict[str, Any]:
    """The status of the node that runs anyway; empty when it is too busy to say. Raises NotStarted."""
    connection = NodeConnection(transport)
    if not connection.greet(timeout):
        raise NotStarted(connection.last_words, node_runs=False)
    try:
        return connection.command("status")
    except (Timeout, CommandError):
        return {}
