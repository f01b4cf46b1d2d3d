"""UF2 images: what is refused before a byte is written, and what the drive makes of the rest."""

from __future__ import annotations

import collections
import os
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uf2_files as files
from hypothesis import given, settings
from hypothesis import strategies as st
from uf2_files import ABSOLUTE, ARM, BASE, RISCV, RP2040

from midgehost import firmware_cache
from midgehost.boards import board
from midgehost.errors import FlashError
from midgehost.flash import BACKENDS, binary_info, uf2, uf2_image
from midgehost.flash.backend import BadImage, NoBackend, Request, WrongBoard, WrongImage, choose
from midgehost.flash.bootsel import NoDrive
from midgehost.flash.uf2 import Interrupted, Refused, Uf2Backend
from midgehost.flash.uf2_image import Malformed
from midgehost.virtual.bootsel import BootselDrive

BACKEND = Uf2Backend()
STOCK_IMAGES = firmware_cache.folder()  # before the fixture hides them


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No image of this computer's decides a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[BootselDrive]:
    """A Pico in BOOTSEL mode whose flash is full of something."""
    with BootselDrive(tmp_path / "RPI-RP2", restart_s=0) as drive:
        drive.flash.data[:] = random.Random(1).randbytes(len(drive.flash.data))
        yield drive


def request(tmp_path: Path, file: bytes, name: str = "pico", port: Path | None = None, erase: bool = False) -> Request:
    path = tmp_path / "image.uf2"
    path.write_bytes(file)
    return Request(board(name), path, str(port or ""), erase)


def nothing(_done: int, _total: int) -> None:
    pass


# --- the format


def test_reads_memory_and_writes_the_same_file() -> None:
    memory = bytes(range(256)) * 40
    file = files.uf2(files.paged(memory))
    image = uf2_image.parse(file)
    assert (image.family, image.start, image.end, image.memory) == (RP2040, BASE, BASE + 10240, memory)
    assert not image.has_e10_block
    assert uf2_image.serialise(image.family, image.start, image.memory) == file


@pytest.mark.parametrize("ignorable", [True, False])
def test_picotools_block_against_e10_is_known(ignorable: bool) -> None:
    file = files.uf2(files.paged(files.program(ARM)), ARM)
    image = uf2_image.parse(files.e10_block(ignorable=ignorable) + file)
    assert image.has_e10_block and image.family == ARM
    assert image.memory == uf2_image.parse(file).memory


def flipped(file: bytes, at: int) -> bytes:
    return file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]


@pytest.mark.parametrize("at", [8, 12, 16, 20, 24, 32, 287, 288, 291, 292, 507])
def test_other_absolute_blocks_are_not(at: int) -> None:
    file = files.uf2(files.paged(files.program(ARM)), ARM)
    with pytest.raises(Malformed):
        uf2_image.parse(flipped(files.e10_block(), at) + file)
    with pytest.raises(Malformed):
        uf2_image.parse(files.e10_block() * 2 + file)


