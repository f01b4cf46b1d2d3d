"""The esptool backend: the real esptool on virtual chips, every fault in one clear line and in time."""

from __future__ import annotations

import importlib.metadata
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import esp_images
from midgehost import boards, virtual
from midgehost.errors import Busy, FlashError, MidgeError, Missing, NotFound
from midgehost.flash import BACKENDS, esptool
from midgehost.flash.backend import BadImage, Request, WrongBoard, WrongImage, choose
from midgehost.flash.esptool import (
    EsptoolBackend,
    EsptoolFailed,
    NoRoom,
    NoSync,
    NotVerified,
    PortDenied,
    WriteFailed,
)
from midgehost.virtual.esp.board import EspBoard
from midgehost.virtual.esp.chips import CHIPS
from midgehost.virtual.esp.faults import ALWAYS, Faults
from midgehost.virtual.esp.nor import SECTOR
from midgehost.virtual.esp.rom import Command

LIMIT_S = 15.0
MUTANTS_PER_RUN = 30
ALL_MUTANTS = 200


@pytest.fixture(autouse=True, scope="module")
def sockets() -> Iterator[None]:
    """A folder of our own for vboard:// sockets, whose paths have to be short."""
    virtual.register()
    with tempfile.TemporaryDirectory(prefix="midge-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIDGE_VBOARDS", folder)
        yield


def request(board: str, image: Path, port: str = "", erase: bool = False) -> Request:
    return Request(boards.board(board), image, port, erase)


def write_image(folder: Path, data: bytes) -> Path:
    path = folder / "image.bin"
    path.write_bytes(data)
    return path


def flash(chip: str, board: EspBoard, image: Path, erase: bool = False) -> list[tuple[int, int]]:
    """Flashes, and returns the progress that was reported."""
    seen: list[tuple[int, int]] = []
    EsptoolBackend().flash(request(CHIPS[chip].board, image, board.url, erase), lambda *done: seen.append(done))
    return seen


# --- what is refused before anything is touched -----------------------------------------------------------------------


def test_the_backend_serves_espressif_boards_and_their_files() -> None:
    esp = request("esp32-c6", Path("image.bin"))
    assert choose(BACKENDS, esp).name == "esptool"
    reason = EsptoolBackend().supports(request("esp32", Path("image.uf2")))
    assert reason is not None and reason.code == "esptool.suffix"
    reason = EsptoolBackend().supports(request("pico", Path("image.bin")))
    assert reason is not None and reason.code == "esptool.board"


def test_a_good_image_has_no_doubts(tmp_path: Path) -> None:
    for chip in CHIPS.values():
        assert EsptoolBackend().check(request(chip.board, write_image(tmp_path, esp_images.merged(chip.name)))) == ()


def test_other_firmware_is_a_doubt(tmp_path: Path) -> None:
    data = esp_images.merged("esp32", project="blinky")
    (doubt,) = EsptoolBackend().check(request("esp32", write_image(tmp_path, data)))
    assert doubt == "image.bin is no MicroPython image, but blinky"


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (esp_images.merged("esp32c6"), WrongImage, "is for esp32-c6, not for esp32-c3; nothing was written"),
        (esp_images.merged("esp32s2"), WrongImage, "is for esp32s2, not for esp32-c3"),
        (esp_images.merged("esp32c3")[:-1], BadImage, "it ends in the middle of its app factory"),
        (esp_images.merged("esp32c3", flash_size=3), WrongImage, "a board with 8 MB of flash"),
        (esp_images.merged("esp32c3").ljust((4 << 20) + 1, b"\xff"), BadImage, "larger than the 4,194,304 bytes"),
        (b"", BadImage, "0 bytes"),
    ],
)
def test_images_that_do_not_fit(data: bytes, error: type[MidgeError], words: str, tmp_path: Path) -> None:
    asked = request("esp32-c3", write_image(tmp_path, data), "/dev/nowhere")
    for action in (lambda: EsptoolBackend().check(asked), lambda: EsptoolBackend().flash(asked, lambda *_: None)):
        with pytest.raises(error, match=words) as raised:
            action()
        assert isinstance(raised.value, FlashError) and raised.value.exit_code == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="no such file"):
        EsptoolBackend().check(request("esp32", tmp_path / "none.bin"))


