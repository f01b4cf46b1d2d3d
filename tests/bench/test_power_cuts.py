"""Cuts of power inside a flash write, and of the line: the file system mounts, what was committed is intact, and either
the old node runs or the new one."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cuts import Scissors, small_node
from littlefs import LittleFS
from slot_state import manifest_of, mixed

from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.plan import Payload
from midgehost.deploy.probe import BoardInfo, probe
from midgehost.deploy.protocol import Terms, _Deployment, deploy
from midgehost.deploy.slots import Slots
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import MidgeError, Timeout
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.power import PowerCut, Torn

_WRITES = 160  # of the loop, in which the cut falls
_LOOP = """
import os
n=0
while n<400:
 n+=1
 with open('new','w') as f:f.write(str(n)*300)
 os.rename('new','data')
 if n%8==0:print(n)
"""
_CHECK = """
import os
text=open('data').read() if 'data' in os.listdir() else ''
n=text[:len(text)//300]
print('whole' if text==n*300 else 'torn',n or 0,open('kept').read())
"""


def cut(folder: Path, seed: int) -> tuple[PowerCut, Torn, str]:
    """One board that loses its power while it writes and renames; what the next boot finds."""
    with VirtualBoard(folder / f"{seed}.img") as board:
        with SerialTransport(board.path) as line:
            line.put("/kept", b"committed before")
        planned = PowerCut.seeded(seed, _WRITES)
        board.power_cycle(planned)
        board.wait_ready()
        with SerialTransport(board.path) as line:
            line._enter()
            with line._operation("writing until the power goes", 30):
                line._repl.exec_raw_no_follow(_LOOP)
            assert board.wait_off(30), "the cut never came"
        (torn,) = board.torn
        board.power_cycle()
        assert board.wait_ready()
        with SerialTransport(board.path) as line:
            return planned, torn, line.exec(_CHECK).strip()


@pytest.mark.parametrize("seed", range(4))
def test_cut_inside_a_block_write(tmp_path: Path, seed: int) -> None:
    _, torn, found = cut(tmp_path, seed)
    assert 0 <= torn.kept < torn.length
    assert found.startswith("whole ") and found.endswith("committed before")


@pytest.mark.soak
def test_25_cuts(tmp_path: Path) -> None:
    print("\n| seed | write | offset | length | kept | file system |\n|---|---|---|---|---|---|")
    for seed in range(100, 125):
        planned, torn, found = cut(tmp_path, seed)
        print(f"| {seed} | {planned.write} | {torn.offset} | {torn.length} | {torn.kept} | mounted, {found} |")
        assert found.startswith("whole ") and found.endswith("committed before")


# --- the bookkeeping of a trial ---------------------------------------------------------------------------------------


class Trial:
    """A board at the moment before an update's first start, to which every cut goes back."""

    def __init__(self, board: VirtualBoard, new: Payload, boots: int) -> None:
        self.board = board
        with SerialTransport(board.path) as line:
            info = probe(line)
            self.old = deploy(line, info, small_node("red")).version
            work = _Deployment(line, info, new, Terms(), None, lambda _: None)
            work.prepare(force=False)
            Slots(line).arm("b", boots)
            self.new = manifest_of(line, "b").version
        board.cut_power()
        self._flash = board.flash.read_bytes()
        self._torn = 0

    def begin(self, cut: PowerCut) -> None:
        """Gives power, and takes it away in the middle of that write."""
        self.board.cut_power()
        self.board.flash.write_bytes(self._flash)
        self.board.power_cycle(cut)

    def settle(self) -> dict[str, Any] | None:
        """What the running node says of its update once it is no more on trial; None when the power went before."""
        end = time.monotonic() + 20
        with SerialTransport(self.board.path) as line:
            node = NodeConnection(line)
            while len(self.board.torn) == self._torn:
                assert time.monotonic() < end, node.last_words
                try:
                    if node.greet(0.3):
                        update = node.command("status", timeout=1)["update"]
                        if update["state"] != "trial":
                            return update
                except Timeout:
                    pass
        self._torn = len(self.board.torn)
        return None

    def bookkeeping(self) -> dict[str, str | None]:
        """What the flash holds, as another implementation of littlefs reads it."""
        disk: Any = LittleFS(block_size=4096, block_count=self.board.flash.stat().st_size // 4096, mount=False)
        disk.context.buffer = bytearray(self.board.flash.read_bytes())
        disk.mount()
        found: dict[str, str | None] = {}
        for name in ("active", "trial", "floor", "fallback"):
            try:
                with disk.open(f"/midge/{name}") as file:
                    found[name] = file.read()
            except FileNotFoundError:
                found[name] = None
        return found

    def check(self, now: dict[str, str | None]) -> None:
        """Every file is one of those that it may be, whole."""
        assert now["active"] in ("a", "b")
        assert now["floor"] in (str(self.old), str(self.new))
        assert now["trial"] is None or re.fullmatch("b [0-3]( run)?", now["trial"])
        if now["fallback"] is not None:
            failed = json.loads(now["fallback"])
            assert (failed["slot"], failed["version"]) == ("b", self.new)


def cut_a_trial(new: Payload, boots: int, state: str, *, step: int, shares: tuple[int, ...]) -> int:
    """Tears every `step`-th write of a trial after each of those shares; the number of cuts. However it is cut, the
    next boots end in that state, and stay there."""
    with VirtualBoard() as board:
        trial = Trial(board, new, boots)
        version, failed = (trial.new, 0) if state == "confirmed" else (trial.old, trial.new)
        for cuts in range(1000):
            cut = PowerCut(1 + cuts // len(shares) * step, shares[cuts % len(shares)])
            trial.begin(cut)
            over = trial.settle()
            reached = over is None
            if reached:
                trial.check(trial.bookkeeping())
                board.power_cycle()
                over = trial.settle()
            assert over is not None
            assert (over["state"], over["version"], over["failed"]) == (state, version, failed), cut
            board.power_cycle()
            assert trial.settle() == over
            trial.check(trial.bookkeeping())
            assert trial.bookkeeping()["trial"] is None
            with SerialTransport(board.path) as line:
                slot = Slots(line).active()
                assert slot is not None and mixed(line, slot) == []
                assert Slots(line).version_floor() == version
            if not reached:
                return cuts
    raise AssertionError("the trial does not end")


SEQUENCES = {
    "confirms itself": (small_node("green"), 3, "confirmed"),
    "fails": (small_node("green", healthy=False), 3, "fell_back"),
    "has no start left": (small_node("green"), 0, "fell_back"),
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_a_trial_whose_writes_are_torn(kind: str) -> None:
    assert cut_a_trial(*SEQUENCES[kind], step=2, shares=(500,)) >= 2


@pytest.mark.soak
def test_a_trial_torn_at_every_write() -> None:
    print("\n| the update | cuts | ends |\n|---|---|---|")
    for kind, sequence in SEQUENCES.items():
        print(f"| {kind} | {cut_a_trial(*sequence, step=1, shares=(0, 500, 999))} | {sequence[2]} |", flush=True)


# --- deployments ------------------------------------------------------------------------------------------------------

COLOURS = ("red", "green", "blue")
FAULTS = ("none", "line", "power", "power", "line")
DEADLINE = 40.0  # s, for a deployment however it ends, on a busy computer
# Boots of a deployment, and flash writes in each that a cut may fall into: held to be filled, restarted to be verified,
# held again, started.
WRITES = (60, 2, 5, 10)


class Fleet:
    """A board that is deployed to again and again, and cut off while it is."""

    def __init__(self, board: VirtualBoard, seed: int) -> None:
        self.board = board
        self.chance = random.Random(seed)
        self.runs: Counter[str] = Counter()
        self.longest = 0.0
        with SerialTransport(board.path) as line:
            line.put("/kept", b"committed before")
            self.info: BoardInfo = probe(line)
            self.colour, self.version = "red", deploy(line, self.info, small_node("red")).version
            with pytest.MonkeyPatch.context() as patch:
                scissors = Scissors(patch, board)
                self.version = deploy(line, self.info, small_node("green")).version
                self.colour, self.line_writes = "green", scissors.count

    def cycle(self) -> None:
        """One deployment, perhaps with a fault, and what the board is after it."""
        fault = self.chance.choice(FAULTS)
        healthy = self.chance.random() < 0.9
        colour = self.chance.choice([name for name in COLOURS if name != self.colour])
        ended = self._deploy(small_node(colour, healthy=healthy), fault)
        assert ended in ("done", "deploy.fell_back") or fault != "none", ended
        if fault != "none":
            self.board.plan_cuts()
            self.board.replug()
            self.board.power_cycle()
        self._check(colour, healthy, fault, ended)

    def _deploy(self, payload: Payload, fault: str) -> str:
        board, over, torn = self.board, threading.Event(), len(self.board.torn)

        def cable() -> None:  # the line of a board on USB goes with its power
            while not over.wait(0.005):
                if len(board.torn) > torn:
                    board.unplug()
                    return

        watcher, why = threading.Thread(target=cable), ""
        began = time.monotonic()
        with SerialTransport(board.path) as line, pytest.MonkeyPatch.context() as patch:
            if fault == "line":
                Scissors(patch, board, self.chance.randint(1, self.line_writes))
            elif fault == "power":
                boot = self.chance.choices(range(len(WRITES)), (6, 1, 2, 3))[0]
                last = self.chance.randint(1, WRITES[boot])  # low numbers more often: some deployments write less
                cut = PowerCut(self.chance.randint(1, last), self.chance.randrange(1000))
                board.plan_cuts(*[None] * boot, cut)
            watcher.start()
            try:
                deploy(line, self.info, payload)
                ended = "done"
            except MidgeError as error:
                ended, why = error.code, str(error)
            finally:
                over.set()
                watcher.join()
        self.longest = max(self.longest, time.monotonic() - began)
        assert ended in ("done", "deploy.fell_back", "link.dropped", "board.not_found", "board.timeout"), why
        return ended

    def _check(self, colour: str, healthy: bool, fault: str, ended: str) -> None:
        with SerialTransport(self.board.path) as line:
            node, end = NodeConnection(line), time.monotonic() + 30
            while True:
                assert time.monotonic() < end and node.greet(20), node.last_words
                with suppress(Timeout):  # an update that failed has reset the board
                    status = node.command("status")
                    if status["update"]["state"] != "trial":
                        break
            slots = Slots(line)
            slot = slots.active()
            assert slot is not None and mixed(line, slot) == []
            assert line.get("/kept") == b"committed before"
            version = manifest_of(line, slot).version
            assert (status["update"]["version"], slots.version_floor()) == (version, version)
            assert status["colour"] == json.loads(slots.text(f"/midge/{slot}/node.json"))["colour"]
            slots.release()
        new = version != self.version
        assert status["colour"] == (colour if new else self.colour)
        assert not new or (version > self.version and healthy)
        assert ended != "done" or new
        self.runs[f"{fault}: {'new' if new else 'old'}"] += 1
        self.colour, self.version = status["colour"], version


def run_cycles(count: int, seed: int) -> Fleet:
    with VirtualBoard() as board:
        fleet = Fleet(board, seed)
        for _ in range(count):
            fleet.cycle()
        assert fleet.longest < DEADLINE
        assert len(board.torn) >= count // 20
        print(f"{len(board.torn)} flash writes were torn")
    return fleet


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_deployments_that_are_cut(seed: int) -> None:
    """Old or new, never a mixture. Ten cycles each."""
    assert sum(run_cycles(10, seed).runs.values()) == 10


@pytest.mark.soak
def test_500_deployments_that_are_cut() -> None:
    fleet = run_cycles(500, 5)
    print("\n| fault, and what runs after it | cycles |\n|---|---|")
    for kind, count in sorted(fleet.runs.items()):
        print(f"| {kind} | {count} |")
    print(f"longest deployment: {fleet.longest:.1f} s; mixtures: 0")
