"""Updates that are broken in every way end in the node that ran before, by themselves, and the board says why."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cuts import small_node
from slot_state import holds, mixed, quick

from conftest import FAN
from midgehost.deploy import protocol
from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.devices import look_at
from midgehost.deploy.node_folder import build_payload
from midgehost.deploy.plan import Payload
from midgehost.deploy.probe import probe
from midgehost.deploy.protocol import Report, Terms, deploy
from midgehost.deploy.slots import Refused, Slots
from midgehost.deploy.transport import SerialTransport
from midgehost.deploy.trial import FellBack
from midgehost.models.bundle import Bundle, Vector
from midgehost.ports import Port
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.sensors import Mpu6050, Recording

NODE = """
schema = 1
name = "n"
board = "virtual"
[sensor.accel]
driver = "mpu6050"
bus = { i2c = 0, sda = 4, scl = 5 }
channels = ["x", "y", "z"]
unit = "g"
rate_hz = 500
[sampling]
mode = "batch"
window = 128
[[stage]]
id = "net"
use = "inference"
model = "fan"
input = ["accel.x", "accel.y", "accel.z"]
[update]
confirm_s = 0.5
"""
# A stage of one's own in the place of the one that runs models.
STAGE = """
import machine, time
from midge.stages import Base
class Stage(Base):
    def __init__(self, config, node):
        super().__init__(config, node, 2)
        {open}
    def run(self, sensor):
        {run}
    def records(self, t):
        return ()
"""
HOG = "import {0}; {0}.kept = []\n        while True: {0}.kept.append(bytearray(100))"
SEGFAULT = "import uctypes; uctypes.bytes_at(8, 1)"
WATCHDOG_S = 8.0
SAMPLES = [((i * 7919 % 101) / 400, 0.1, 1.0) for i in range(997)]


def moving_board() -> VirtualBoard:
    return VirtualBoard(sensors=[Mpu6050(Recording(SAMPLES, end="loop"))])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Payload:
    """A node that is in order."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("fan.tflite", "model.toml"):
        (folder / name).write_bytes((FAN / name).read_bytes())
    (folder / "node.toml").write_text(NODE)
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        return build_payload(folder, probe(line))


@pytest.fixture(scope="module")
def standing(good: Payload) -> Iterator[tuple[VirtualBoard, SerialTransport]]:
    """A board on which the good node has confirmed itself; every test leaves it so."""
    with moving_board() as board, SerialTransport(board.path) as line:
        deploy(line, probe(line), good)
        yield board, line


def with_module(payload: Payload, name: str, source: str) -> Payload:
    """The node with another device module."""
    lib = {path: data for path, data in payload.lib.items() if path != f"midge/{name}.mpy"}
    return dataclasses.replace(payload, lib={**lib, f"midge/{name}.py": source.encode()})


def with_stage(payload: Payload, open: str = "pass", run: str = "pass") -> Payload:
    return with_module(payload, "stages/inference", STAGE.format(open=open, run=run))


def with_import(payload: Payload, first: str) -> Payload:
    """The node that does something else when it is imported."""
    return with_module(payload, "node", first + "\n")


def with_config(payload: Payload, change: Callable[[dict[str, Any]], object]) -> Payload:
    config = json.loads(payload.node_json)
    change(config)
    return dataclasses.replace(payload, node_json=json.dumps(config).encode())


def with_wrong_vector(payload: Payload) -> Payload:
    bundle = Bundle.decode(payload.models["fan"])
    wrong = Vector(bundle.tests[0].inputs, (bytes(value ^ 1 for value in bundle.tests[0].outputs[0]),))
    model = dataclasses.replace(bundle, tests=(wrong, *bundle.tests[1:])).encode()
    old, new = (protocol.manifest.model_path("fan", data) for data in (payload.models["fan"], model))
    text = payload.node_json.replace(old.encode(), new.encode())
    return dataclasses.replace(payload, node_json=text, models={"fan": model})


def magic(config: dict[str, Any]) -> None:
    config["stages"][0]["use"] = "magic"