def test_esptool_is_not_installed_or_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request("esp32", write_image(tmp_path, esp_images.merged("esp32")))

    def version_of(found: str | None) -> Callable[[str], str]:
        def version(name: str) -> str:
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        return version

    for found, words in ((None, "esptool is not installed"), ("4.8.1", r"esptool 5 \(there is 4.8.1\)")):
        monkeypatch.setattr(importlib.metadata, "version", version_of(found))
        with pytest.raises(Missing, match=words):
            EsptoolBackend().flash(asked, lambda *_: None)


# --- what works -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["esp32", "esp32c3"])
def test_flashing_writes_verifies_and_starts_the_image(chip: str, tmp_path: Path) -> None:
    image = write_image(tmp_path, esp_images.merged(chip, 200_000))
    size, offset = image.stat().st_size, esp_images.OFFSETS[chip]
    with EspBoard(chip) as board:
        board.flash.replace(0x300000, b"kept")
        seen = flash(chip, board, image)
        assert board.flash.read(offset, size) == image.read_bytes()
        assert board.flash.read(0x300000, 4) == b"kept"
        assert seen[-1] == (size, size)
        assert len(seen) > 5
        assert seen == sorted(set(seen))
        assert board.boots[-2:] == ["download", "app"] or board.wait_for("app")


def test_erase_takes_everything_else_away(tmp_path: Path) -> None:
    image = write_image(tmp_path, esp_images.merged("esp32c6"))
    with EspBoard("esp32c6") as board:
        board.flash.replace(0, b"\x55" * board.flash.size)
        flash("esp32c6", board, image, erase=True)
        size = image.stat().st_size
        assert board.flash.read(0, size) == image.read_bytes()
        assert board.flash.read(size, 0x1F0000 - size).strip(b"\xff") == b""


def test_a_chip_on_its_own_usb_is_reset_its_own_way(tmp_path: Path) -> None:
    image = write_image(tmp_path, esp_images.merged("esp32s3"))
    with EspBoard("esp32s3", usb=True, flash_bytes=8 << 20) as board:
        flash("esp32s3", board, image)
        assert board.flash.read(0, image.stat().st_size) == image.read_bytes()
        assert board.wait_for("app")


def test_settings_of_the_user_do_not_reach_esptool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPTOOL_CHIP", "esp32c3")
    monkeypatch.setenv("ESPTOOL_BEFORE", "no-reset")
    (tmp_path / "esptool.cfg").write_text("[esptool]\ncustom_reset_sequence = W0.1\n")
    monkeypatch.chdir(tmp_path)
    with EspBoard("esp32") as board:
        flash("esp32", board, write_image(tmp_path, esp_images.merged("esp32")))


# --- faults -----------------------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """A board with something wrong, and how that ends: an error and its words, None where it does no harm."""

    name: str
    error: type[MidgeError] | None
    words: str = ""
    chip: str = "esp32"
    board: str = "esp32"
    faults: Faults = field(default_factory=Faults)


