"""Deploying to a virtual board: only what changed is sent, and whatever breaks leaves a whole node that runs."""

from __future__ import annotations

import dataclasses
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cuts import Scissors
from slot_state import holds, mixed, models, quick

from conftest import FAN
from midgehost.cli.app import run
from midgehost.deploy import slots as slots_module
from midgehost.deploy import transport as transport_module
from midgehost.deploy.base import make_base
from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.node_folder import build_payload
from midgehost.deploy.plan import Payload, blocks_of
from midgehost.deploy.probe import probe
from midgehost.deploy.protocol import Report, deploy, remove
from midgehost.deploy.slots import ForeignMain, Slots, model_path
from midgehost.deploy.transport import SerialTransport
from midgehost.deploy.trial import FellBack
from midgehost.errors import Full, HashMismatch, LineDropped, Rejected
from midgehost.models.bundle import Bundle, Vector
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.power import PowerCut
from midgehost.virtual.sensors import Mpu6050, Recording

_WALK = """
import os
def walk(p):
 for e in os.ilistdir(p or '/'):
  q=p+'/'+e[0]
  if e[1]&0x4000:
   print(q+'/');walk(q)
  else:print(q,os.stat(q)[6])
walk('')
"""


@pytest.fixture
def board() -> Iterator[VirtualBoard]:
    """A board with a moving accelerometer."""
    with moving_board() as board:
        yield board


@pytest.fixture(scope="module")
def old() -> Payload:
    """The fan's node for a virtual board."""
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        return quick(build_payload(FAN, probe(line)))


@pytest.fixture(scope="module")
def new(old: Payload) -> Payload:
    """The same node with another model, one more module and another node file."""
    bundle = Bundle.decode(old.models["fan"])
    model = dataclasses.replace(bundle, meta={**bundle.meta, "version": "next"}).encode()
    config = json.loads(old.node_json) | {"monitor_ms": 1500}
    text = json.dumps(config).replace(model_path("fan", old.models["fan"]), model_path("fan", model))
    return Payload(text.encode(), {**old.lib, "midge/extra.py": b"x = 1\n"}, {"fan": model}, "virtual")


def moving_board(**options: Any) -> VirtualBoard:
    samples = [((i * 7919 % 101) / 400, 0.1, 1.0) for i in range(997)]
    return VirtualBoard(sensors=[Mpu6050(Recording(samples, end="loop"))], **options)


def put(line: SerialTransport, payload: Payload) -> Report:
    return deploy(line, probe(line), payload)


def runs(line: SerialTransport) -> bool:
    return NodeConnection(line).greet(15) != ""


def speaks(board: VirtualBoard) -> bool:
    """Whether a node's records come, without a word to it."""
    heard = b""
    with SerialTransport(board.path) as line:
        while heard.count(b"accel.x") < 3:
            said = line.read(10)
            if not said:
                return False
            heard += said
    return True


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_only_what_changed_is_sent(board: VirtualBoard, old: Payload, new: Payload) -> None:
    with SerialTransport(board.path) as line:
        base = make_base(probe(line)).files
        first = put(line, old)
        assert sorted(first.sent) == sorted({**old.files("a"), **base})
        assert first.sent_bytes == sum(map(len, {**old.files("a"), **base}.values()))
        assert (first.slot, first.tested, first.disabled, first.confirmed) == ("a", 1, {}, True)
        again = put(line, old)
        assert (again.slot, again.sent, again.sent_bytes, again.kept) == ("a", (), 0, len(first.sent))
        assert (again.version, again.confirmed) == (first.version, True)
        changed = put(line, new)
        assert changed.version > first.version
        assert set(changed.sent) == {
            model_path("fan", new.models["fan"]),
            "/midge/b/lib/midge/extra.py",
            "/midge/b/node.json",
        }
        assert (changed.slot, changed.copied) == ("b", len(old.lib))
        assert runs(line)
        assert holds(line, new, "b")
        both = {model_path("fan", payload.models["fan"]) for payload in (old, new)}
        assert models(line) == both, "the old slot stays whole until its room is needed"
        back = put(line, old)
        assert (back.slot, back.sent, back.copied) == ("a", (), 0)
        assert back.kept == len(first.sent), "all of the slot before last was still there"


