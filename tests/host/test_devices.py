"""Boards found by port, USB serial number and node name; asked without being disturbed, in parallel, in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from midgehost import ports
from midgehost.cli.app import run
from midgehost.cli.port import BadSettings, default_port, only_board, project_port
from midgehost.deploy import devices
from midgehost.deploy.devices import BUSY, GONE, NO_NODE, OTHER, RUNNING, SILENT, STOPPED, find_devices, find_node
from midgehost.deploy.holders import holder_of
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import Ambiguous, Busy, NotFound
from midgehost.ports import Port
from midgehost.virtual.board import VirtualBoard

PICO = Port("/dev/ttyACM0", "E6614C311B8C4F2B", 0x2E8A, 0x0005, "Board in FS mode", "1-2:1.0")
OTHER_PICO = replace(PICO, path="/dev/ttyACM1", serial_number="E6614C311B000000", location="1-3:1.0")
ESP = Port("/dev/ttyUSB0", "", 0x1A86, 0x7523, "USB Serial", "1-4")
MOUSE = Port("/dev/ttyACM7", "", 0x046D, 0xC52B, "Receiver", "1-5:1.0")
NODE = """
import sys, json
while 1:
    line = sys.stdin.readline().strip()
    print('[{"bn":"fan/","n":"x","v":1}]')
    if line.startswith('{'):
        value = {"node": NAME, "running": True, "platform": "rp2", "firmware": "1.26.1"}
        value["machine"] = "Raspberry Pi Pico W with RP2040"
        print(json.dumps({"re": json.loads(line)["id"], "ok": True, "value": value}))
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No board of this computer, nor of another test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("MIDGE_PORT", raising=False)
    monkeypatch.setattr("serial.tools.list_ports.comports", list)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def started() -> Iterator[dict[str, VirtualBoard]]:
    """Boards with a node `fan-3`, a program of somebody's, a silent one, and none at all."""
    programs = {
        "node": f"NAME = 'fan-3'\n{NODE}",
        "other": "import time\nwhile 1:\n print('temperature 21')\n time.sleep(0.05)",
        "silent": "while 1: pass",
        "idle": "",
    }
    with ExitStack() as stack:
        boards: dict[str, VirtualBoard] = {}
        for name, program in programs.items():
            boards[name] = stack.enter_context(VirtualBoard())
            with SerialTransport(boards[name].path) as line:
                line.put("/main.py", program.encode())
                line.reset()
        yield boards


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_serial_number_names_a_board() -> None:
    assert ports.by_serial_number("e6614c311b8c4f2b", [ESP, OTHER_PICO, PICO]) == PICO
    with pytest.raises(NotFound, match=r"E6614C311B8C4F2B"):
        ports.by_serial_number("1234", [PICO, ESP])
    twin = replace(PICO, path="/dev/ttyACM5", location="3-1:1.0")
    with pytest.raises(Ambiguous, match=r"any of /dev/ttyACM0, /dev/ttyACM5"):
        ports.by_serial_number("E6614C311B8C4F2B", [PICO, twin])
    second_port = replace(PICO, path="/dev/ttyACM5", location="1-2:1.2")
    assert ports.by_serial_number("E6614C311B8C4F2B", [PICO, second_port]) == PICO


def test_pyserial_s_listing_becomes_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    info = SimpleNamespace(
        device="/dev/ttyACM0", serial_number="E66", vid=0x2E8A, pid=5, product="Board in FS mode", location="1-2:1.0"
    )
    uart = SimpleNamespace(device="/dev/ttyS0", serial_number=None, vid=None, pid=None, product=None, location=None)
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [uart, info])
    pico, plain = ports.plugged_in()
    assert (pico.serial_number, pico.usb_id, pico.is_board, pico.vanishes) == ("E66", "2e8a:0005", True, True)
    assert (plain.path, plain.usb_id, plain.is_board, plain.vanishes) == ("/dev/ttyS0", "", False, False)


def test_which_ports_vanish_and_which_can_reset() -> None:
    jtag = Port("/dev/ttyACM3", "F4:12:FA:00:00:01", 0x303A, 0x1001)
    s3 = Port("/dev/ttyACM4", "f412fa000001", 0x303A, 0x4001)
    assert [port.vanishes for port in (PICO, ESP, jtag, s3)] == [True, False, False, True]
    assert [ports.has_reset_lines(port.path, port) for port in (PICO, ESP, jtag, s3)] == [False, True, True, False]
    assert ports.has_reset_lines("vboard://esp32", None)
    assert not ports.has_reset_lines("/dev/pts/3", None)