PAGE = b"x" * 256
BROKEN = {
    "no whole blocks": (b"", files.uf2({BASE: PAGE})[:-1]),
    "magic numbers": [flipped(files.uf2({BASE: PAGE}), at) for at in (0, 4, 508)],
    "no blocks": (files.e10_block(),),
    "main flash": [files.block(BASE, PAGE, 0, 1, flags=flags) for flags in (0, 0x2001, 0x3000, 0x6000, 0xA000)],
    "bytes where the chip takes 256": [files.block(BASE, PAGE, 0, 1, size=n) for n in (0, 255, 257, 476, 1 << 31)],
    "the file has": (files.block(BASE, PAGE, 0, 2), files.block(BASE, PAGE, 0, 0), files.stock()[:-512]),
    "says that it is number": (files.block(BASE, PAGE, 1, 1),),
    "multiple of 256": (files.uf2({BASE + 128: PAGE}),),
    "not in flash": (files.uf2({0x20000000: PAGE}), files.uf2({BASE - 256: PAGE}), files.uf2({0x12000000: PAGE})),
    "behind its payload": [files.block(BASE, PAGE, 0, 1, rest=bytes(n) + b"x") for n in (0, 1, 219)],
    "another chip family": (files.block(BASE, PAGE, 0, 2) + files.block(BASE + 256, PAGE, 1, 2, ARM),),
    "missing, overlap or are swapped": (
        files.uf2([(BASE, PAGE), (BASE, PAGE)]),
        files.uf2({BASE: PAGE, BASE + 512: PAGE}),
        files.uf2({BASE: PAGE, BASE + 4096: PAGE}, ARM),
        files.uf2([(BASE + 256, PAGE), (BASE, PAGE)]),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("why", "broken"), [(why, file) for why, broken in BROKEN.items() for file in broken])
def test_what_a_rom_would_not_flash_exactly_is_malformed(why: str, broken: bytes) -> None:
    with pytest.raises(Malformed, match=why):
        uf2_image.parse(broken)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=1600), st.data())
def test_any_bytes_are_refused_or_read(junk: bytes, data: st.DataObject) -> None:
    file = bytearray(files.uf2(files.paged(b"abc" * 200)))
    at = data.draw(st.integers(0, len(file)))
    file[at : at + len(junk)] = junk
    try:
        image = uf2_image.parse(bytes(file))
    except Malformed:
        return
    binary_info.read(image)
    binary_info.boots(image)


# --- what an image says


def test_binary_info_of_the_pico_sdk() -> None:
    memory = bytearray(files.program(machine=""))
    texts = {0x02031C86: b"blink\0", 0x11A9BC3A: b"v2.0\0", 0xB63CFFBB: b"pico_w\0"}
    at, table = 0x1800, []
    for identity, text in texts.items():
        struct.pack_into("<HHII", memory, at, 6, 0x5052, identity, BASE + at + 12)
        memory[at + 12 : at + 12 + len(text)] = text
        table.append(BASE + at)
        at += 64
    struct.pack_into(f"<{len(table)}I", memory, 0x2000, *table)
    head = struct.pack("<5I", 0x7188EBF2, BASE + 0x2000, BASE + 0x2000 + 4 * len(table), 0, 0xE71AA390)
    memory[0x1D4 : 0x1D4 + 20] = head
    info = binary_info.read(uf2_image.parse(files.uf2(files.paged(bytes(memory)))))
    assert (info.program, info.version, info.sdk_board, info.machine) == ("blink", "2.0", "pico_w", "")


def test_binary_info_that_points_nowhere_is_empty() -> None:
    for start, end in ((0, 0xFFFFFFFF), (BASE, BASE + 0xFFFFFF), (0xFFFFFFF0, 4), (BASE + 8, BASE)):
        memory = bytearray(files.program(machine=""))
        memory[0x100 : 0x100 + 20] = struct.pack("<5I", 0x7188EBF2, start, end, 0, 0xE71AA390)
        info = binary_info.read(uf2_image.parse(files.uf2(files.paged(bytes(memory)))))
        assert info == binary_info.BinaryInfo()


# --- which board


@pytest.mark.parametrize(
    ("name", "family", "machine"),
    [
        ("pico", RP2040, files.PICO),
        ("pico-w", RP2040, "Raspberry Pi Pico W with RP2040"),
        ("pico2", ARM, "Raspberry Pi Pico2 with RP2350"),
        ("pico2", RISCV, "Raspberry Pi Pico2 with RP2350-RISCV"),
        ("pico2-w", ARM, "Raspberry Pi Pico 2 W with RP2350"),
    ],
)
def test_every_board_takes_its_own_image_only(tmp_path: Path, name: str, family: int, machine: str) -> None:
    file = files.stock(family, machine=machine)
    assert BACKEND.check(request(tmp_path, file, name)) == ()
    for other in {"pico", "pico-w", "pico2", "pico2-w"} - {name}:
        with pytest.raises(WrongImage) as raised:
            BACKEND.check(request(tmp_path, file, other))
        assert raised.value.exit_code == 2