BROKEN: dict[str, tuple[Callable[[Payload], Payload], str, str]] = {
    "crashes at its first window": (lambda p: with_stage(p, run="raise ValueError('boom')"), "board.exception", "boom"),
    "crashes when it opens": (lambda p: with_stage(p, open="raise OSError(5)"), "board.exception", "OSError"),
    "does not import": (lambda p: with_import(p, "import nothing_of_that_name"), "board.exception", "ImportError"),
    "has a syntax error": (lambda p: with_import(p, "def run(:"), "board.exception", "SyntaxError"),
    "exits": (lambda p: with_import(p, "raise SystemExit"), "board.exception", "SystemExit"),
    "comes to an end": (lambda p: with_import(p, "def run(path, update): pass"), "update.ended", "end"),
    "eats the heap at work": (lambda p: with_stage(p, run=HOG.format("midge")), "board.out_of_memory", ""),
    "eats the heap when it opens": (lambda p: with_stage(p, open=HOG.format("__main__")), "board.out_of_memory", ""),
    "takes the whole board down": (lambda p: with_stage(p, run=SEGFAULT), "update.watchdog", "reset"),
    "resets the board": (lambda p: with_stage(p, run="machine.reset()"), "update.watchdog", "reset"),
    "resets it at import": (lambda p: with_import(p, "import machine\nmachine.reset()"), "update.watchdog", "reset"),
    "lacks its sensors": (lambda p: with_config(p, lambda c: c.pop("sensors")), "board.exception", "sensors"),
    "has a stage of no kind": (lambda p: with_config(p, magic), "board.exception", "ImportError"),
}  # fmt: skip


def status(line: SerialTransport) -> dict[str, Any]:
    """What the running node says of its update."""
    node = NodeConnection(line)
    assert node.greet(20), node.last_words
    return node.command("status")["update"]


def check_old_runs(line: SerialTransport, good: Payload, failed: FellBack) -> None:
    """The good node runs, whole, and tells of the failed one: in its status, in its records, and on the board."""
    update = status(line)
    assert (update["state"], update["why"]) == ("fell_back", failed.reason)
    told = failed.version if failed.reason["code"] != "update.bad_manifest" else 0  # which is not known without one
    assert update["failed"] == told
    line.exec("")
    line.reset()
    said: dict[str, Any] = {}
    for record in NodeConnection(line).records(10):
        said[record.name] = record.value
        if record.name == "sys.update.why":
            break
    assert (said["sys.update"], said["sys.update.failed"]) == ("fell_back", told)
    assert str(said["sys.update.why"]).startswith(failed.reason["code"])
    slots = Slots(line)
    slot = slots.active()
    assert slot is not None and holds(line, good, slot)
    assert slots.fallback()["why"] == failed.reason
    slots.release()


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """No self-test by the host: the board is alone with what it was given."""
    monkeypatch.setattr(protocol, "_self_test", lambda *_: 0)


OFTEN = ("crashes at its first window", "does not import", "eats the heap at work", "takes the whole board down",
         "resets the board", "lacks its sensors")  # fmt: skip


@pytest.mark.usefixtures("untested")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in OFTEN else pytest.mark.soak) for kind in BROKEN]
)
def test_a_broken_update_falls_back(kind: str, good: Payload, standing: tuple[VirtualBoard, SerialTransport]) -> None:
    _, line = standing
    break_it, code, what = BROKEN[kind]
    with pytest.raises(FellBack, match="The node before it runs again") as failed:
        deploy(line, probe(line), break_it(good))
    assert failed.value.reason["code"] == code
    assert what in failed.value.reason["what"]
    check_old_runs(line, good, failed.value)


LOOPS = {
    "import": lambda p: with_import(p, "import time\nwhile True: time.sleep_ms(50)"),
    "open": lambda p: with_stage(p, open="while True: time.sleep_ms(50)"),
    "python": lambda p: with_stage(p, run="while True: time.sleep_ms(50)"),
    "busy": lambda p: with_stage(p, run="while True: pass"),
    "deaf": lambda p: with_stage(p, run="while True:\n            try: time.sleep_ms(50)\n            except: pass"),
}