def test_macos_ports_are_opened_by_their_other_name() -> None:
    assert ports.callout("/dev/tty.usbmodem1101", "darwin") == "/dev/cu.usbmodem1101"
    assert ports.callout("/dev/tty.usbmodem1101", "linux") == "/dev/tty.usbmodem1101"


def test_virtual_boards_are_announced_while_they_run(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text("")
    port = Port("dev", "ABC", virtual="virtual pico", time_scale=30)
    stale = Path(os.environ["XDG_RUNTIME_DIR"]) / "midge" / "boards" / "x.json"
    with ports.announce(port):
        stale.write_text(json.dumps({"path": str(tmp_path / "dev"), "owner": 2**22 + 1}))
        (stale.parent / "y.json").write_text("{")
        assert ports.plugged_in() == [replace(port, path=str(tmp_path / "dev"), owner=os.getpid())]
        assert not stale.exists()
        with ports.open_port("abc") as device:
            assert (device.path, device.time_scale) == (str(tmp_path / "dev"), 30)
        with ports.open_port("./dev") as device:
            assert (device.path, device.time_scale) == ("./dev", 30)
    assert ports.plugged_in() == []


# --- the default ------------------------------------------------------------------------------------------------------


def test_the_only_board_is_the_default() -> None:
    assert only_board([MOUSE, PICO, replace(PICO, path="/dev/ttyACM9", location="1-2:1.2")]) == "/dev/ttyACM0"
    with pytest.raises(Ambiguous, match=r"/dev/ttyACM0 \(E6614C311B8C4F2B\), /dev/ttyUSB0"):
        only_board([PICO, ESP])
    with pytest.raises(NotFound, match="midge doctor"):
        only_board([MOUSE])


def test_a_project_has_a_port(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert project_port(tmp_path / "a" / "b") == ""
    (tmp_path / "midge.toml").write_text('port = "fan-3"\n')
    assert project_port(tmp_path / "a" / "b") == "fan-3"
    (tmp_path / "a" / "midge.toml").write_text('port = "./board"\n')
    assert project_port(tmp_path / "a" / "b") == str(tmp_path / "a" / "board")
    assert default_port(tmp_path, listing=lambda: [PICO, ESP]) == "fan-3"


@pytest.mark.parametrize(
    ("text", "why"), [("port = ", "Invalid"), ("prt = 'x'", "no setting 'prt'"), ("port = 5", "no text")]
)
def test_a_wrong_project_file_is_named(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "midge.toml").write_text(text)
    with pytest.raises(BadSettings, match=f"midge.toml does not read: .*{why}"):
        project_port(tmp_path)


def test_the_order_of_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tried(*arguments: str) -> str:
        assert run(["monitor", "--json", "--seconds", "1", *arguments]) == 2
        return json.loads(capsys.readouterr().out)["error"]["what"]

    assert tried() == "No board is plugged in."
    (tmp_path / "midge.toml").write_text('port = "/dev/by-project"')
    assert "/dev/by-project" in tried()
    monkeypatch.setenv("MIDGE_PORT", "/dev/by-environment")
    assert "/dev/by-environment" in tried()
    assert "/dev/by-option" in tried("--port", "/dev/by-option")


# --- looking ----------------------------------------------------------------------------------------------------------


def test_each_state_is_seen_and_nothing_is_disturbed(started: dict[str, VirtualBoard], tmp_path: Path) -> None:
    listed = {name: board.port for name, board in started.items()}
    with VirtualBoard() as held, SerialTransport(held.path) as line:
        line.exec("print(1)")
        began = time.monotonic()
        found = find_devices([*listed.values(), held.port, replace(PICO, path=str(tmp_path / "no")), MOUSE])
        assert time.monotonic() - began < 4
        by_path = {device.port.path: device for device in found}
        assert by_path[held.port.path].state == BUSY
    assert len(found) == 6
    node, idle = by_path[listed["node"].path], by_path[listed["idle"].path]
    assert (node.state, node.node, node.board, node.firmware) == (RUNNING, "fan-3", "pico-w", "1.26.1")
    assert (idle.state, idle.board, idle.node) == (NO_NODE, "virtual", "")
    assert idle.firmware.startswith("1.")
    other = by_path[listed["other"].path]
    assert (other.state, other.detail) == (OTHER, "it says 'temperature 21'")
    assert by_path[listed["silent"].path].state == SILENT
    gone = by_path[str(tmp_path / "no")]
    assert (gone.state, gone.maybe[:2]) == (GONE, ("pico", "pico-w"))
    for name in ("node", "other", "silent"):
        assert started[name].boots == ["power", "hard"], name
        assert not started[name].wait_ready(0.1), name


def test_another_program_that_holds_a_port_is_named() -> None:
    with VirtualBoard() as board:
        hold = (
            "import serial, sys\np = serial.Serial(sys.argv[1], exclusive=True)\nprint('has it', flush=True)\ninput()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", hold, board.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdin is not None and other.stdout is not None
            other.stdout.readline()
            (found,) = find_devices([board.port])
            with pytest.raises(Busy, match=f"Close .* .process {other.pid}. and try again"):
                SerialTransport(board.path)
            other.stdin.close()
            assert found.state == BUSY
            assert f"(process {other.pid})" in found.detail


def test_a_virtual_board_does_not_hold_its_own_port() -> None:
    start = [sys.executable, "-c", "from midgehost.cli import main; main()", "board", "start", "virtual"]
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True) as board:
        assert board.stdout is not None
        path = board.stdout.readline().strip()
        assert holder_of(path) == ""
        with ports.open_port(path) as device, SerialTransport(device.path) as line:
            assert line.exec("print(1)") == "1\n"
            assert [(port.path, port.virtual) for port in ports.plugged_in()] == [(path, "virtual pico")]
        board.terminate()
    assert ports.plugged_in() == []


def test_what_runs_is_interrupted_on_request_and_started_again(started: dict[str, VirtualBoard]) -> None:
    (found,) = find_devices([started["silent"].port], interrupt=True)
    assert (found.state, found.board) == (NO_NODE, "virtual")
    assert started["silent"].boots == ["power", "hard", "hard"]


def test_a_node_is_found_by_its_name(started: dict[str, VirtualBoard], monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [started[name].port for name in ("node", "other", "idle")]
    with pytest.raises(NotFound, match=r"Nodes: fan-3 at .*\(another program\)"):
        find_node("fan-4", listed)
    listed.pop(1)
    assert find_node("fan-3", listed).port == started["node"].port
    monkeypatch.setattr(ports, "plugged_in", lambda: listed)
    devices.register()
    for name in ("node:fan-3", "fan-3"):
        with ports.open_port(name) as device:
            assert device.path == started["node"].path
    with pytest.raises(NotFound, match="No node 'fan-9' answers"), ports.open_port("fan-9"):
        pass


def test_one_name_for_two_nodes_is_an_error(started: dict[str, VirtualBoard]) -> None:
    with VirtualBoard() as twin:
        with SerialTransport(twin.path) as line:
            line.put("/main.py", f"NAME = 'fan-3'\n{NODE}".encode())
            line.reset()
        with pytest.raises(Ambiguous, match=f"{started['node'].path}, {twin.path}|{twin.path}, {started['node'].path}"):
            find_node("fan-3", [started["node"].port, twin.port])


def test_a_port_that_hangs_does_not_hold_the_others_up(monkeypatch: pytest.MonkeyPatch) -> None:
    forever = threading.Event()
    look = devices.look_at
    monkeypatch.setattr(
        devices, "look_at", lambda port, interrupt: forever.wait() if port == ESP else look(port, interrupt=interrupt)
    )
    with VirtualBoard() as board:
        board.wait_ready()
        began = time.monotonic()
        hung, idle = find_devices([ESP, board.port])
        forever.set()
    assert time.monotonic() - began < 4
    assert (hung.state, idle.state) == (SILENT, NO_NODE)


def test_a_stopped_node_is_named() -> None:
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        line.put("/midge/active", b"a")
        line.put("/midge/a/node.json", b'{"name": "fan-7"}')
        line.close()
        (found,) = find_devices([board.port])
    assert (found.state, found.node) == (STOPPED, "fan-7")


def test_the_command(started: dict[str, VirtualBoard], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["devices"]) == 1
    assert "No board is plugged in" in capsys.readouterr().out
    with ports.announce(started["node"].port), ports.announce(started["idle"].port):
        assert run(["devices", "--json"]) == 0
        by_port = {entry["port"]: entry for entry in json.loads(capsys.readouterr().out)}
        assert by_port[started["node"].path]["node"] == "fan-3"
        assert by_port[started["node"].path]["state"] == "running"
        assert run(["devices", "--no-probe"]) == 0
        assert "virtual pico" in capsys.readouterr().out
