"""The doctor: each finding on a computer and a board that are made up, then on a virtual board. What real udev, macOS
and Windows say was not at hand: their files and names here are written from their documentation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from midgehost import boards, ports
from midgehost.cli.app import run
from midgehost.deploy import devices
from midgehost.deploy.devices import Found
from midgehost.deploy.doctor import CHECKS, FIX, NOTE, OK, Facts, Finding, System, examine
from midgehost.deploy.doctor.board import abi, answers, clock, firmware, heap, space
from midgehost.deploy.probe import BoardInfo
from midgehost.deploy.transport import SerialTransport
from midgehost.ports import Port
from midgehost.virtual.board import VirtualBoard

PICO = Port("/dev/ttyACM0", "E6614C311B8C4F2B", 0x2E8A, 0x0005, "Board in FS mode", "1-2:1.0")
CH340 = Port("/dev/ttyUSB0", "", 0x1A86, 0x7523, "USB Serial", "1-4")
S3 = Port("/dev/ttyACM1", "F4:12:FA:00:00:01", 0x303A, 0x1001, "USB JTAG/serial debug unit", "1-5:1.0")
INFO = BoardInfo(
    implementation="micropython",
    version=(1, 26, 1),
    mpy=(6, 3),
    arch="armv6m",
    machine="Raspberry Pi Pico with RP2040",
    platform="rp2",
    unique_id="e6614c311b8c4f2b",
    heap_free=220_000,
    heap_total=233_000,
    epoch=1970,
    block_bytes=4096,
    fs_total=1_441_792,
    fs_free=1_400_000,
)
NOW = 1_770_000_000
FACTS = Facts(Found(PICO, devices.NO_NODE), INFO, boards.board("pico"), NOW, NOW)


class Computer:
    """A Linux machine's files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text + "\n")

    def plug(self, port: Port, *, serial: bool = True) -> None:
        """A device on the bus."""
        folder = f"sys/bus/usb/devices/{port.location.partition(':')[0]}"
        self.write(f"{folder}/idVendor", f"{port.vid:04x}")
        self.write(f"{folder}/idProduct", f"{port.pid:04x}")
        self.write(f"{folder}/product", port.product)
        self.write(f"{folder}:1.0/bInterfaceClass", "02" if serial else "08")

    def runs(self, number: int, program: str) -> None:
        self.write(f"proc/{number}/comm", program)

    def system(self, *listed: Port, **changed: object) -> System:
        return replace(System("linux", list(listed), root=self.root, user="ada"), **changed)  # type: ignore[arg-type]


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    computer = Computer(tmp_path)
    computer.plug(Port("", "", 0x1D6B, 0x0002, "xHCI Host Controller", "usb1"))
    computer.plug(Port("", "", 0x046D, 0xC52B, "USB Receiver", "1-1"), serial=False)
    computer.runs(1, "systemd")
    return computer


def found(system: System, level: str = FIX) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(system, []) if finding.level == level}


# --- the computer -----------------------------------------------------------------------------------------------------


def test_a_board_that_is_well_needs_nothing(computer: Computer) -> None:
    computer.plug(PICO)
    system = computer.system(PICO)
    assert found(system) == found(system, NOTE) == {}
    assert set(found(system, OK)) == {"cable", "permission"}


@pytest.mark.parametrize(
    ("platform", "command"), [("linux", "lsusb"), ("darwin", "system_profiler SPUSB"), ("win32", "pnputil")]
)
def test_a_cable_that_only_charges(computer: Computer, platform: str, command: str) -> None:
    finding = found(computer.system(platform=platform))["cable"]
    assert "No board is on USB" in finding.what
    assert command in finding.do and "only charges" in finding.do


def test_a_pc_s_own_serial_port_is_no_board(computer: Computer) -> None:
    assert "cable" in found(computer.system(Port("/dev/ttyS0")))


@pytest.mark.parametrize(
    ("port", "module"), [(CH340, "ch341"), (replace(CH340, vid=0x10C4), "cp210x"), (PICO, "cdc_acm")]
)
def test_a_device_without_a_driver(computer: Computer, port: Port, module: str) -> None:
    computer.plug(port)
    assert f"sudo modprobe {module}" in found(computer.system())["driver"].do
    assert "driver" not in found(computer.system(port))


def test_a_device_that_is_no_serial_port_needs_no_driver(computer: Computer) -> None:
    computer.plug(replace(PICO, pid=0x000A), serial=False)
    assert found(computer.system()) == {}


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_drivers_elsewhere(computer: Computer, platform: str) -> None:
    finding = found(computer.system(platform=platform), NOTE)["driver"]
    assert "CP210x" in finding.do and "CH340" in finding.do
    assert "driver" not in found(computer.system(CH340, platform=platform), NOTE)


