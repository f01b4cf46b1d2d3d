"""The boot ROMs' rules, each in a sentence of their sources or of an erratum."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
import uf2_files as files
from uf2_files import ABSOLUTE, ARM, BASE, RISCV, RP2040

from midgehost.errors import BoardError
from midgehost.virtual.boot_rom import Nor, Rom, starts
from midgehost.virtual.bootsel import BootselDrive

PAGE = bytes(range(256))
MB = 1 << 20


def write(rom: Rom, file: bytes) -> list[bool]:
    return [rom.write(file[at : at + 512]) for at in range(0, len(file), 512)]


def rom(chip: str = "rp2040") -> tuple[Rom, Nor]:
    flash = Nor(2 * MB if chip == "rp2040" else 4 * MB)
    flash.data[:] = b"\x5a" * len(flash.data)
    return Rom(chip, flash), flash


def test_complete_with_the_last_missing_block_in_any_order_and_twice() -> None:
    file = files.uf2(files.paged(PAGE * 4))
    blocks = [file[at : at + 512] for at in range(0, len(file), 512)]
    one, flash = rom()
    assert [one.write(blocks[n]) for n in (3, 1, 1, 0)] == [False] * 4
    assert not one.write(files.block(BASE + 512, bytes(256), 1, 4)), "the first of a number counts"
    assert one.write(blocks[2])
    assert flash.data[:1024] == PAGE * 4
    assert flash.data[1024:4096] == b"\xff" * 3072 and flash.data[4096:] == b"\x5a" * (2 * MB - 4096)


@pytest.mark.parametrize(
    "ignored",
    [
        b"\0" * 512,
        files.block(BASE, PAGE, 0, 1, ARM),
        files.block(BASE, PAGE, 0, 1, flags=0),
        files.block(BASE, PAGE, 0, 1, flags=0x2001),
        files.block(BASE, PAGE, 0, 1, size=255),
        files.block(BASE, PAGE, 0, 0),
        files.block(BASE + 1, PAGE, 0, 1),
        files.block(BASE + 2 * MB, PAGE, 0, 1),
        files.block(0x20000000, PAGE, 0, 1),
        files.block(BASE, PAGE, 1, 1),
        files.block(BASE, PAGE, 0, 200_000),
    ],
)
def test_what_the_rp2040_does_not_take_changes_nothing(ignored: bytes) -> None:
    one, flash = rom()
    assert not one.write(ignored)
    assert flash.data == b"\x5a" * (2 * MB) and len(one.log) == 1


def test_the_rp2040_gives_up_at_a_bad_block_and_the_rp2350_does_not() -> None:
    pages = list(files.paged(PAGE * 2).items())
    for chip, family, complete in (("rp2040", RP2040, False), ("rp2350", ARM, True)):
        one, _ = rom(chip)
        good = files.uf2(pages, family)
        results = write(one, good[:512] + files.block(BASE, PAGE, 2, 2, family) + good[512:])
        assert results[-1] is complete


def test_another_count_begins_anew() -> None:
    one, _ = rom()
    file = files.uf2(files.paged(PAGE * 3))
    assert write(one, file[:1024]) == [False, False] and one.progress == (2, 3)
    assert write(one, files.uf2({BASE: PAGE})) == [True]


def test_e14_the_rp2040_erases_by_block_number() -> None:
    sparse = {BASE: PAGE, BASE + 4096: PAGE}
    for chip, family, second in (("rp2040", RP2040, bytes(a & 0x5A for a in PAGE)), ("rp2350", ARM, PAGE)):
        one, flash = rom(chip)
        assert write(one, files.uf2(sparse, family))[-1]
        assert flash.data[:256] == PAGE and flash.data[4096:4352] == second


def test_e10_an_absolute_block_wraps_round_to_the_last_sector() -> None:
    one, flash = rom("rp2350")
    assert not any(write(one, files.e10_block()))
    assert flash.data[-4096:] == b"\xff" * 3840 + b"\xef" * 256 and flash.data[:-4096] == b"\x5a" * (4 * MB - 4096)
    assert not Rom("rp2040", Nor(2 * MB)).write(files.block(BASE, PAGE, 0, 1, ABSOLUTE))


def test_what_each_chip_starts() -> None:
    assert starts("rp2040", files.program()) and not starts("rp2040", b"\xff" * 4096)
    assert not starts("rp2040", files.program()[:251] + b"\0" + files.program()[252:])
    assert starts("rp2350", files.program(ARM)) and starts("rp2350", files.program(RISCV))
    assert not starts("rp2350", bytes(4096))


# --- the folder


def test_cp_flashes_and_the_folder_vanishes(tmp_path: Path) -> None:
    image, booted = tmp_path / "image.uf2", list[bytes]()
    image.write_bytes(files.stock())
    with BootselDrive(tmp_path / "RPI-RP2", restart_s=0.05, on_boot=booted.append) as drive:
        assert (drive.folder / "INFO_UF2.TXT").read_bytes() == (
            b"UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"
        )
        subprocess.run(["cp", image, drive.folder], check=True)
        assert drive.wait_boot() and not drive.folder.exists()
    assert booted == [files.flashed(files.stock(), b"\xff" * (2 * MB))]


@pytest.mark.parametrize(
    "file", [files.stock(ARM), files.stock()[:-512], b"x" * 5000, files.uf2({BASE + 2 * MB: PAGE})]
)
def test_stays_with_what_it_does_not_take(tmp_path: Path, file: bytes) -> None:
    with BootselDrive(tmp_path / "RPI-RP2", restart_s=0) as drive:
        (drive.folder / "a.uf2").write_bytes(file)
        end = time.monotonic() + 5
        while not (drive.rom.log or drive.rom.progress[0] == len(file) // 512) and time.monotonic() < end:
            time.sleep(0.01)
        assert drive.folder.exists() and not drive.boots
        (drive.folder / "b.uf2").write_bytes(files.stock())  # and takes the next
        assert drive.wait_boot()


def test_comes_back_when_there_is_nothing_to_start(tmp_path: Path) -> None:
    with BootselDrive(tmp_path / "RPI-RP2", restart_s=0) as drive:
        (drive.folder / "a.uf2").write_bytes(files.uf2({BASE + 4096: PAGE}))
        end = time.monotonic() + 5
        while (drive.folder / "a.uf2").exists() or not (drive.folder / "INFO_UF2.TXT").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert drive.boots == 0 and drive.flash.data[4096:4352] == PAGE
        (drive.folder / "a.uf2").write_bytes(files.stock())
        assert drive.wait_boot()


def test_leaves_a_folder_of_somebodys_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BoardError, match="is not empty"):
        BootselDrive(tmp_path).plug()
    assert (tmp_path / "thesis.tex").exists()