@pytest.mark.usefixtures("untested")
@pytest.mark.parametrize(
    "kinds", [("import", "open", "python"), pytest.param(("busy", "deaf"), marks=pytest.mark.soak)]
)
def test_every_endless_loop_is_bitten_by_the_watchdog(kinds: tuple[str, ...], good: Payload) -> None:
    """At the same time, each on its own board: the watchdog takes its 8 seconds."""
    outcome: dict[str, tuple[str, float] | Exception] = {}

    def loop(kind: str) -> None:
        try:
            with moving_board() as board, SerialTransport(board.path) as line:
                deploy(line, probe(line), good)
                began = time.monotonic()
                with pytest.raises(FellBack, match="runs again") as failed:
                    deploy(line, probe(line), LOOPS[kind](good))
                check_old_runs(line, good, failed.value)
                assert board.boots.count("watchdog") == 1
                outcome[kind] = failed.value.reason["code"], time.monotonic() - began
        except Exception as error:
            outcome[kind] = error

    threads = [threading.Thread(target=loop, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for kind in kinds:
        found = outcome[kind]
        assert isinstance(found, tuple), f"{kind}: {found!r}"
        assert found[0] == "update.watchdog"
        assert found[1] > WATCHDOG_S


def test_a_self_test_that_hangs_gives_the_board_back(good: Payload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that Ctrl-C does not stop, as of a routine that never returns, while the host tests it."""
    monkeypatch.setattr(protocol, "_SELF_TEST_TIMEOUT", 12.0)
    deaf = "while True:\n        try: time.sleep_ms(50)\n        except BaseException: pass"
    broken = with_module(good, "inference", f"import time\ndef Model(path, breathe):\n    {deaf}\n")
    with moving_board() as board, SerialTransport(board.path) as line:
        deploy(line, probe(line), good)
        with pytest.raises(protocol.Rejected, match="came to no end"):
            deploy(line, probe(line), broken)
        assert board.boots.count("watchdog") == 1
        assert status(line)["state"] == "confirmed"
        assert holds(line, good, "a")


def test_a_model_that_fails_its_self_test_never_runs(
    good: Payload, standing: tuple[VirtualBoard, SerialTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host tests it before it is put on trial; without the host, the node itself does."""
    _, line = standing
    with pytest.raises(protocol.Rejected, match="self-test vectors"):
        deploy(line, probe(line), with_wrong_vector(good))
    monkeypatch.setattr(protocol, "_self_test", lambda *_: 0)
    with pytest.raises(FellBack) as failed:
        deploy(line, probe(line), with_wrong_vector(good))
    assert failed.value.reason["code"] == "model.self_test"
    check_old_runs(line, good, failed.value)


def damaged(line: SerialTransport, path: str) -> None:
    data = bytearray(line.get(path))
    data[len(data) // 2] ^= 1
    line.put(path, bytes(data))


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda line, slot: line.remove(f"/midge/{slot}/lib/midge/sensors.mpy"), "update.missing_file"),
        (lambda line, slot: damaged(line, f"/midge/{slot}/lib/midge/sensors.mpy"), "update.wrong_hash"),
        (lambda line, slot: line.put(f"/midge/{slot}/lib/midge/late.py", b"x"), "update.extra_file"),
        (lambda line, slot: line.remove(f"/midge/{slot}/manifest"), "update.bad_manifest"),
        (lambda line, slot: damaged(line, f"/midge/{slot}/node.json"), "update.wrong_hash"),
    ],
)
def test_a_slot_that_is_not_whole_any_more_is_not_started(
    harm: Callable[[SerialTransport, str], None],
    code: str,
    good: Payload,
    standing: tuple[VirtualBoard, SerialTransport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a power cut or worn flash does to a file between the deployment's check and the boot."""
    _, line = standing
    release = Slots.release

    def harm_and_release(slots: Slots) -> None:
        if slots.exists("/midge/trial"):
            harm(line, slots.text("/midge/trial")[0])
        release(slots)

    with monkeypatch.context() as patch:
        patch.setattr(Slots, "release", harm_and_release)
        with pytest.raises(FellBack) as failed:
            deploy(line, probe(line), good, Terms(version=Slots(line).version_floor() + 1))
    assert failed.value.reason["code"] == code
    check_old_runs(line, good, failed.value)


def until_prompt(line: SerialTransport) -> str:
    """What a board says that has no node to run."""
    heard, end = b"", time.monotonic() + 10
    while not heard.endswith(b">>> "):
        assert time.monotonic() < end, heard
        heard += line.read(1)
    return heard.decode()


# --- starts -----------------------------------------------------------------------------------------------------------


def slow(payload: Payload, boots: int) -> Payload:
    """A node that will not confirm itself while a test looks on."""
    return quick(payload, confirm_ms=60_000, boots=boots)


def test_power_that_comes_and_goes_uses_up_the_starts(good: Payload) -> None:
    with moving_board() as board, SerialTransport(board.path) as line:
        deploy(line, probe(line), good)
        report = deploy(line, probe(line), slow(good, boots=2), Terms(confirm=False))
        assert not report.confirmed and status(line)["state"] == "trial"
        board.power_cycle()
        assert status(line)["state"] == "trial"
        board.power_cycle()
        update = status(line)
        assert (update["state"], update["failed"]) == ("fell_back", report.version)
        assert update["why"]["code"] == "update.not_confirmed"
        assert holds(line, good, "a")


def test_whoever_stops_the_node_uses_up_nothing(good: Payload) -> None:
    """Ctrl-C and a held board are a person's doing: the one start that there is stays."""
    with moving_board() as board, SerialTransport(board.path) as line:
        deploy(line, probe(line), good)
        report = deploy(line, probe(line), slow(good, boots=1), Terms(confirm=False))
        for _ in range(3):
            assert status(line) == {"state": "trial", "version": report.version, "failed": 0, "why": None}
            line.exec("")
            line.reset()
        slots = Slots(line)
        slots.hold()
        assert slots.text("/midge/trial") == "b 1"
        slots.replace("/midge/trial", b"b 0 run")  # as where Ctrl-C was too early to be noticed
        slots.hold_again()
        assert slots.text("/midge/trial") == "b 1"
        slots.release()
        assert status(line)["state"] == "trial"
        before = len(board.boots)
        line.exec("import time\nfor _ in range(12):time.sleep(1)", timeout=20)
        assert board.boots[before:] == [], "the watchdog bit a person at the prompt"


def test_a_burst_of_ctrl_c_uses_up_nothing() -> None:
    """While the node boots, runs and puts back what it has written down."""
    chance = random.Random(1)
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        info = probe(line)
        deploy(line, info, small_node("red"))
        deploy(line, info, small_node("green", confirm_ms=600_000), Terms(confirm=False))
        for _ in range(15):
            time.sleep(chance.random() / 5)
            for _ in range(chance.randint(1, 12)):
                line.write(b"\x03")
                time.sleep(chance.random() / 100)
            assert line.exec("print(open('/midge/trial').read())") == "b 3\n"
            line.reset()
        assert status(line)["state"] == "trial"


def test_devices_tell_of_it(good: Payload) -> None:
    with moving_board() as board, SerialTransport(board.path) as line:
        with pytest.raises(FellBack) as first:
            deploy(line, probe(line), with_stage(good, run="raise ValueError('boom')"))
        failed = f"update {first.value.version} failed: ValueError: boom [board.exception]"
        line.close()
        port = Port(board.path, virtual="virtual")
        assert (look_at(port).detail, look_at(port).state) == (failed, "no node")
    with moving_board() as board, SerialTransport(board.path) as line:
        deploy(line, probe(line), good)
        report = deploy(line, probe(line), slow(good, boots=3), Terms(confirm=False))
        line.close()
        port = Port(board.path, virtual="virtual")
        assert (look_at(port).detail, look_at(port).state) == (f"update {report.version} is on trial", "running")


def test_an_update_on_trial_gives_way_to_the_next(good: Payload) -> None:
    with moving_board() as board, SerialTransport(board.path) as line:
        deploy(line, probe(line), good)
        deploy(line, probe(line), slow(good, boots=3), Terms(confirm=False))
        report = deploy(line, probe(line), quick(good, 300))
        assert (report.slot, report.confirmed) == ("b", True)
        assert status(line) == {"state": "confirmed", "version": report.version, "failed": 0, "why": None}
        assert holds(line, quick(good, 300), "b")


def test_the_first_node_of_all_falls_back_to_the_prompt(good: Payload) -> None:
    with moving_board() as board, SerialTransport(board.path) as line:
        with pytest.raises(FellBack, match="No node runs on the board now") as failed:
            deploy(line, probe(line), with_stage(good, run="raise ValueError('boom')"))
        line.reset()
        said = until_prompt(line)
        assert f"no node to start: version {failed.value.version} failed: board.exception: ValueError: boom" in said
        assert deploy(line, probe(line), good).confirmed
        assert Slots(line).fallback() == {}


# --- later ------------------------------------------------------------------------------------------------------------


def test_an_active_slot_that_is_damaged_later(good: Payload) -> None:
    """The one confirmed before it runs; with none, the board ends at its prompt with the reason."""
    with moving_board() as board, SerialTransport(board.path) as line:
        deploy(line, probe(line), good)
        newer = deploy(line, probe(line), quick(good, 300))
        damaged(line, "/midge/b/lib/midge/sensors.mpy")
        line.reset()
        update = status(line)
        assert (update["state"], update["failed"]) == ("fell_back", newer.version)
        assert update["why"] == {"code": "update.wrong_hash", "what": "lib/midge/sensors.mpy"}
        assert holds(line, good, "a")
        damaged(line, "/midge/a/lib/midge/sensors.mpy")
        line.reset()
        assert "no node starts: slot a: update.wrong_hash: lib/midge/sensors.mpy" in until_prompt(line)
        assert deploy(line, probe(line), good).confirmed


def test_what_was_never_confirmed_is_no_way_back(good: Payload) -> None:
    with moving_board() as board, SerialTransport(board.path) as line:
        deploy(line, probe(line), good)
        with pytest.raises(FellBack):
            deploy(line, probe(line), with_stage(good, run="raise ValueError('boom')"))
        damaged(line, "/midge/a/lib/midge/sensors.mpy")
        line.reset()
        assert not NodeConnection(line).greet(10)
        assert mixed(line, "b") == []
        assert Slots(line).active() == "a"


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_boot_code_that_does_not_load_ends_at_the_prompt(harm: str, good: Payload) -> None:
    with moving_board() as board, SerialTransport(board.path) as line:
        deploy(line, probe(line), good)
        (path,) = [path for path in Slots(line).files() if path.endswith("/midge/boot.mpy")]
        if harm == "gone":
            line.remove(path)
        else:
            line.put(path, b"no code")
        line.reset()
        assert "midge: no node starts, the boot code does not load" in until_prompt(line)
        assert line.exec("print(6*7)") == "42\n"
        assert deploy(line, probe(line), good).confirmed
        assert status(line)["state"] == "confirmed"


def test_a_deployment_says_how_it_went(good: Payload) -> None:
    with moving_board() as board, SerialTransport(board.path) as line:
        report: Report = deploy(line, probe(line), good, Terms(version=7))
        assert (report.version, report.confirmed, report.signed_by) == (7, True, None)
        assert Slots(line).version_floor() == 7
        with pytest.raises(Refused) as refused:
            deploy(line, probe(line), good, Terms(version=6))
        assert refused.value.remote_code == "update.older"
        assert status(line)["state"] == "confirmed"
        assert holds(line, good, "a")