def test_an_image_that_names_no_board_passes_with_a_doubt(tmp_path: Path) -> None:
    doubts = BACKEND.check(request(tmp_path, files.stock(machine="")))
    assert [doubt.partition(" ")[2] for doubt in doubts] == [
        "does not say which board it is for; its chip is the right one"
    ]


@pytest.mark.parametrize("family", [ABSOLUTE, 0xE48BFF58, files.ARM_NS, 0xADA52840])
def test_foreign_families_are_another_boards(tmp_path: Path, family: int) -> None:
    file = files.uf2(files.paged(files.program()), family)
    for name in ("pico", "pico2"):
        with pytest.raises(FlashError) as raised:
            BACKEND.check(request(tmp_path, file, name))
        assert raised.value.code in ("flash.wrong_image", "flash.bad_image")


def test_a_foreign_image_with_its_own_addresses_is_not_called_damaged(tmp_path: Path) -> None:
    samd = files.block(0x2000, PAGE, 0, 1, 0x55114460)
    with pytest.raises(WrongImage, match="chip family 55114460"):
        BACKEND.check(request(tmp_path, samd))


NOT_STARTED = {
    "CRC of its first 256 bytes": (RP2040, b"\1" + files.program()[1:], BASE),
    "nothing for the start of flash": (RP2040, files.program(), BASE + 4096),
    "no program that the chip would start": (ARM, bytes(10_000), BASE),
    "for another processor": (ARM, files.program(RISCV), BASE),
}


@pytest.mark.parametrize("why", NOT_STARTED)
def test_what_the_chip_would_not_start_is_refused(tmp_path: Path, why: str) -> None:
    family, memory, base = NOT_STARTED[why]
    file = files.uf2(files.paged(memory, base), family)
    with pytest.raises(BadImage, match=why):
        BACKEND.check(request(tmp_path, file, "pico" if family == RP2040 else "pico2"))


def test_an_image_larger_than_the_flash_is_refused(tmp_path: Path) -> None:
    end = BASE + board("pico").flash_bytes
    for flash_bytes in (end - BASE, end - BASE + 256):
        wanted = request(tmp_path, files.uf2(files.paged(files.program(nbytes=flash_bytes))))
        if flash_bytes == end - BASE:
            assert BACKEND.check(wanted) == ()
            continue
        with pytest.raises(BadImage, match="behind the 2,097,152 bytes of flash"):
            BACKEND.check(wanted)
    with pytest.raises(BadImage, match="larger than an image that fills"):
        BACKEND.check(request(tmp_path, bytes(2 * board("pico").flash_bytes + 1024)))


def test_a_stock_image_is_held_against_its_recorded_hash(tmp_path: Path) -> None:
    name, file = "RPI_PICO-20250911-v1.26.1.uf2", files.stock()
    firmware_cache.store(name, file, "test")
    sent = tmp_path / name
    sent.write_bytes(file)
    assert BACKEND.check(Request(board("pico"), sent, "")) == ()
    flipped = bytearray(file)
    flipped[512 * 20 + 100] ^= 4  # a payload: UF2 itself would not notice
    sent.write_bytes(flipped)
    with pytest.raises(BadImage, match="SHA-256"):
        BACKEND.check(Request(board("pico"), sent, ""))
    cached = firmware_cache.find(board("pico")).path
    cached.write_bytes(flipped)
    with pytest.raises(firmware_cache.ChangedImage):
        firmware_cache.find(board("pico"))


