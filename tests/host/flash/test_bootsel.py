"""BOOTSEL drives: found where this system mounts them, and if not, the line that says what to do."""

from __future__ import annotations

import os
import termios
import tty
from pathlib import Path

import pytest

from midgehost.errors import Ambiguous
from midgehost.flash import bootsel
from midgehost.flash.bootsel import NoDrive
from midgehost.virtual.bootsel import BootselDrive


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where drives are looked for."""
    monkeypatch.setenv("MIDGE_BOOTSEL", str(tmp_path / "media"))
    monkeypatch.setattr(bootsel, "_LABELS", tmp_path / "by-label")
    return tmp_path / "media"


def drive(folder: Path, board_id: str = "RPI-RP2") -> Path:
    folder.mkdir(parents=True)
    (folder / "INFO_UF2.TXT").write_bytes(f"UF2 Bootloader v3.0\r\nModel: x\r\nBoard-ID: {board_id}\r\n".encode())
    return folder


def test_finds_drives_by_board_id(media: Path) -> None:
    pico, pico2 = drive(media / "RPI-RP2"), drive(media / "RP2350", "RP2350")
    (media / "stick").mkdir()
    drive(media / "other", "SAMD51")
    found = bootsel.drives()
    assert [(d.folder, d.board_id) for d in found if d.board_id in bootsel.CHIPS] == [
        (pico2, "RP2350"),
        (pico, "RPI-RP2"),
    ]
    assert bootsel.find("RPI-RP2").chip == "RP2040" and bootsel.find("RP2350").folder == pico2
    assert bootsel.drive_at(pico).board_id == "RPI-RP2"


def test_the_variable_may_name_drives_and_folders(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = drive(tmp_path / "here"), drive(tmp_path / "there" / "RP2350", "RP2350")
    monkeypatch.setenv("MIDGE_BOOTSEL", os.pathsep.join([str(one), str(other.parent), "/does/not/exist"]))
    assert {d.folder for d in bootsel.drives()} == {one, other}


def test_two_drives_are_ambiguous(media: Path) -> None:
    one, other = drive(media / "RPI-RP2"), drive(media / "RPI-RP21")
    with pytest.raises(Ambiguous) as raised:
        bootsel.find("RPI-RP2")
    assert raised.value.candidates == [str(one), str(other)]
    assert bootsel.find("RPI-RP2", besides={one}).folder == other


def test_mounts_are_read_with_their_devices(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIDGE_BOOTSEL")
    folder, device = drive(tmp_path / "my disk" / "RPI-RP2"), tmp_path / "sdx1"
    device.touch()
    escaped = str(folder).replace(" ", "\\040")
    lines = [f"{device} {escaped} vfat rw,uid=1000 0 0", "/dev/sda1 /boot/efi vfat rw 0 0", "proc /proc proc rw 0 0"]
    table = tmp_path / "mounts"
    table.write_text("\n".join(lines))
    monkeypatch.setattr(bootsel, "_MOUNTS", table)
    (found,) = [d for d in bootsel.drives() if d.folder == folder]
    assert found.device == str(device) and found.present
    device.unlink()  # unplugged; nobody unmounted it
    assert not found.present and (folder / "INFO_UF2.TXT").exists()


def test_no_drive_says_what_to_do(media: Path) -> None:
    with pytest.raises(NoDrive, match=r"No board is in BOOTSEL mode.*Hold its BOOTSEL button") as raised:
        bootsel.find("RPI-RP2")
    assert raised.value.exit_code == 2
    drive(media / "RP2350", "RP2350")
    with pytest.raises(NoDrive, match=r"No RP2040 is in BOOTSEL mode, but .*RP2350 \(RP2350\) is"):
        bootsel.find("RPI-RP2")
    with pytest.raises(NoDrive, match=r"is no BOOTSEL drive"):
        bootsel.drive_at(media)


def test_a_drive_that_is_not_mounted(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIDGE_BOOTSEL")
    monkeypatch.setattr(bootsel, "_MOUNTS", tmp_path / "no mounts")
    (tmp_path / "by-label").mkdir()
    (tmp_path / "by-label" / "RPI-RP2").touch()
    with pytest.raises(NoDrive, match=r"not mounted.*udisksctl mount -b .*by-label/RPI-RP2"):
        bootsel.find("RPI-RP2")


def test_a_drive_that_may_not_be_written_to(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = drive(media / "RPI-RP2")
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and Path(path) == folder))
    with pytest.raises(NoDrive, match=r"may not be written to by you.*mount -o remount,rw"):
        bootsel.find("RPI-RP2")


def test_waits_for_a_drive(media: Path) -> None:
    import threading

    late = BootselDrive(media / "RPI-RP2")
    timer = threading.Timer(0.3, late.plug)
    timer.start()
    try:
        assert bootsel.find("RPI-RP2", timeout=10).folder == media / "RPI-RP2"
    finally:
        timer.join()
        late.unplug()
    assert bootsel.drives() == []


def test_junk_is_no_drive(media: Path) -> None:
    folder = media / "junk"
    folder.mkdir(parents=True)
    info = folder / "INFO_UF2.TXT"
    for junk in (b"", b"\xff" * 5000, b"Board-ID:\r\nx", b"Model: Board-ID: RPI-RP2"):
        info.write_bytes(junk)
        assert bootsel.drives() == []


def test_touch_sets_1200_baud_and_never_raises() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        bootsel.touch(os.ttyname(slave))
        assert termios.tcgetattr(slave)[4] == termios.B1200
    finally:
        os.close(master)
        os.close(slave)
    bootsel.touch("/dev/does-not-exist")
