"""`midge flash` on a Pico that runs, becomes a drive, is flashed and comes back; and what may go wrong on the way."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uf2_files as files

from midgehost import firmware_cache, ports
from midgehost.boards import board
from midgehost.cli import board_at
from midgehost.cli.app import run
from midgehost.deploy import transport
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import NotFound, RemoteError
from midgehost.flash import uf2_image
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.bootsel import BootselDrive
from midgehost.virtual.emulated import EmulatedPico, find_image
from midgehost.virtual.engine import Firmware
from midgehost.virtual.virtual_pico import VirtualPico

STOCK = "RPI_PICO-20250911-v1.26.1.uf2"
OLD = "RPI_PICO-20241129-v1.24.1.uf2"
PICO_W = "RPI_PICO_W-20250911-v1.26.1.uf2"
Flash = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing but what a test plugs in, and a cache with three made images under stock names."""
    monkeypatch.setenv("MIDGE_BOOTSEL", str(tmp_path / "media"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("MIDGE_PORT", raising=False)
    monkeypatch.setenv("MIDGE_FIRMWARE_URL", "http://127.0.0.1:9")
    firmware_cache.store(STOCK, files.stock(nbytes=200_000), "test")
    firmware_cache.store(OLD, files.stock(version="1.24.1"), "test")
    firmware_cache.store(PICO_W, files.stock(machine="Raspberry Pi Pico W with RP2040"), "test")
    return tmp_path


@pytest.fixture
def pico(desk: Path) -> Iterator[VirtualPico]:
    """A Pico that runs, at `<desk>/board`."""
    with VirtualPico(desk / "media" / "RPI-RP2", link=desk / "board", restart_s=0.1) as pico:
        assert pico.board.wait_ready()
        yield pico


@pytest.fixture
def flash(capsys: pytest.CaptureFixture[str]) -> Flash:
    """Runs `midge flash`: (exit code, what it said, its last line on stderr). Each within the 15 s of an error."""

    def go(*arguments: object) -> tuple[int, str, str]:
        began = time.monotonic()
        code = run(["flash", *map(str, arguments)])
        assert time.monotonic() - began < 15
        told = capsys.readouterr()
        return code, told.out, (told.err.strip().splitlines() or [""])[-1]

    return go


def test_a_running_pico_is_flashed_and_keeps_its_files(pico: VirtualPico, flash: Flash) -> None:
    with SerialTransport(pico.path) as line:
        line.put("/data.txt", b"kept")
    code, out, _ = flash("--board", "pico", "--port", pico.path, "--json")
    report = json.loads(out)
    assert (code, report.pop("seconds") < 15) == (0, True)
    assert report == {
        "board": "pico",
        "image": STOCK,
        "erased": False,
        "port": pico.path,
        "version": "1.26.1",
        "machine": files.PICO,
    }
    written = files.stock(nbytes=200_000)
    assert bytes(pico.drive.flash.data) == files.flashed(written, bytes(pico.drive.flash.data))
    with SerialTransport(pico.path) as line:
        assert line.get("/data.txt") == b"kept"
    assert not pico.drive.folder.exists() and not pico.drive.rom.log


def test_the_board_says_what_it_is(pico: VirtualPico, flash: Flash) -> None:
    code, out, _ = flash("--port", pico.path, "--firmware", "1.24.1")
    assert code == 0 and f"{files.PICO} runs MicroPython 1.24.1 at {pico.path}" in out


def test_the_usual_port_needs_no_name(
    pico: VirtualPico, flash: Flash, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    (desk / "midge.toml").write_text('port = "./board"')
    assert flash()[0] == 0
    monkeypatch.setenv("MIDGE_PORT", str(desk / "elsewhere"))
    code, _, error = flash()
    assert code == 2 and "elsewhere" in error


def test_erase_takes_the_files_too(pico: VirtualPico, flash: Flash) -> None:
    with SerialTransport(pico.path) as line:
        line.put("/data.txt", b"gone")
    assert flash("--board", "pico", "--port", pico.path, "--erase")[0] == 0
    with SerialTransport(pico.path) as line, pytest.raises(RemoteError, match="ENOENT"):
        line.get("/data.txt")


def test_an_unopened_pico_needs_no_port(desk: Path, flash: Flash) -> None:
    drive, link = desk / "media" / "RPI-RP2", desk / "board"
    with VirtualPico(drive, blank=True, link=link, restart_s=0.1) as pico:
        announced = ports.Port(str(link), virtual="virtual pico")
        esp = ports.Port("vboard://esp32", virtual="esp32")
        with ports.announce(announced), ports.announce(esp):
            code, _, error = flash()
            assert code == 2 and "Say --board pico or --board pico-w." in error
            code, out, _ = flash("--board", "pico", "--json")
        assert code == 0 and json.loads(out)["port"] == str(link)
        assert pico.board.boots == ["power"]


def test_a_pico_w_is_a_pico_with_other_firmware(pico: VirtualPico, flash: Flash) -> None:
    code, out, _ = flash("--board", "pico-w", "--port", pico.path)
    assert code == 0 and "runs the firmware of pico, you name it pico-w" in out
    assert "Raspberry Pi Pico W with RP2040 runs MicroPython 1.26.1" in out


def test_what_is_refused_leaves_the_running_board_alone(pico: VirtualPico, flash: Flash, desk: Path) -> None:
    damaged, other = desk / "damaged.uf2", desk / "other.uf2"
    damaged.write_bytes(files.stock()[:-512])
    other.write_bytes(files.stock(files.ARM))
    wrong_name = desk / PICO_W
    wrong_name.write_bytes(files.stock(machine="Raspberry Pi Pico W with RP2040"))
    at = ("--port", pico.path)
    for arguments, code, named in (
        (("--board", "pico", "--firmware", damaged), 2, "flash.bad_image"),
        (("--board", "pico", "--firmware", other), 2, "flash.wrong_image"),
        (("--board", "pico", "--firmware", wrong_name), 2, "flash.wrong_image"),
        (("--board", "pico", "--firmware", desk / "none.uf2"), 2, "host.os"),
        (("--board", "pico", "--firmware", "1.20.0"), 1, "flash.offline"),
        (("--board", "pico2"), 1, "flash.wrong_board"),
        (("--board", "picow"), 2, "board.not_found"),
    ):
        found, _, error = flash(*arguments, *at)
        assert (found, error.rpartition("[")[2].rstrip("]")) == (code, named), error
    assert pico.board.boots == ["power"] and pico.board.running and not pico.drive.folder.exists()


def test_a_deaf_board_is_asked_by_1200_baud(pico: VirtualPico, flash: Flash, monkeypatch: pytest.MonkeyPatch) -> None:
    with SerialTransport(pico.path) as line:
        line.put("/main.py", b"import micropython\nmicropython.kbd_intr(-1)\nwhile 1:pass\n")
    pico.board.power_cycle()
    monkeypatch.setattr(transport, "ENTER_TIMEOUT", 1.0)
    code, _, error = flash("--board", "pico", "--port", pico.path, "--erase")
    assert code == 0, error
    with SerialTransport(pico.path) as line:
        assert line.exec("import os\nprint(os.listdir())") == "[]\n"


def test_mpremote_and_cp_do_the_same(pico: VirtualPico, desk: Path) -> None:
    port = pico.path
    mpremote = str(Path(sys.executable).with_name("mpremote"))
    subprocess.run([mpremote, "connect", port, "bootloader"], check=True, timeout=30)
    wait_for(lambda: (pico.drive.folder / "INFO_UF2.TXT").exists() and not Path(port).exists())
    subprocess.run(["cp", desk / "cache" / "midge" / "firmware" / OLD, pico.drive.folder], check=True)
    assert pico.drive.wait_boot()
    wait_for(Path(port).exists)
    with SerialTransport(port) as line:
        assert line.exec("import sys\nprint(sys.implementation.version[:3])") == "(1, 24, 1)\n"


def test_a_pico_of_the_command_line(desk: Path, flash: Flash) -> None:
    midge, link, drive = Path(sys.executable).with_name("midge"), desk / "board", desk / "media" / "RPI-RP2"
    command = [midge, "board", "start", "virtual", "--bootsel", drive, "--link", link]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None and started.stdout.readline().strip() == str(link)
            code, out, error = flash("--board", "pico", "--json")  # announced: it needs no port
            assert code == 0, error
            assert json.loads(out)["port"] == str(link)
        finally:
            started.terminate()
            started.wait(10)
    assert not link.is_symlink() and not drive.exists()


def test_two_boards_in_bootsel_mode_are_ambiguous(desk: Path, flash: Flash) -> None:
    with BootselDrive(desk / "media" / "RPI-RP2") as one, BootselDrive(desk / "media" / "RPI-RP21") as other:
        code, _, error = flash("--board", "pico")
        assert code == 2 and str(one.folder) in error and str(other.folder) in error
        code, _, error = flash("--board", "pico", "--port", one.folder, "--firmware", desk / "x.uf2")
        assert code == 2 and "host.os" in error


def test_one_of_two_is_flashed_where_its_port_is_named(pico: VirtualPico, desk: Path, flash: Flash) -> None:
    with BootselDrive(desk / "media" / "RPI-RP21") as other:
        assert flash("--board", "pico", "--port", pico.path)[0] == 0
        assert other.rom.progress == (0, 0) and other.flash.data == b"\xff" * len(other.flash.data)


def test_no_board_at_all(flash: Flash, desk: Path) -> None:
    code, _, error = flash("--board", "pico")
    assert code == 2 and "Hold its BOOTSEL button while you plug it in" in error
    assert flash()[0] == 2
    code, _, error = flash("--board", "pico", "--port", desk / "gone")
    assert code == 2 and "board.not_found" in error
    code, _, error = flash("--port", desk / "gone")
    assert code == 2 and "Name it with --board" in error


def test_a_board_that_does_not_come_back(desk: Path, flash: Flash, monkeypatch: pytest.MonkeyPatch) -> None:
    assert board_at._BACK_S < 15
    monkeypatch.setattr(board_at, "_BACK_S", 0.5)
    with BootselDrive(desk / "media" / "RPI-RP2", restart_s=0):
        code, _, error = flash("--board", "pico", "--port", desk / "board")
    assert code == 1 and "flash.not_back" in error and str(desk / "board") in error


@pytest.mark.parametrize(
    ("firmware", "named"),
    [
        (Firmware((1, 20, 0, ""), files.PICO), "flash.wrong_firmware"),
        (Firmware((1, 26, 1, ""), "Raspberry Pi Pico W with RP2040"), "flash.wrong_firmware"),
        (Firmware((1, 26, 1, ""), "Raspberry Pi Pico2 with RP2350"), "flash.wrong_board"),
    ],
)
def test_a_board_that_answers_as_something_else(desk: Path, flash: Flash, firmware: Firmware, named: str) -> None:
    with contextlib.ExitStack() as stack:
        back = VirtualBoard(link=desk / "board")
        back.install(firmware)
        stack.callback(back.close)
        drive = BootselDrive(desk / "media" / "RPI-RP2", restart_s=0, on_boot=lambda _: back.start() and None)
        stack.enter_context(drive)
        code, _, error = flash("--board", "pico", "--port", desk / "board")
    assert (code, error.rpartition("[")[2].rstrip("]")) == (1, named)


def test_other_firmware_is_written_and_nobody_is_asked(desk: Path, flash: Flash) -> None:
    blink = desk / "blink.uf2"
    blink.write_bytes(files.stock(machine=""))
    blink.write_bytes(blink.read_bytes().replace(b"MicroPython", b"NoPythonAtAl"[:11]))
    with BootselDrive(desk / "media" / "RPI-RP2", restart_s=0) as drive:
        code, out, _ = flash("--board", "pico", "--firmware", blink)
        assert code == 0 and "does not say which board" in out and "it is no MicroPython" in out
        assert drive.wait_boot()


@pytest.mark.emulated
def test_the_stock_image_boots_from_the_bytes_that_the_drive_took(
    desk: Path, flash: Flash, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    try:
        image = find_image("pico")
    except NotFound as error:
        pytest.skip(str(error))
    written = desk / "written.uf2"

    def keep(memory: bytes) -> None:
        written.write_bytes(uf2_image.serialise(files.RP2040, files.BASE, memory[: len(image.read_bytes()) // 2]))

    with BootselDrive(desk / "media" / "RPI-RP2", restart_s=0, on_boot=keep) as drive:
        subprocess.run(["cp", image, drive.folder], check=True)
        assert drive.wait_boot()
    assert written.read_bytes() == image.read_bytes()
    with EmulatedPico(written) as pico:
        version = pico.exec("import sys\nprint('.'.join(map(str,sys.implementation.version[:3])))").strip()
        assert version == firmware_cache.parse_name(image.name)[2]  # type: ignore[index]
        assert pico.exec("print(sys.implementation._machine)").strip() == f"{board('pico').title} with RP2040"


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