FAULTS = (
    Fault("two SYNC answers lost", None, faults=Faults(lost_answers={Command.SYNC: 2})),
    Fault("boot noise before SYNC", None, faults=Faults(chatter=b"ets Jul 29 2019\r\n\xc0\x00noise\xc0", chatters=3)),
    Fault(
        "every SYNC answer lost",
        NoSync,
        r"ROM loader of esp32 at \S+ does not answer \(.*\); nothing was written. Hold its BOOT button",
        faults=Faults(lost_answers={Command.SYNC: ALWAYS}),
    ),
    Fault(
        "a data answer lost",
        WriteFailed,
        r"ended after 0 of 361,872 bytes \(it fell silent\); its firmware is incomplete now",
        faults=Faults(lost_answers={Command.FLASH_DEFL_DATA: 1}),
    ),
    Fault(
        "the answer to BEGIN lost",
        WriteFailed,
        r"ended after 0 of [\d,]+ bytes \(it fell silent\)",
        faults=Faults(lost_answers={Command.FLASH_DEFL_BEGIN: 1}),
    ),
    Fault(
        "the answer to MD5 lost",
        NotVerified,
        r"does not hold what was sent \(it fell silent\)",
        faults=Faults(lost_answers={Command.SPI_FLASH_MD5: 1}),
    ),
    Fault(
        "an answer that lacks a byte",
        WriteFailed,
        "the chip refused to write compressed data to flash after seq 0",
        faults=Faults(short_answers={Command.FLASH_DEFL_DATA: 1}),
    ),
    Fault(
        "a bit of flash flips",
        NotVerified,
        r"\(MD5 of file does not match data in flash\); its firmware is damaged now. Flash again with --erase",
        faults=Faults(flipped=0x11234),
    ),
    Fault("another chip", WrongBoard, "is esp32-c6, not esp32-c3; nothing was written", "esp32c6", "esp32-c3"),
    Fault("another chip with magic", WrongBoard, "is esp32, not esp32-c3; nothing was written", "esp32", "esp32-c3"),
    Fault(
        "the board dies while it is written",
        WriteFailed,
        r"ended after 1\d\d,\d{3} of 361,872 bytes \(it fell silent\)",
        faults=Faults(dies_after=5),
    ),
    Fault("the board is dead", NoSync, "nothing was written", faults=Faults(dies_after=0)),
    Fault(
        "the board vanishes while it is written",
        WriteFailed,
        r"ended after 1\d\d,\d{3} of [\d,]+ bytes \(its port vanished\)",
        faults=Faults(vanishes_after=5),
    ),
)


def outcome(fault: Fault, folder: Path) -> tuple[MidgeError | None, float]:
    """How flashing the board ends, and after how many seconds."""
    target = boards.board(fault.board)
    assert target.flash is not None
    place = folder / fault.name.replace(" ", "-")
    place.mkdir()
    image = write_image(place, esp_images.merged(target.flash.chip, 300_000))
    with EspBoard(fault.chip, faults=fault.faults) as board:
        begun = time.monotonic()
        try:
            EsptoolBackend().flash(Request(target, image, board.url), lambda *_: None)
        except MidgeError as error:
            return error, time.monotonic() - begun
        assert board.flash.read(target.flash.offset, image.stat().st_size) == image.read_bytes()
        return None, time.monotonic() - begun


def test_every_fault_is_one_clear_line_in_time(tmp_path: Path) -> None:
    # Together: nearly all of their time is waiting.
    with ThreadPoolExecutor(len(FAULTS)) as pool:
        ends = list(pool.map(lambda fault: outcome(fault, tmp_path), FAULTS))
    for fault, (error, seconds) in zip(FAULTS, ends, strict=True):
        print(f"{fault.name:40} {seconds:5.1f} s  {error or 'flashed'}")
        assert seconds < LIMIT_S, fault.name
        if fault.error is None:
            assert error is None, fault.name
            continue
        assert type(error) is fault.error, (fault.name, error)
        assert error is not None and "\n" not in str(error)
        if isinstance(error, FlashError):
            assert error.exit_code == 1
        assert re.search(fault.words, str(error)), (fault.name, str(error))


def test_a_board_that_comes_back_is_written_to_its_end(tmp_path: Path) -> None:
    image = write_image(tmp_path, esp_images.merged("esp32", 200_000))
    faults = Faults(vanishes_after=4)
    with EspBoard("esp32", faults=faults) as board:

        def replug() -> None:
            while board.rom_blocks < 4:
                time.sleep(0.01)
            faults.vanishes_after = None
            board.replug()

        helper = threading.Thread(target=replug, daemon=True)
        helper.start()
        seen = flash("esp32", board, image)
        helper.join(5)
        assert board.flash.read(0x1000, image.stat().st_size) == image.read_bytes()
        assert seen != sorted(seen)  # it began again