def test_progress_ends_at_the_bytes_sent(board: VirtualBoard, old: Payload) -> None:
    steps: list[tuple[int, int]] = []
    names: list[str] = []
    with SerialTransport(board.path) as line:
        progress = lambda done, total: steps.append((done, total))  # noqa: E731
        report = deploy(line, probe(line), old, progress=progress, on_step=names.append)
    assert steps == sorted(steps)
    assert steps[-1] == (report.sent_bytes, report.sent_bytes)
    assert names[0] == "holding the node" and names[-1] == "waiting for the node to confirm itself"


def test_source_runs_as_well() -> None:
    with moving_board(heap="640k") as board, SerialTransport(board.path) as line:
        payload = quick(build_payload(FAN, probe(line), source=True))
        assert all(name.endswith(".py") for name in payload.lib)
        report = put(line, payload)
        assert (report.tested, report.disabled) == (1, {})


def test_the_commands(board: VirtualBoard, capsys: pytest.CaptureFixture[str]) -> None:
    port = ["--port", board.path]
    assert run(["deploy", str(FAN), *port, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["slot"], report["tested"], report["disabled"], report["port"]) == ("a", 1, {}, board.path)
    assert run(["deploy", str(FAN), *port]) == 0
    assert "running in slot a: 0 files sent (0 bytes)" in " ".join(capsys.readouterr().out.split())
    assert run(["remove", *port, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == len(report["sent"]) + 3  # manifest, active, floor
    with SerialTransport(board.path) as line:
        line.put("/main.py", b"pass")
    assert run(["deploy", str(FAN), *port, "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "deploy.foreign_main"
    assert err.count("\n") == 1 and "--force" in err


def test_a_folder_that_is_no_node_leaves_the_old_one_running(
    board: VirtualBoard, old: Payload, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "node.toml").write_text("schema = 1\nname = 7\n")
    with SerialTransport(board.path) as line:
        put(line, old)
    assert run(["deploy", str(tmp_path), "--port", board.path, "--json"]) == 2
    capsys.readouterr()
    assert speaks(board)


@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3, 0.4, 0.6])
def test_ctrl_c_leaves_a_node_running(board: VirtualBoard, old: Payload, delay: float) -> None:
    with SerialTransport(board.path) as line:
        put(line, old)
    command = [str(Path(sys.executable).with_name("midge")), "deploy", str(FAN), "--port", board.path, "--source"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not process.stdout.readline():  # "... of heap free": the node is stopped
        pytest.fail(process.communicate()[1])
    time.sleep(delay - 0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in (0, 130)  # 0: it was done already
    process.communicate()
    assert speaks(board)


# --- what breaks ------------------------------------------------------------------------------------------------------


def test_damage_on_the_board_is_noticed(
    board: VirtualBoard, old: Payload, new: Payload, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = (
        "_real=binascii\nclass binascii:\n hexlify=_real.hexlify\n"
        " def a2b_base64(s):\n  b=bytearray(_real.a2b_base64(s))\n  if len(b)==6:b[2]^=4\n  return b\n"
    )
    with SerialTransport(board.path) as line:
        put(line, old)
        with monkeypatch.context() as patch:
            patch.setattr(transport_module, "_AGENT", transport_module._AGENT + faulty)
            with pytest.raises(HashMismatch, match=r"extra\.py arrived damaged"):
                put(line, new)
        assert runs(line)
        assert Slots(line).active() == "a"
        resumed = put(line, new)
        assert "/midge/b/lib/midge/extra.py" in resumed.sent
        assert resumed.kept >= len(old.lib), "what had arrived was sent again"


def test_a_full_board_is_refused_before_anything_is_sent(old: Payload, new: Payload) -> None:
    with moving_board(flash_bytes=768 * 1024) as board, SerialTransport(board.path) as line:
        put(line, old)
        before = line.exec(_WALK)
        big = dataclasses.replace(new, lib={**new.lib, "midge/big.py": bytes(600_000)})
        with pytest.raises(Full, match="the old node still runs") as full:
            put(line, big)
        assert full.value.needed > full.value.free > 0
        assert runs(line)
        assert line.exec(_WALK) == before
        assert put(line, new).slot == "b"


def test_a_failing_self_test_is_rejected(board: VirtualBoard, old: Payload, new: Payload) -> None:
    bundle = Bundle.decode(new.models["fan"])
    wrong = Vector(bundle.tests[0].inputs, (bytes(value ^ 1 for value in bundle.tests[0].outputs[0]),))
    model = dataclasses.replace(bundle, tests=(wrong, *bundle.tests[1:])).encode()
    with SerialTransport(board.path) as line:
        put(line, old)
        with pytest.raises(Rejected, match=r"1 self-test vectors of .* came out wrong"):
            put(line, dataclasses.replace(new, models={"fan": model}))
        assert runs(line)
        assert Slots(line).active() == "a"


def test_a_damaged_bundle_is_rejected(board: VirtualBoard, old: Payload, new: Payload) -> None:
    model = bytearray(new.models["fan"])
    model[-1] ^= 1
    with SerialTransport(board.path) as line:
        put(line, old)
        with pytest.raises(Rejected, match=r"cannot be loaded: .* \[model\."):
            put(line, dataclasses.replace(new, models={"fan": bytes(model)}))
        assert runs(line)


def test_a_node_that_does_not_start_is_given_up(board: VirtualBoard, old: Payload, new: Payload) -> None:
    broken = dataclasses.replace(new, node_json=b'{"schema": 1}')
    with SerialTransport(board.path) as line:
        with pytest.raises(FellBack, match=r"KeyError.*No node runs") as none:
            put(line, broken)
        assert (none.value.reason["code"], none.value.node_runs) == ("board.exception", False)
        assert Slots(line).active() is None
        put(line, old)
        with pytest.raises(FellBack, match=r"KeyError.*The node before it runs again") as again:
            put(line, broken)
        assert again.value.node_runs
        assert runs(line)
        update = NodeConnection(line).command("status")["update"]
        assert (update["state"], update["failed"]) == ("fell_back", again.value.version)
        assert holds(line, old, "a")


def test_a_board_that_hears_no_more_starts_its_node_again(
    board: VirtualBoard, old: Payload, new: Payload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SerialTransport(board.path) as line:
        put(line, old)
        monkeypatch.setattr(slots_module, "_HOLD_SECONDS", 2)
        with pytest.raises(LineDropped):
            deploy(line, probe(line), new, progress=lambda done, _: board.unplug())
    boots, deadline = len(board.boots), time.monotonic() + 15
    board.replug()
    with SerialTransport(board.path) as line:
        line.write(b"\x03")  # out of the chunk that was to come
        while len(board.boots) == boots:
            assert time.monotonic() < deadline, "the board stayed held"
            line.write(b"for _ in range(1000): pass\x04")  # the unix port runs timers only while code runs
            line.read(0.2)
        assert runs(line)


# --- cuts -------------------------------------------------------------------------------------------------------------


def cut_at(board: VirtualBoard, old: Payload, new: Payload, at: int) -> str:
    """Pulls line and power at that write of a deployment; what runs then. A second try must succeed."""
    with SerialTransport(board.path) as line, pytest.MonkeyPatch.context() as patch:
        info = probe(line)
        Scissors(patch, board, at)
        with pytest.raises(LineDropped):
            deploy(line, info, new)
    board.replug()
    board.power_cycle()
    with SerialTransport(board.path) as line:
        assert runs(line), "nothing runs after the cut"
        update = NodeConnection(line).command("status")["update"]
        slot = Slots(line).text("/midge/trial")[:1] if update["state"] == "trial" else Slots(line).active()
        assert slot in ("a", "b")
        assert mixed(line, slot) == []
        assert put(line, new).slot == "b"
        assert runs(line)
        assert holds(line, new, "b")
    return {"a": "the old node", "b": "the new node"}[slot]


def writes_of_a_deployment(old: Payload, new: Payload) -> int:
    with moving_board() as board, SerialTransport(board.path) as line, pytest.MonkeyPatch.context() as patch:
        put(line, old)
        info = probe(line)
        scissors = Scissors(patch, board)
        deploy(line, info, new)
        return scissors.count


def test_pulled_line(old: Payload, new: Payload) -> None:
    total = writes_of_a_deployment(old, new)
    chance = random.Random(1)
    for at in (chance.randrange(1, total // 2), chance.randrange(total // 2, total - 5)):
        with moving_board() as board, SerialTransport(board.path) as line:
            put(line, old)
            line.close()
            cut_at(board, old, new, at)


@pytest.mark.soak
def test_line_pulled_at_40_places(old: Payload, new: Payload) -> None:
    total = writes_of_a_deployment(old, new)
    chance = random.Random(2)
    places = sorted(chance.sample(range(1, total - 5), 30)) + list(range(total - 45, total - 5, 4))
    print("\n| cut at write | of | after the power is back | second try |\n|---|---|---|---|")
    for at in places:
        with moving_board() as board, SerialTransport(board.path) as line:
            put(line, old)
            line.close()
            print(f"| {at} | {total} | {cut_at(board, old, new, at)} runs | succeeds |", flush=True)


def power_cut(old: Payload, seed: int) -> str:
    """A first deployment that ends inside a flash write; the next one must succeed."""
    cut = PowerCut.seeded(seed, 150)
    with moving_board() as board:
        board.power_cycle(cut)
        board.wait_ready()
        cable = threading.Thread(target=lambda: board.wait_off(60) and board.unplug())
        cable.start()  # the line of a board on USB goes with its power
        with SerialTransport(board.path) as line, pytest.raises(LineDropped):
            deploy(line, probe(line), old)
        cable.join()
        (torn,) = board.torn
        board.replug()
        board.power_cycle()
        with SerialTransport(board.path) as line:
            report = put(line, old)
            assert runs(line)
            assert holds(line, old, report.slot)
    return f"offset {torn.offset}, {torn.kept} of {torn.length} bytes kept; {report.kept} files were whole"


def test_power_cut_while_deploying(old: Payload) -> None:
    assert "files were whole" in power_cut(old, 5)


@pytest.mark.soak
def test_25_power_cuts_while_deploying(old: Payload) -> None:
    for seed in range(200, 225):
        print(f"{seed}: {power_cut(old, seed)}", flush=True)


# --- what was there before --------------------------------------------------------------------------------------------


def test_a_foreign_main_is_refused_or_kept_and_comes_back(board: VirtualBoard, old: Payload) -> None:
    mine = b"print('mine')\n"
    with SerialTransport(board.path) as line:
        line.put("/main.py", mine)
        line.put("/lib/own.py", b"x = 1\n")
        before = line.exec(_WALK)
        with pytest.raises(ForeignMain, match="--force"):
            put(line, old)
        assert line.exec(_WALK) == before
        deploy(line, probe(line), old, force=True)
        assert runs(line)
        assert line.get("/main.py.bak") == mine
        line.put("/main.py", b"print('another')\n")
        with pytest.raises(ForeignMain, match="an older one is kept"):
            deploy(line, probe(line), old, force=True)
        line.put("/main.py", line.get("/main.py.bak"))
        line.remove("/main.py.bak")
        deploy(line, probe(line), old, force=True)
        assert remove(line).files > len(old.files("a"))
        assert line.exec(_WALK) == before
        assert line.get("/main.py") == mine


def test_remove_leaves_an_empty_board_empty(board: VirtualBoard, old: Payload) -> None:
    with SerialTransport(board.path) as line:
        before = line.exec(_WALK), line.free_bytes()
        put(line, old)
        remove(line)
        assert (line.exec(_WALK), line.free_bytes()) == before
        assert remove(line).files == 0


def test_the_space_that_files_take_is_not_underrated() -> None:
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        line.put("/d/x", b"")
        block = probe(line).block_bytes
        for size in (1, 100, 4000, 4088, 4096, 4097, 8184, 30_000, 100_000):
            before = line.free_bytes()
            line.put(f"/d/{size}", bytes(size))
            assert before - line.free_bytes() <= blocks_of(size, block) * block
