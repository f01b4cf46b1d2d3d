"""A virtual ESP32 from blank flash to REPL and back, with the real esptool and mpremote and `midge flash`: reset,
download mode, flash, boot and files are one story, told by DTR and RTS."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import serial

import esp_images
from midgehost import connect, ports
from midgehost.cli.app import run
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import BoardError
from midgehost.virtual.esp.board import EspBoard
from midgehost.virtual.esp.environment.midge_vboard import install, socket_path
from midgehost.virtual.esp.faults import ALWAYS, Faults
from midgehost.virtual.esp.lines import NameTaken
from midgehost.virtual.esp.rom import Command

MIDGE = [sys.executable, "-c", "from midgehost.cli import main; main()"]
Flash = Callable[..., tuple[int, dict[str, object]]]


@pytest.fixture(autouse=True)
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing but what a test plugs in. A short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="midge-") as folder:
        for name in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "MIDGE_BOOTSEL"):
            monkeypatch.setenv(name, folder)
        monkeypatch.delenv("MIDGE_PORT", raising=False)
        monkeypatch.delenv("MIDGE_VBOARDS", raising=False)
        yield Path(folder)


@pytest.fixture
def flash(desk: Path, capsys: pytest.CaptureFixture[str]) -> Flash:
    """Runs `midge flash --json` with an image of that chip and version: (exit code, report)."""

    def flash(chip: str, version: str, *arguments: str) -> tuple[int, dict[str, object]]:
        image = desk / "image.bin"
        image.write_bytes(esp_images.merged(chip, 60_000, version=version))
        code = run(["flash", "--firmware", str(image), "--json", *arguments])
        return code, json.loads(capsys.readouterr().out)

    return flash


def tool(board: EspBoard, name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=board.environment, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def mpremote(board: EspBoard, *arguments: str) -> str:
    return tool(board, "mpremote", "connect", board.url, *arguments)


# --- one story --------------------------------------------------------------------------------------------------------


def test_blank_flashed_used_updated_and_erased(flash: Flash) -> None:
    with EspBoard("esp32") as board:
        assert board.wait_for("stuck")
        code, report = flash("esp32", "v1.26.1", "--board", "esp32", "--port", board.url)
        assert (code, report["version"], report["board"]) == (0, "1.26.1", "esp32")
        assert report["machine"] == "Generic ESP32 module with ESP32"
        mpremote(board, "exec", "with open('kept.txt', 'w') as f: f.write('files live in the vfs partition')")
        # The board answers now, so it need not be named; an update keeps the files.
        code, report = flash("esp32", "v1.27.0", "--port", board.url)
        assert (code, report["version"]) == (0, "1.27.0")
        assert mpremote(board, "cat", ":kept.txt").startswith("files live in the vfs partition")
        assert mpremote(board, "exec", "import sys; print(sys.implementation.version[:2])").strip() == "(1, 27)"
        # esptool reads them where the partition table says that they are.
        assert b"files live in" in board.flash.read(esp_images.VFS, 0x200000)
        code, report = flash("esp32", "v1.27.0", "--port", board.url, "--erase")
        assert (code, report["erased"]) == (0, True)
        assert "kept" not in mpremote(board, "ls")
        tool(board, "esptool", "--port", board.url, "erase-flash")
        assert board.wait_for("stuck")
        assert "invalid header: 0xffffffff" in heard(board)


def heard(board: EspBoard) -> str:
    """What a serial monitor sees when it resets the board."""
    install()
    with serial.serial_for_url(board.url, baudrate=115200, timeout=0.3) as monitor:
        monitor.dtr = False
        monitor.rts = True
        monitor.rts = False
        return monitor.read(2000).decode(errors="replace")


def test_download_mode_by_button_and_back_by_reset(desk: Path) -> None:
    with EspBoard("esp32s3") as board:
        board.boot_button = True
        assert "boot:0x0 (DOWNLOAD(USB/UART0))" in heard(board)
        assert board.mode == "download"
        board.boot_button = False
        board.press_reset()
        assert board.wait_for("stuck")


@pytest.mark.parametrize("usb", [False, True], ids=["bridge", "own USB"])
def test_every_reset_of_esptool_leads_where_it_should(usb: bool, desk: Path) -> None:
    image = desk / "image.bin"
    image.write_bytes(esp_images.merged("esp32c3", 4000))
    before = ("--before", "usb-reset") if usb else ()
    with EspBoard("esp32c3", usb=usb) as board:
        at = ("--port", board.url, *before)
        tool(board, "esptool", *at, "write-flash", "0", str(image))
        assert board.wait_for("app")
        assert mpremote(board, "exec", "print(6 * 7)").strip() == "42"
        tool(board, "esptool", *at, "--after", "no-reset", "flash-id")
        assert board.mode == "download"
        tool(board, "esptool", *at, "chip-id")
        assert board.wait_for("app")
        assert mpremote(board, "exec", "print(6 * 7)").strip() == "42"
        if not usb:  # once each, or more often where esptool tried again
            assert [mode for mode, _ in itertools.groupby(board.boots)] == ["stuck", *["download", "app"] * 2]


def test_a_client_with_another_speed_hears_noise(desk: Path) -> None:
    install()
    with EspBoard("esp32") as board, serial.serial_for_url(board.url, baudrate=74880, timeout=0.3) as monitor:
        board.press_reset()
        noise = monitor.read(2000)
        assert noise and b"POWERON" not in noise
        monitor.baudrate = 115200
        board.press_reset()
        assert b"POWERON_RESET" in monitor.read(2000)


def test_flash_in_a_file_outlives_the_board(desk: Path, flash: Flash) -> None:
    file = desk / "flash.img"
    with EspBoard("esp32c6", file) as board:
        assert flash("esp32c6", "v1.26.1", "--board", "esp32-c6", "--port", board.url)[0] == 0
        mpremote(board, "exec", "with open('note', 'w') as f: f.write('still here')")
    with EspBoard("esp32c6", file) as board:
        assert board.wait_for("app")
        assert mpremote(board, "cat", ":note").strip() == "still here"


def test_midge_speaks_to_it_as_to_any_board(flash: Flash) -> None:
    with EspBoard("esp32") as board, ports.announce(board.port):
        assert flash("esp32", "v1.26.1", "--board", "esp32")[0] == 0  # the only board that is there
        with connect(f"serial:{board.port.serial_number}") as connected:
            assert connected.info.platform == "esp32"
            assert connected.exec("print('hello')").strip() == "hello"
        with SerialTransport(board.url) as transport:
            transport.put("/data.bin", bytes(range(256)) * 20)
            transport.reset()
            assert transport.get("/data.bin") == bytes(range(256)) * 20


def test_one_client_at_a_time_and_one_board_a_name(desk: Path) -> None:
    install()
    with EspBoard("esp32", name="only") as board, serial.serial_for_url(board.url):
        with pytest.raises(serial.SerialException, match="exclusively lock"):
            serial.serial_for_url(board.url)
        with pytest.raises(NameTaken):
            EspBoard("esp32", name="only")
        second = EspBoard.first_free("esp32", None)
        third = EspBoard.first_free("esp32", None)
        assert (second.url, third.url) == ("vboard://esp32", "vboard://esp32-2")
        second.close()
        third.close()
    assert not socket_path("only").exists()


def test_a_socket_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDGE_VBOARDS", "/proc/nowhere")
    with pytest.raises(BoardError, match="cannot be made"):
        EspBoard("esp32")


# --- through the command ----------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, str, Faults]] = {
    # code of the error, words of the line
    "sync lost twice": ("", "", Faults(lost_answers={Command.SYNC: 2})),
    "boot noise before sync": ("", "", Faults(chatter=b"ets Jul 29 2019\r\n", chatters=4)),
    "sync lost always": ("flash.no_sync", "nothing was written", Faults(lost_answers={Command.SYNC: ALWAYS})),
    "data answer lost": ("flash.write_failed", "it fell silent", Faults(lost_answers={Command.FLASH_DEFL_DATA: 1})),
    "bit flips after write": ("flash.not_verified", "MD5 of file does not match", Faults(flipped=0x10100)),
    "board dies": ("flash.write_failed", "firmware is incomplete now", Faults(dies_after=2)),
    "board vanishes": ("flash.write_failed", "its port vanished", Faults(vanishes_after=2)),
    "wrong chip": ("flash.wrong_board", "is esp32-c6, not esp32; nothing was written", Faults()),
}


def test_every_fault_through_the_command(desk: Path) -> None:
    image = desk / "faulty.bin"
    image.write_bytes(esp_images.merged("esp32", 90_000))

    def end(name: str) -> tuple[int, str, float]:
        chip = "esp32c6" if name == "wrong chip" else "esp32"
        with EspBoard(chip, faults=FAULTS[name][2]) as board:
            begun = time.monotonic()
            command = [*MIDGE, "flash", "--board", "esp32", "--port", board.url, "--firmware", str(image)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            return done.returncode, done.stderr, time.monotonic() - begun

    with ThreadPoolExecutor(len(FAULTS)) as pool:
        ends = dict(zip(FAULTS, pool.map(end, FAULTS), strict=True))
    for name, (code, words, _) in FAULTS.items():
        returned, said, seconds = ends[name]
        print(f"{name:24} exit code {returned}, {seconds:4.1f} s  {said.strip()}")
        assert seconds < 15, name
        assert returned == (1 if code else 0), (name, said)
        if code:
            (line,) = [line for line in said.splitlines() if line.startswith("midge: ")]
            assert words in line, name
            assert line.endswith(f"[{code}]"), name


def test_midge_board_start_serves_until_it_is_ended(desk: Path) -> None:
    with contextlib.ExitStack() as stack:
        urls: list[str] = []
        boards: list[subprocess.Popen[str]] = []
        for _ in range(2):
            command = [*MIDGE, "board", "start", "esp32-c3", "--flash", str(desk / f"flash-{len(boards)}.img")]
            board = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stack.callback(board.kill)
            assert board.stdout is not None
            urls.append(board.stdout.readline().strip())
            boards.append(board)
        assert urls == ["vboard://esp32-c3", "vboard://esp32-c3-2"]
        assert [port.path for port in ports.announced()] == urls
        for board in boards:
            board.send_signal(signal.SIGTERM)
            out, said = board.communicate(timeout=10)
            assert (board.returncode, out) == (0, "")
            assert said.startswith("esptool and mpremote know it with: export PYTHONPATH=")
    assert ports.announced() == []
    assert list((desk / "midge" / "vboards").iterdir()) == []