def test_a_port_that_is_busy_or_is_not_there(tmp_path: Path) -> None:
    image = write_image(tmp_path, esp_images.merged("esp32"))
    with EspBoard("esp32") as board:
        import serial

        from midgehost.virtual.esp.environment.midge_vboard import install

        install()
        with serial.serial_for_url(board.url), pytest.raises(Busy, match="in use by another program"):
            EsptoolBackend().flash(request("esp32", image, board.url), lambda *_: None)
    for port in (board.url, "/dev/ttyNowhere"):
        with pytest.raises(NotFound, match=r"There is no port .*; nothing was written"):
            EsptoolBackend().flash(request("esp32", image, port), lambda *_: None)


def test_a_flash_chip_that_is_too_small(tmp_path: Path) -> None:
    image = write_image(tmp_path, esp_images.merged("esp32", 1_200_000))
    with EspBoard("esp32", flash_bytes=1 << 20) as board, pytest.raises(NoRoom, match="has 1,048,576 bytes"):
        EsptoolBackend().flash(request("esp32", image, board.url), lambda *_: None)


# --- an esptool that does something else ------------------------------------------------------------------------------


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> Request:
    """A request that is served by a shell script instead of esptool."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return request("esp32", write_image(folder, esp_images.merged("esp32")), "/dev/ttyUSB7")


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("echo 'A fatal error occurred: Could not open /dev/x, the port is busy or does"
         "n'\"'\"'t exist. ([Errno 13] Permission denied)'; exit 2", PortDenied, "You may not open /dev/ttyUSB7"),
        ("echo 'Stub flasher running.'; echo 'A fatal error occurred: Secure Boot V1 detected. Use force.'; exit 2",
         EsptoolFailed, "gave up on /dev/ttyUSB7: Secure Boot V1 detected; nothing was written"),
        ("echo 'Uploading stub flasher...'; echo 'ERROR: A fatal error occurred: Failed to start stub flasher. Etc.';"
         "exit 2", EsptoolFailed, "gave up on /dev/ttyUSB7: Failed to start stub flasher; nothing was written"),
        ("echo 'Hash of data verified.'; echo 'A serial exception error occurred: odd'; exit 1", EsptoolFailed,
         "gave up on /dev/ttyUSB7: odd; the image is written and verified"),
        ("echo 'Hash of data verified.'; exit 3", EsptoolFailed, "the image is written and verified"),
        ("exit 0", NoSync, "it said nothing"),
    ],
)  # fmt: skip
def test_words_of_esptool(
    script: str, error: type[MidgeError], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stand_in(monkeypatch, tmp_path, script)
    with pytest.raises(error, match=words):
        EsptoolBackend().flash(asked, lambda *_: None)


def test_success_needs_the_verified_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    EsptoolBackend().flash(
        stand_in(monkeypatch, tmp_path, "echo 'Hash of data verified.'"), lambda *done: seen.append(done)
    )
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(FlashError):
        EsptoolBackend().flash(stand_in(monkeypatch, tmp_path, "echo 'Wrote 5 bytes at 0x00001000'"), lambda *_: None)


@pytest.mark.parametrize(
    ("script", "patience", "error", "words"),
    [
        ("sleep 60", 0.5, NoSync, "nothing happened for 0 s while connecting"),
        ("echo 'Flash will be erased from'; sleep 60", 0.5, WriteFailed, "while writing"),
        ("while :; do echo .; sleep 0.05; done", 30, NoSync, "not done after"),
    ],
)
def test_an_esptool_that_hangs_is_killed_with_all_that_it_started(
    script: str, patience: float, error: type[FlashError], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(esptool, "_PATIENCE_S", patience)
    monkeypatch.setattr(esptool, "_GAP_S_PER_MB", 0)
    monkeypatch.setattr(esptool, "_START_S", 1.0)
    monkeypatch.setattr(esptool, "_SLOW_BYTES_PER_S", 1e9)
    asked = stand_in(monkeypatch, tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; {script}")
    begun = time.monotonic()
    with pytest.raises(error, match=words):
        EsptoolBackend().flash(asked, lambda *_: None)
    assert time.monotonic() - begun < 5
    child = int((tmp_path / "child").read_text())
    end = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()


def test_ctrl_c_ends_esptool_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/self; echo Writing at 0x00002000 x; sleep 60")

    def interrupt(_done: int, _total: int) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        EsptoolBackend().flash(asked, interrupt)
    assert not alive(int((tmp_path / "self").read_text()))


# --- mutated images ---------------------------------------------------------------------------------------------------


def mutate(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """One thing that can happen to a file."""
    made = bytearray(data)
    kind = chance.choice(["bit", "byte", "gap", "cut", "longer", "swap", "zero", "header", "table", "drop", "whole"])
    at = chance.randrange(len(made))
    if kind == "bit":
        made[at] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        made[at] = chance.randrange(256)
    elif kind == "gap":  # between bootloader and partition table
        made[chance.randrange(0x3000, 0x6000)] = chance.randrange(255)
    elif kind == "cut":
        del made[at:]
    elif kind == "longer":
        made += chance.randbytes(chance.randrange(1, 9000))
    elif kind == "swap":
        other = chance.randrange(len(made))
        made[at : at + 256], made[other : other + 256] = made[other : other + 256], made[at : at + 256]
    elif kind == "zero":
        made[at : at + 4096] = bytes(len(made[at : at + 4096]))
    elif kind == "header":
        start = chance.choice([0, 0xF000])
        made[start + chance.randrange(24)] ^= 1 << chance.randrange(8)
    elif kind == "table":
        made[0x7000 + chance.randrange(200)] ^= 1 << chance.randrange(8)
    elif kind == "drop":
        del made[at : at + chance.randrange(1, 5)]
    return kind, bytes(made)


def check_mutants(count: int, folder: Path, seed: int) -> dict[str, list[int]]:
    """Refused with flash untouched, or flashed exactly with the rest of flash untouched. Counts: kind -> [refused,
    flashed]."""
    chance = random.Random(seed)
    whole = esp_images.merged("esp32", 60_000)
    counts: dict[str, list[int]] = {}
    with EspBoard("esp32", pty=True) as board:
        for _ in range(count):
            kind, data = mutate(whole, chance)
            before = bytearray(chance.randbytes(1 << 16) * 64)
            board.flash.replace(0, bytes(before))
            try:
                flash("esp32", board, write_image(folder, data))
            except (BadImage, WrongImage):
                counts.setdefault(kind, [0, 0])[0] += 1
            else:
                counts.setdefault(kind, [0, 0])[1] += 1
                end = 0x1000 + len(data)
                erased = -(-end // SECTOR) * SECTOR
                before[0x1000:erased] = data.ljust(erased - 0x1000, b"\xff")
            assert board.flash.read(0, board.flash.size) == bytes(before), kind
    return counts


def test_mutated_images_are_refused_or_flashed_exactly(tmp_path: Path) -> None:
    counts = check_mutants(MUTANTS_PER_RUN, tmp_path, seed=7)
    refused, flashed = (sum(pair[i] for pair in counts.values()) for i in (0, 1))
    assert refused + flashed == MUTANTS_PER_RUN
    assert refused > 10
    assert flashed > 3


@pytest.mark.soak
def test_all_mutated_images(tmp_path: Path) -> None:
    counts = check_mutants(ALL_MUTANTS, tmp_path, seed=8)
    print("\n| mutation of an ESP32 image | refused | flashed exactly |\n|---|---|---|")
    for kind, (refused, flashed) in sorted(counts.items()):
        print(f"| {kind} | {refused} | {flashed} |")
    assert sum(map(sum, counts.values())) == ALL_MUTANTS