def test_only_uf2_files_for_boards_with_a_drive(tmp_path: Path) -> None:
    wrong = Request(board("pico"), tmp_path / "image.bin", "")
    with pytest.raises(NoBackend, match=r"takes \.uf2 files"):
        choose(BACKENDS, wrong)
    assert BACKEND.supports(Request(board("esp32"), tmp_path / "image.uf2", "")) is not None
    assert BACKEND.supports(Request(board("virtual"), tmp_path / "image.uf2", "")) is not None
    assert BACKEND.supports(Request(board("pico2"), tmp_path / "image.UF2", "")) is None


# --- the drive


def test_flash_writes_the_image_and_nothing_else(tmp_path: Path, drive: BootselDrive) -> None:
    file, before = files.stock(nbytes=100_000), bytes(drive.flash.data)
    seen: list[tuple[int, int]] = []
    BACKEND.flash(request(tmp_path, file, port=drive.folder), lambda done, total: seen.append((done, total)))
    assert drive.wait_boot()
    assert bytes(drive.flash.data) == files.flashed(file, before)
    assert seen[-1] == (len(file), len(file)) and seen == sorted(seen)


def test_erase_leaves_nothing_but_the_image(tmp_path: Path, drive: BootselDrive) -> None:
    file = files.stock()
    BACKEND.flash(request(tmp_path, file, port=drive.folder, erase=True), nothing)
    assert drive.wait_boot()
    assert bytes(drive.flash.data) == files.flashed(file, b"\xff" * len(drive.flash.data))


@pytest.mark.parametrize("family", [ARM, RISCV])
def test_the_last_sector_of_a_pico_2_is_spared(tmp_path: Path, family: int) -> None:
    file = files.stock(family)
    for copied_by_midge in (True, False):
        with BootselDrive(tmp_path / "RP2350", "rp2350", flash_bytes=4 << 20, restart_s=0) as drive:
            before = random.Random(2).randbytes(4 << 20)
            drive.flash.data[:] = before
            if copied_by_midge:
                BACKEND.flash(request(tmp_path, file, "pico2", drive.folder), nothing)
            else:
                (drive.folder / "image.uf2").write_bytes(file)
            assert drive.wait_boot()
            assert bytes(drive.flash.data[:-4096]) == files.flashed(file[512:], before)[:-4096]
            assert (bytes(drive.flash.data[-4096:]) == before[-4096:]) == copied_by_midge


def test_another_chips_drive_is_refused(tmp_path: Path) -> None:
    with BootselDrive(tmp_path / "RP2350", "rp2350") as drive:
        before = sorted(drive.folder.iterdir())
        with pytest.raises(WrongBoard, match="RP2350, not pico"):
            BACKEND.flash(request(tmp_path, files.stock(), port=drive.folder), nothing)
        assert sorted(drive.folder.iterdir()) == before
    with pytest.raises(NoDrive):
        BACKEND.flash(request(tmp_path, files.stock(), port=tmp_path), nothing)


