"""Copy, verify, activate: a new node goes into the free slot and becomes the active one only when all of it is proved.

Until the rename that activates it, whatever breaks leaves the old node in place; after it, a node that does not greet
within its deadline is taken back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NoReturn

from midgehost.deploy.connection import CommandError, NodeConnection
from midgehost.deploy.modules import main_source
from midgehost.deploy.plan import Payload, Plan, make_plan
from midgehost.deploy.probe import BoardInfo
from midgehost.deploy.slots import MODELS, ROOT, Slots
from midgehost.deploy.transport import Progress, Transport
from midgehost.errors import Full, HashMismatch, LineDropped, MidgeError, NoConsole, Rejected, RemoteError, Timeout

GREET_TIMEOUT = 20.0  # s, from the reset to the new node's first record
_SELF_TEST_TIMEOUT = 120.0  # s, a bundle
_IMPORT_NODE = """
import sys,gc
for _n in list(sys.modules):
 if _n.split('.')[0]=='midge':del sys.modules[_n]
sys.path.insert(0,{lib!r})
import midge.node
from midge.errors import MidgeError
"""
_SELF_TEST = """
gc.collect()
from midge.inference import Model
try:
 _m=Model({path!r})
 print('failed',_m.self_test())
except MidgeError as e:
 print('refused',e.code,e.what)
_m=None
"""


@dataclass(frozen=True)
class Report:
    """What a deployment did."""

    slot: str
    sent: tuple[str, ...]  # paths on the board
    sent_bytes: int
    copied: int  # files that the board copied from the old slot
    kept: int  # files that were there already
    tested: int  # bundles whose self-test passed
    disabled: dict[str, Any]  # parts of the node that do not work (a silent sensor, a model too big): the reason


def deploy(
    transport: Transport,
    board: BoardInfo,
    payload: Payload,
    *,
    force: bool = False,
    progress: Progress | None = None,
    on_step: Callable[[str], None] | None = None,
    greet_timeout: float = GREET_TIMEOUT,
) -> Report:
    """Puts a node on a board and starts it. `progress` counts the bytes sent, `on_step` names what is done now.

    Raises NoConsole, ForeignMain, Full, HashMismatch, Rejected (self-test failed, or the node did not greet: the old
    one runs again) and what the transport raises. After a LineDropped the same call resumes: what has arrived stays.
    """
    say = on_step or _say_nothing
    if not transport.listens:
        raise NoConsole(transport.name)
    slots = Slots(transport)
    with resuming(transport):
        slots.check_main(force)
        say("holding the node")
        slots.hold()
        say("comparing files")
        plan = make_plan(transport, slots, payload, board.block_bytes)
        _check_space(transport, plan)
        slots.remove(plan.remove)
        say("sending files")
        _fill_slot(transport, slots, plan, progress)
        say("testing models")
        slots.restart()  # sending has scattered small objects over the heap, and it does not compact
        tested = _self_test(transport, plan.slot, payload)
        say("activating")
        slots.install_main(main_source(), force)
        slots.activate(plan.slot)
    slots.release()
    say("waiting for the node")
    connection = NodeConnection(transport)
    if not connection.greet(greet_timeout):
        _take_back(slots, plan, connection.last_words)
    if plan.collect:
        say("removing the old node")
        _collect(transport, slots, plan, greet_timeout)
    disabled = _disabled(transport)
    return Report(plan.slot, tuple(plan.send), plan.send_bytes, len(plan.copy), len(plan.keep), tested, disabled)


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


def remove(transport: Transport, on_step: Callable[[str], None] | None = None) -> int:
    """Takes everything off the board that midge put there, puts a kept main.py back; returns the files removed."""
    say = on_step or _say_nothing
    slots = Slots(transport)
    with resuming(transport):
        say("holding the node")
        slots.hold()
        say("removing files")
        count = len(slots.files())
        slots.restore_main()
        slots.remove([ROOT])
    transport.reset()
    return count


def _say_nothing(_: str) -> None:
    """Where nobody watches."""


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    """The progress of one file within that of all of them."""
    if progress is None:
        return None
    return lambda n, _: progress(done + n, total)


def _check_space(transport: Transport, plan: Plan) -> None:
    room = transport.free_bytes() + plan.reclaimed
    if plan.needed > room:
        raise Full(plan.needed, room)


def _fill_slot(transport: Transport, slots: Slots, plan: Plan, progress: Progress | None) -> None:
    """Copies on the board, then sends; `put` verifies what is sent, copies are verified here."""
    for target, source in plan.copy.items():
        slots.make_folders(target)
        slots.copy(source, target)
        if transport.sha256(target) != transport.sha256(source):
            raise HashMismatch(target)
    done, total = 0, plan.send_bytes
    for path, data in plan.send.items():
        slots.keep_held()
        transport.put(path, data, _shifted(progress, done, total))
        done += len(data)


def _self_test(transport: Transport, slot: str, payload: Payload) -> int:
    """Imports the new slot's node and runs every bundle's vectors with the new slot's kernels. Raises Rejected."""
    try:
        transport.exec(_IMPORT_NODE.format(lib=f"{ROOT}/{slot}/lib"), timeout=30)
        models = [path for path in payload.files(slot) if path.startswith(MODELS)]
        for path in models:
            words = transport.exec(_SELF_TEST.format(path=path), _SELF_TEST_TIMEOUT).strip().split(" ", 2)
            if words[0] == "refused":
                raise Rejected(f"{path} cannot be loaded: {words[2]} [{words[1]}]")
            if words != ["failed", "0"]:
                raise Rejected(f"{words[1]} self-test vectors of {path} came out wrong")
    except RemoteError as error:
        raise Rejected(error.traceback.strip().splitlines()[-1]) from None
    return len(models)


def _take_back(slots: Slots, plan: Plan, last_words: str) -> NoReturn:
    """The old node in place of one that did not greet. Raises Rejected."""
    slots.hold()
    old = plan.active if plan.active != plan.slot else None
    if old is None:
        slots.restore_main()
    slots.activate(old)
    slots.release()
    now = "The old node runs again." if old else "No node runs on the board now."
    raise Rejected(f"it did not start and said {last_words or 'nothing'!r}", now)


def _collect(transport: Transport, slots: Slots, plan: Plan, timeout: float) -> None:
    """Removes what only the old node needed. The new one is interrupted for that, and must greet again."""
    slots.remove(plan.collect)
    slots.release()
    if not NodeConnection(transport).greet(timeout):
        raise Timeout(transport.name, "starting the node again", timeout)


def _disabled(transport: Transport) -> dict[str, Any]:
    """What the running node says it cannot do; nothing when it is too busy to say."""
    try:
        return NodeConnection(transport).command("status").get("disabled", {})
    except (Timeout, CommandError):
        return {}