def test_brltty_takes_the_ch340(computer: Computer) -> None:
    computer.plug(CH340)
    assert "brltty" not in found(computer.system())
    computer.write(
        "usr/lib/udev/rules.d/85-brltty.rules", 'ENV{PRODUCT}=="1a86/7523/*", ENV{BRLTTY_BRAILLE_DRIVER}="bm"'
    )
    assert "apt remove brltty" in found(computer.system())["brltty"].do
    assert "brltty" not in found(computer.system(CH340))


def test_brltty_without_its_rules(computer: Computer) -> None:
    computer.plug(CH340)
    computer.runs(77, "brltty")
    assert "brltty" in found(computer.system())


@pytest.mark.parametrize(("pid", "name"), [(0x0003, "pico"), (0x000F, "pico2")])
def test_a_board_in_bootsel(computer: Computer, pid: int, name: str) -> None:
    computer.plug(replace(PICO, pid=pid), serial=False)
    findings = found(computer.system())
    assert set(findings) == {"bootloader"}
    assert f"midge flash --board {name}\n" in findings["bootloader"].do


def test_an_s3_with_two_cables(computer: Computer) -> None:
    note = found(computer.system(S3, CH340), NOTE)["two ports"]
    assert S3.path in note.what and CH340.path in note.what
    assert "two ports" not in found(computer.system(S3), NOTE)


def test_no_permission_and_the_rule_to_paste(computer: Computer) -> None:
    barred = computer.system(PICO, may_open=lambda _: False, group_of=lambda _: "uucp")
    do = found(barred)["permission"].do
    assert "sudo usermod -aG uucp ada" in do
    assert 'SUBSYSTEM=="tty", ATTRS{idVendor}=="2e8a", MODE="0660", TAG+="uaccess"' in do
    assert "log out and in again" in found(replace(barred, enrolled=frozenset({"uucp"})))["permission"].do
    assert "usermod" not in found(replace(barred, enrolled=frozenset({"uucp"})))["permission"].do


def test_a_port_that_another_program_holds(computer: Computer) -> None:
    system = computer.system(PICO, CH340, holder=lambda path: "thonny (process 42)" if path == PICO.path else "")
    finding = found(system)["busy"]
    assert (finding.what, finding.do) == (f"thonny (process 42) has {PICO.path} open.", "Close thonny (process 42).")


def test_modem_manager(computer: Computer) -> None:
    computer.plug(PICO)
    computer.runs(99, "ModemManager")
    do = found(computer.system(PICO, CH340), NOTE)["ModemManager"].do
    for vid in ("2e8a", "1a86"):
        assert f'SUBSYSTEM=="tty", ATTRS{{idVendor}}=="{vid}", ENV{{ID_MM_DEVICE_IGNORE}}="1"' in do
    computer.write("etc/udev/rules.d/60-midge.rules", 'ATTRS{idVendor}=="2e8a", ENV{ID_MM_DEVICE_IGNORE}="1"')
    assert "ModemManager" not in found(computer.system(PICO), NOTE)
    assert "1a86" in found(computer.system(PICO, CH340), NOTE)["ModemManager"].do


def test_macos_names(computer: Computer) -> None:
    system = computer.system(PICO, platform="darwin", asked="/dev/tty.usbmodem1101")
    assert "/dev/cu.usbmodem1101" in found(system, NOTE)["macOS names"].do
    assert "macOS names" not in found(replace(system, asked="/dev/cu.usbmodem1101"), NOTE)


def test_this_computer_can_be_looked_at() -> None:
    for check in CHECKS:
        check(System.here())


# --- a board ----------------------------------------------------------------------------------------------------------


def one(check: Callable[[Facts], list[Finding]], facts: Facts) -> tuple[str, str]:
    """Level and all words of a check's only finding."""
    (finding,) = check(facts)
    assert finding.port == facts.found.port.path
    return finding.level, f"{finding.what} {finding.do}"


def with_info(**changed: object) -> Facts:
    return replace(FACTS, info=replace(INFO, **changed))  # type: ignore[arg-type]


def test_a_board_that_is_fit() -> None:
    assert {finding.level for finding in examine(System("linux", []), [FACTS]) if finding.port} == {OK}


def test_a_board_that_does_not_answer() -> None:
    silent = Facts(Found(CH340, devices.SILENT))
    level, words = one(answers, silent)
    assert level == FIX and "hold BOOT while" in words
    assert "hold BOOT or BOOTSEL" in one(answers, Facts(Found(PICO, devices.SILENT)))[1]
    held = Facts(Found(PICO, devices.BUSY, devices.SOMEBODY))
    assert one(answers, held)[0] == FIX and "sudo midge doctor" in one(answers, held)[1]
    assert answers(Facts(Found(PICO, devices.BUSY, "thonny (process 42)"))) == []  # `held` has said so
    other = Facts(Found(PICO, devices.OTHER, "it says 'temp 21'"))
    assert one(answers, other)[0] == NOTE and "it says 'temp 21'" in one(answers, other)[1]
    node = Facts(Found(PICO, devices.RUNNING, node="fan-3", firmware="1.26.1"))
    assert one(answers, node)[0] == OK and "fan-3 is running" in one(answers, node)[1]
    for check in (abi, space, heap, clock):
        assert check(node) == check(silent) == []