def test_a_drive_that_stays_has_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert uf2._ACCEPT_S < 15 and uf2._STALL_S < 15
    monkeypatch.setattr(uf2, "_ACCEPT_S", 0.3)
    folder = tmp_path / "RPI-RP2"
    folder.mkdir()
    (folder / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\r\nBoard-ID: RPI-RP2\r\n")
    with pytest.raises(Refused) as raised:
        BACKEND.flash(request(tmp_path, files.stock(), port=folder), nothing)
    assert raised.value.exit_code == 1
    assert (folder / "FIRMWARE.UF2").read_bytes() == files.stock()


@pytest.mark.parametrize(("device", "word"), [("/dev/full", "No space left"), ("/proc/self/mem", "Input/output error")])
def test_what_the_system_says_while_writing(tmp_path: Path, drive: BootselDrive, device: str, word: str) -> None:
    (drive.folder / "FIRMWARE.UF2").symlink_to(device)
    with pytest.raises(Interrupted, match=f"{word}.* after 0 of") as raised:
        BACKEND.flash(request(tmp_path, files.stock(), port=drive.folder), nothing)
    assert raised.value.exit_code == 1


def test_a_drive_that_vanishes_too_early(tmp_path: Path, drive: BootselDrive) -> None:
    pulled: list[int] = []

    def pull(done: int, _total: int) -> None:
        if done and not pulled:
            pulled.append(done)
            drive.unplug()

    file = files.stock(nbytes=1_000_000)
    with pytest.raises(Interrupted, match="vanished after"):
        BACKEND.flash(request(tmp_path, file, port=drive.folder), pull)


def test_a_drive_that_takes_nothing(tmp_path: Path, drive: BootselDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uf2, "_STALL_S", 0.3)
    pipe = drive.folder / "FIRMWARE.UF2"
    os.mkfifo(pipe)
    began = time.monotonic()
    with pytest.raises(Interrupted, match="takes nothing any more after 0 of"):
        BACKEND.flash(request(tmp_path, files.stock(), port=drive.folder), nothing)
    assert time.monotonic() - began < 2
    with pipe.open("rb") as reader:  # lets the copying thread go
        reader.read(1)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_refused_or_flashed_exactly(tmp_path: Path, seed: int) -> None:
    name, family = ("pico", RP2040) if seed % 2 else ("pico2", ARM)
    outcomes = [run_mutant(tmp_path, mutant, name) for _, mutant in files.mutants(files.stock(family), 10, seed)]
    assert sum(outcome != "flashed" for outcome in outcomes) >= 7


@pytest.mark.soak
def test_200_mutated_files(tmp_path: Path) -> None:
    """On stock images too, where they are in the cache."""
    cached = sorted(STOCK_IMAGES.glob("RPI_PICO-2*.uf2"))
    sound = [("pico", files.stock()), ("pico2", files.stock(ARM)), ("pico2", files.stock(RISCV))]
    sound += [("pico", path.read_bytes()) for path in cached[-1:]]
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for seed, (name, file) in enumerate(sound):
        for mutation, mutant in files.mutants(file, 200 // len(sound), seed):
            table[mutation]["flashed" if run_mutant(tmp_path, mutant, name) == "flashed" else "refused"] += 1
    print("\n| mutation | refused | flashed exactly |\n|---|---|---|")
    for mutation, counts in table.items():
        print(f"| {mutation} | {counts['refused']} | {counts['flashed']} |")
    assert sum(counts.total() for counts in table.values()) >= 198
    assert {mutation for mutation, counts in table.items() if counts["flashed"]} <= {
        "bit of a payload",
        "other family",  # all of a Pico 2's blocks, from Arm to RISC-V, is caught by the program in it
    }


def run_mutant(tmp_path: Path, mutant: bytes, name: str) -> str:
    """`flashed` or the reason of the refusal; asserts that it was the one or the other, wholly."""
    chip, target = board(name).chip, board(name)
    with BootselDrive(tmp_path / "drive", chip, flash_bytes=target.flash_bytes, restart_s=0) as drive:
        before = random.Random(3).randbytes(target.flash_bytes)
        drive.flash.data[:] = before
        wanted = request(tmp_path, mutant, name, port=drive.folder)
        try:
            BACKEND.check(wanted)
        except (BadImage, WrongImage) as refusal:
            with pytest.raises(type(refusal)):
                BACKEND.flash(wanted, nothing)
            assert sorted(path.name for path in drive.folder.iterdir()) == ["INDEX.HTM", "INFO_UF2.TXT"]
            assert bytes(drive.flash.data) == before and not drive.boots
            return refusal.why if isinstance(refusal, BadImage) else f"for {refusal.found}"
        BACKEND.flash(wanted, nothing)
        assert drive.wait_boot()
        assert bytes(drive.flash.data) == files.flashed(mutant, before)
        assert not drive.rom.log
        return "flashed"