@pytest.mark.parametrize(
    ("changed", "level", "word"),
    [
        ({}, OK, "1.26.1"),
        ({"version": (1, 22, 2)}, FIX, "needs 1.23 or later"),
        ({"version": (1, 23, 0), "arch": "rv32imc"}, FIX, "needs 1.24 or later"),
        ({"version": (1, 27, 0)}, NOTE, "tests ran on 1.24.1, 1.26.1"),
        ({"implementation": "circuitpython", "version": (9, 1, 4)}, FIX, "runs circuitpython 9.1.4"),
    ],
)
def test_firmware(changed: dict[str, object], level: str, word: str) -> None:
    found_level, words = one(firmware, with_info(**changed))
    assert found_level == level and word in words
    assert level != FIX or "midge flash --board pico" in words


def test_firmware_of_a_running_node() -> None:
    node = Facts(Found(PICO, devices.RUNNING, node="fan-3", firmware="1.20.0"))
    assert one(firmware, node)[0] == FIX
    assert firmware(Facts(Found(PICO, devices.SILENT))) == []


def test_mpy_versions() -> None:
    assert abi(FACTS) == []
    assert one(abi, with_info(mpy=(5, 0)))[0] == FIX
    level, words = one(abi, with_info(mpy=(6, 1)))
    assert level == NOTE and "no machine code" in words


def test_space_and_heap() -> None:
    assert one(space, FACTS)[0] == one(heap, FACTS)[0] == OK
    level, words = one(space, with_info(fs_free=40_000))
    assert level == FIX and "40,000 of 1,441,792" in words
    level, words = one(heap, with_info(heap_free=90_000))
    assert level == NOTE and "90,000 bytes" in words
    assert heap(replace(FACTS, board=None)) == []


@pytest.mark.parametrize(
    ("ahead", "zone", "level", "word"),
    [
        (0, 0, OK, "right"),
        (-4, 0, OK, "right"),
        (90, 0, FIX, "off by 90 s"),
        (-3 * 86400, 0, FIX, "off by 3.0 days"),
        (3600, 3600, FIX, "local time"),
        (3600, 0, FIX, "off by 3600 s"),
        (1_609_459_200 - NOW, 0, NOTE, "is not set"),
        (-18000, -18000, FIX, "local time"),
    ],
)
def test_clocks(ahead: int, zone: int, level: str, word: str) -> None:
    found_level, words = one(clock, replace(FACTS, board_clock=NOW + ahead, zone_s=zone))
    assert found_level == level and word in words
    assert level == OK or "--set-clock" in words


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("MIDGE_PORT", raising=False)
    monkeypatch.setattr("serial.tools.list_ports.comports", list)
    monkeypatch.setattr("midgehost.deploy.doctor.system.System.usb", lambda _: [])


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {entry["check"]: entry["level"] for entry in json.loads(capsys.readouterr().out)}


@pytest.mark.usefixtures("alone")
def test_a_virtual_board_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    with VirtualBoard() as board, ports.announce(board.port):
        assert run(["doctor", "--port", board.path, "--json"]) == 0
        found = findings(capsys)
        assert {check: found[check] for check in ("answer", "firmware", "space", "heap")} == {
            "answer": OK,
            "firmware": OK,
            "space": OK,
            "heap": OK,
        }
        assert found["clock"] == NOTE
        assert run(["doctor", "--set-clock", "--json"]) == 0
        assert findings(capsys)["clock"] == OK
    assert run(["doctor"]) == 1
    assert "fix  cable: No board is on USB.\n" in capsys.readouterr().out
    assert run(["doctor", "--port", "/dev/ttyNONE", "--json"]) == 1
    assert findings(capsys)["answer"] == FIX


@pytest.mark.usefixtures("alone")
def test_what_runs_is_stopped_on_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    with VirtualBoard() as board, ports.announce(board.port):
        with SerialTransport(board.path) as line:
            line.put("/main.py", b"import time\nwhile 1:\n print('hello')\n time.sleep(0.05)")
            line.reset()
        run(["doctor", "--json"])
        assert findings(capsys)["answer"] == NOTE
        assert board.boots == ["power", "hard"]
        run(["doctor", "--json", "--probe"])
        assert findings(capsys)["answer"] == OK
        assert board.boots == ["power", "hard", "hard"]
        assert not board.wait_ready(0.1)
