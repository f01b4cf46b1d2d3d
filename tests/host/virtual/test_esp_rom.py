"""The virtual ESP32: the real esptool on its ROM loader and stub, and what it refuses."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import esp_images
from midgehost.errors import BoardError, Busy, NotFound
from midgehost.virtual.esp import slip
from midgehost.virtual.esp.board import EspBoard
from midgehost.virtual.esp.boot import boot
from midgehost.virtual.esp.chips import CHIPS, chip_of
from midgehost.virtual.esp.circuit import Reset, UartBridge, UsbJtag
from midgehost.virtual.esp.faults import Faults
from midgehost.virtual.esp.nor import SECTOR, NorFlash, OutOfFlash
from midgehost.virtual.esp.rom import Command, RomLoader

MAC = bytes.fromhex("240ac4123456")
FLASH_BYTES = 1 << 20
TITLES = {"esp32": "ESP32-D0WD-V3", "esp32s3": "ESP32-S3", "esp32c3": "ESP32-C3", "esp32c6": "ESP32-C6"}


def esptool(board: EspBoard, *arguments: object) -> str:
    command = [sys.executable, "-m", "esptool", "--port", board.url, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=board.environment, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- the real esptool ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", CHIPS)
def test_esptool_finds_writes_verifies_reads_and_erases(chip: str, tmp_path: Path) -> None:
    image, back = tmp_path / "image.bin", tmp_path / "back.bin"
    image.write_bytes(esp_images.merged(chip))
    offset = esp_images.OFFSETS[chip]
    with EspBoard(chip, pty=True) as board:
        told = esptool(board, "flash-id")
        assert TITLES[chip] in told
        assert f"{board.mac.hex(':')}" in told
        assert "Detected flash size: 4MB" in told
        assert "Hash of data verified" in esptool(board, "write-flash", hex(offset), image)
        assert board.flash.read(offset, image.stat().st_size) == image.read_bytes()
        esptool(board, "read-flash", hex(offset), image.stat().st_size, back)
        assert back.read_bytes() == image.read_bytes()
        esptool(board, "erase-region", "0x10000", "0x2000")
        assert board.flash.read(0xF000, 0x4000).count(0xFF) >= 0x3000
        assert board.flash.read(0x10000, 0x2000) == b"\xff" * 0x2000
        assert board.flash.read(0x12000, 0x1000) == image.read_bytes()[0x12000 - offset : 0x13000 - offset]


@pytest.mark.parametrize("chip", ["esp32", "esp32c6"])
def test_esptool_without_its_stub(chip: str, tmp_path: Path) -> None:
    image, back = tmp_path / "image.bin", tmp_path / "back.bin"
    image.write_bytes(esp_images.merged(chip, 4000))
    offset = esp_images.OFFSETS[chip]
    with EspBoard(chip, pty=True) as board:
        for option in ("--compress", "--no-compress"):
            board.flash.replace(0, bytes(0x20000))
            written = ("write-flash", option, hex(offset), image)
            assert "Hash of data verified" in esptool(board, "--no-stub", *written)
            assert board.flash.read(offset, image.stat().st_size) == image.read_bytes()
        esptool(board, "--no-stub", "read-flash", hex(offset), "1024", back)
        assert back.read_bytes() == image.read_bytes()[:1024]
        esptool(board, "--no-stub", "--after", "no-reset", "run")
        assert board.wait_for("app")


def test_other_commands_of_esptool(tmp_path: Path) -> None:
    image = tmp_path / "image.bin"
    image.write_bytes(b"\x12\x34" * 5000)
    with EspBoard("esp32s3", pty=True) as board:
        esptool(board, "write-flash", "--no-compress", "--force", "0x20000", image)
        assert "Verification successful" in esptool(board, "verify-flash", "0x20000", image)
        assert "0x0000" in esptool(board, "read-flash-status")
        assert "Chip ID: 9" in esptool(board, "get-security-info")
        esptool(board, "erase-flash")
        assert board.flash.read(0, board.flash.size).count(0xFF) == board.flash.size


# --- the reset circuit ------------------------------------------------------------------------------------------------


def test_the_bridge_resets_with_rts_and_downloads_with_dtr() -> None:
    circuit = UartBridge()
    assert circuit.change(0.0, dtr=True, rts=True) == []  # a client opens the port
    assert circuit.change(1.0, dtr=False, rts=True) == [Reset.HELD]
    assert circuit.change(1.1, dtr=True, rts=False) == []
    assert circuit.due == pytest.approx(1.11)
    assert circuit.passed(1.105) == []
    assert circuit.passed(1.12) == [Reset.DOWNLOAD]
    assert circuit.change(1.15, dtr=False, rts=False) == []
    assert circuit.change(2.0, dtr=False, rts=True) == [Reset.HELD]
    assert circuit.change(2.1, dtr=False, rts=False) == []
    assert circuit.passed(2.2) == [Reset.FLASH]
    assert circuit.passed(9.0) == []


def test_lines_that_change_one_after_the_other_pass_through_both() -> None:
    circuit = UartBridge()
    circuit.change(0.0, dtr=False, rts=True)
    assert circuit.change(0.100, dtr=True, rts=True) == []
    assert circuit.change(0.101, dtr=True, rts=False) == []
    assert circuit.passed(0.2) == [Reset.DOWNLOAD]


def test_a_late_look_at_the_lines_sees_them_as_they_were() -> None:
    circuit = UartBridge()
    circuit.change(0.0, dtr=False, rts=True)
    circuit.change(0.1, dtr=True, rts=False)
    assert circuit.change(0.15, dtr=False, rts=False) == [Reset.DOWNLOAD]


def test_usb_jtag_remembers_dtr_until_rts_resets() -> None:
    circuit = UsbJtag()
    steps = [(False, False), (True, False), (True, True), (False, True), (False, False)]
    happened = [reset for dtr, rts in steps for reset in circuit.change(0.0, dtr, rts)]
    assert happened == [Reset.HELD, Reset.DOWNLOAD]
    assert circuit.change(0.0, dtr=False, rts=True) == [Reset.HELD, Reset.FLASH]
    # The bridge's sequence does not get it into download mode.
    circuit = UsbJtag()
    steps = [(False, True), (True, False), (False, False)]
    assert [reset for dtr, rts in steps for reset in circuit.change(0.0, dtr, rts)] == [Reset.HELD, Reset.FLASH]


# --- frames and flash -------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6), st.integers(1, 20))
def test_slip_frames_come_back_however_they_are_cut(contents: list[bytes], piece: int) -> None:
    stream = b"noise" + b"".join(map(slip.encode, contents))
    decoder = slip.Decoder()
    found = [frame for at in range(0, len(stream), piece) for frame in decoder.feed(stream[at : at + piece])]
    assert found == contents


def test_a_frame_with_a_bad_escape_is_dropped() -> None:
    assert slip.Decoder().feed(b"\xc0ab\xdbcd\xc0" + slip.encode(b"next")) == [b"next"]


def test_flash_clears_bits_and_only_erasing_sets_them() -> None:
    flash = NorFlash(None, FLASH_BYTES)
    flash.program(5, b"\x0f\xf0")
    flash.program(5, b"\x3c\x3c")
    assert flash.read(4, 4) == b"\xff\x0c\x30\xff"
    flash.erase(0, SECTOR)
    assert flash.read(5, 2) == b"\xff\xff"
    for offset, length in ((1, SECTOR), (0, 100), (FLASH_BYTES, SECTOR), (-SECTOR, SECTOR)):
        with pytest.raises(OutOfFlash):
            flash.erase(offset, length)
    with pytest.raises(OutOfFlash):
        flash.program(FLASH_BYTES - 1, b"ab")
    flash.close()


def test_a_flash_file_stays_and_belongs_to_one_board(tmp_path: Path) -> None:
    path = tmp_path / "flash.img"
    flash = NorFlash(path, FLASH_BYTES)
    flash.program(100, b"kept")
    with pytest.raises(Busy):
        NorFlash(path, FLASH_BYTES)
    flash.close()
    again = NorFlash(path, FLASH_BYTES)
    assert again.read(100, 4) == b"kept"
    again.close()
    with pytest.raises(BoardError, match="1,048,576 bytes"):
        NorFlash(path, 2 * FLASH_BYTES)


# --- stricter than a chip ---------------------------------------------------------------------------------------------


class Client:
    """Sends packets to a loader, and reads the status of its answers."""

    def __init__(self, chip: str = "esp32c3") -> None:
        self.flash = NorFlash(None, FLASH_BYTES)
        self.left: list[Reset] = []
        self.rom = RomLoader(chip_of(chip), self.flash, MAC, Faults(), self.left.append)

    def ask(self, command: int, body: bytes = b"", checksum: int = 0) -> tuple[int, bytes]:
        """(status, content and status bytes) of the answer."""
        packet = struct.pack("<BBHI", 0, command, len(body), checksum) + body
        (answer, *_) = self.rom.feed(slip.encode(packet))
        (content, *_) = slip.Decoder().feed(answer)
        assert content[:2] == bytes([1, command])
        tail = content[8:] if self.rom.stub else content[8:-2]
        return (tail[-1] if tail[-2] else 0), tail

    def block(self, command: int, sequence: int, data: bytes, spoil: int = 0) -> int:
        checksum = 0xEF
        for byte in data:
            checksum ^= byte
        return self.ask(command, struct.pack("<4I", len(data), sequence, 0, 0) + data, checksum ^ spoil)[0]

    def begin(self, command: int, size: int, offset: int, block_size: int = 1024) -> int:
        blocks = -(-size // block_size)
        return self.ask(command, struct.pack("<5I", size, blocks, block_size, offset, 0))[0]

    def run_stub(self) -> None:
        """Loads and starts a stub of 16 bytes."""
        assert self.ask(Command.MEM_BEGIN, struct.pack("<4I", 16, 1, 16, 0x40380000))[0] == 0
        assert self.block(Command.MEM_DATA, 0, bytes(16)) == 0
        body = struct.pack("<2I", 0, 0x40380000)
        self.rom.feed(slip.encode(struct.pack("<BBHI", 0, Command.MEM_END, len(body), 0) + body))
        assert self.rom.stub

    def attach(self) -> None:
        assert self.ask(Command.SPI_ATTACH, bytes(8))[0] == 0


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.flash.close()


BAD_LENGTH, BAD_ORDER, BAD_CHECKSUM, BAD_FLASH, BAD_DEFLATE = 5, 6, 7, 8, 11


def test_flash_has_to_be_attached(client: Client) -> None:
    assert client.begin(Command.FLASH_BEGIN, 1024, 0) == BAD_ORDER
    assert client.ask(Command.SPI_FLASH_MD5, struct.pack("<4I", 0, 16, 0, 0))[0] == BAD_ORDER
    client.attach()
    assert client.begin(Command.FLASH_BEGIN, 1024, 0) == 0


def test_blocks_come_in_order_once_and_no_more_than_announced(client: Client) -> None:
    client.attach()
    assert client.block(Command.FLASH_DATA, 0, bytes(1024)) == BAD_ORDER  # no BEGIN
    assert client.begin(Command.FLASH_BEGIN, 2048, 0) == 0
    assert client.block(Command.FLASH_DATA, 1, bytes(1024)) == BAD_ORDER
    assert client.block(Command.FLASH_DATA, 0, b"\x01" * 1024) == 0
    assert client.block(Command.FLASH_DATA, 0, b"\x01" * 1024) == BAD_ORDER  # once more
    assert client.ask(Command.FLASH_END, struct.pack("<I", 1))[0] == BAD_ORDER  # one is missing
    assert client.left == []
    assert client.block(Command.FLASH_DATA, 1, b"\x02" * 1024) == 0
    assert client.block(Command.FLASH_DATA, 2, bytes(1024)) == BAD_ORDER
    assert client.ask(Command.FLASH_END, struct.pack("<I", 1))[0] == 0
    assert client.left == [Reset.FLASH]
    assert client.flash.read(0, 2049) == b"\x01" * 1024 + b"\x02" * 1024 + b"\xff"


def test_a_wrong_checksum_writes_nothing(client: Client) -> None:
    client.attach()
    client.begin(Command.FLASH_BEGIN, 1024, 0)
    assert client.block(Command.FLASH_DATA, 0, bytes(1024), spoil=1) == BAD_CHECKSUM
    assert client.flash.read(0, 1024) == b"\xff" * 1024
    assert client.block(Command.FLASH_DATA, 0, bytes(1024)) == 0


def test_deflated_data_must_be_sound_and_fit(client: Client) -> None:
    client.attach()
    client.begin(Command.FLASH_DEFL_BEGIN, 100, 0)
    assert client.block(Command.FLASH_DEFL_DATA, 0, b"no deflate stream") == BAD_DEFLATE
    client.begin(Command.FLASH_DEFL_BEGIN, 100, 0)
    assert client.block(Command.FLASH_DEFL_DATA, 0, zlib.compress(bytes(101))) == BAD_LENGTH
    assert client.flash.read(0, 100) == b"\xff" * 100
    client.begin(Command.FLASH_DEFL_BEGIN, 100, 0)
    assert client.block(Command.FLASH_DEFL_DATA, 0, zlib.compress(b"a" * 100)) == 0
    assert client.flash.read(0, 101) == b"a" * 100 + b"\xff"
    assert client.block(Command.FLASH_DATA, 1, bytes(1024)) == BAD_ORDER  # that BEGIN was for deflated data


def test_nothing_is_written_behind_the_flash(client: Client) -> None:
    client.attach()
    assert client.begin(Command.FLASH_BEGIN, 4096, FLASH_BYTES) == BAD_FLASH
    assert client.begin(Command.FLASH_BEGIN, 8192, FLASH_BYTES - 4096) == BAD_FLASH
    parameters = struct.pack("<6I", 0, 2 * FLASH_BYTES, 65536, 4096, 256, 0xFFFF)
    assert client.ask(Command.SPI_SET_PARAMS, parameters)[0] == BAD_FLASH
    assert client.flash.read(0, FLASH_BYTES).count(0xFF) == FLASH_BYTES


def test_a_stub_runs_only_if_all_of_it_arrived(client: Client) -> None:
    begin = struct.pack("<4I", 200, 2, 100, 0x40380000)
    run = struct.pack("<2I", 0, 0x40380010)
    assert client.ask(Command.MEM_BEGIN, begin)[0] == 0
    assert client.block(Command.MEM_DATA, 0, bytes(100)) == 0
    assert client.ask(Command.MEM_END, run)[0] == BAD_ORDER
    assert client.block(Command.MEM_DATA, 1, bytes(100)) == 0
    assert client.ask(Command.MEM_END, struct.pack("<2I", 0, 0x50000000))[0] == BAD_ORDER  # enters elsewhere
    assert client.ask(Command.ERASE_FLASH)[0] == BAD_LENGTH  # the stub's command, and it does not run
    client.ask(Command.MEM_BEGIN, begin)
    assert client.ask(Command.MEM_END, run)[0] == BAD_ORDER  # another part is under way
    for sequence in (0, 1):
        client.block(Command.MEM_DATA, sequence, bytes(100))
    packet = struct.pack("<BBHI", 0, Command.MEM_END, len(run), 0) + run
    assert client.rom.feed(slip.encode(packet))[-1] == slip.encode(b"OHAI")
    assert client.ask(Command.ERASE_FLASH)[0] == 0


SEQUENCE_0 = struct.pack("<4I", 4, 0, 0, 0)


@pytest.mark.parametrize(
    ("command", "body", "status"),
    [
        (Command.SYNC, b"\x07\x07\x12\x20" + b"\x55" * 31, BAD_LENGTH),
        (Command.READ_REG, bytes(5), BAD_LENGTH),
        (Command.MEM_BEGIN, struct.pack("<4I", 200, 1, 100, 0), BAD_LENGTH),  # one block is missing
        (Command.MEM_DATA, SEQUENCE_0 + bytes(4), BAD_ORDER),  # no BEGIN
        (Command.SPI_ATTACH, bytes(4), BAD_LENGTH),  # the stub's is shorter
        (Command.FLASH_BEGIN, struct.pack("<4I", 1024, 1, 1024, 0), BAD_LENGTH),  # the classic chip's
        (Command.FLASH_BEGIN, struct.pack("<5I", 1024, 1, 1024, 0, 1), BAD_LENGTH),  # encrypted
        (Command.FLASH_BEGIN, struct.pack("<5I", 4096, 3, 1024, 0, 0), BAD_LENGTH),  # one block is missing
        (Command.READ_FLASH_SLOW, struct.pack("<2I", 0, 65), BAD_LENGTH),
        (Command.ERASE_REGION, struct.pack("<2I", 0, 4096), BAD_LENGTH),  # the stub's command
    ],
)
def test_what_the_rom_does_not_take(client: Client, command: int, body: bytes, status: int) -> None:
    client.attach()
    assert client.ask(command, body, checksum=0xEF)[0] == status


def test_a_packet_says_how_long_it_is(client: Client) -> None:
    packet = struct.pack("<BBHI", 0, Command.READ_REG, 8, 0) + bytes(4)
    (answer,) = client.rom.feed(slip.encode(packet))
    assert slip.Decoder().feed(answer)[0][8:10] == bytes([1, BAD_LENGTH])


def test_blocks_have_the_announced_size_and_are_filled_up_with_erased_bytes(client: Client) -> None:
    client.attach()
    client.begin(Command.FLASH_BEGIN, 1500, 0)
    assert client.block(Command.FLASH_DATA, 0, bytes(1000)) == BAD_LENGTH
    client.begin(Command.FLASH_BEGIN, 1500, 0)
    short = struct.pack("<4I", 1024, 0, 0, 0) + bytes(1000)
    assert client.ask(Command.FLASH_DATA, short, checksum=0xEF)[0] == BAD_LENGTH
    assert client.block(Command.FLASH_DATA, 0, bytes(1024)) == 0
    assert client.block(Command.FLASH_DATA, 1, bytes(1024)) == BAD_LENGTH  # writes behind the announced end
    client.begin(Command.FLASH_BEGIN, 1500, 0)
    client.block(Command.FLASH_DATA, 0, bytes(1024))
    assert client.block(Command.FLASH_DATA, 1, bytes(476) + b"\xff" * 548) == 0
    assert client.flash.read(0, 1501) == bytes(1500) + b"\xff"


def test_the_stub_erases_as_it_goes_and_wants_the_whole_stream(client: Client) -> None:
    client.run_stub()
    client.flash.replace(0, bytes(3 * SECTOR))
    stub_bad_flash, stub_bad_deflate = 0xC4, 0xC7
    assert client.begin(Command.FLASH_DEFL_BEGIN, SECTOR, FLASH_BYTES - 100) == stub_bad_flash
    assert client.begin(Command.FLASH_DEFL_BEGIN, 2 * SECTOR, 0) == 0
    assert client.flash.read(0, SECTOR) == bytes(SECTOR)
    packed = zlib.compress(b"\x33" * SECTOR)
    assert client.block(Command.FLASH_DEFL_DATA, 0, packed) == 0
    assert client.flash.read(0, 3 * SECTOR) == b"\x33" * SECTOR + bytes(2 * SECTOR)
    assert client.ask(Command.FLASH_END, struct.pack("<I", 1))[0] != 0
    client.begin(Command.FLASH_DEFL_BEGIN, SECTOR, 0, SECTOR)
    assert client.block(Command.FLASH_DEFL_DATA, 0, packed[:-2]) == 0
    assert client.ask(Command.FLASH_DEFL_END, struct.pack("<I", 1))[0] == stub_bad_deflate
    client.begin(Command.FLASH_DEFL_BEGIN, SECTOR, 0, SECTOR)
    assert client.block(Command.FLASH_DEFL_DATA, 0, packed) == 0
    assert client.ask(Command.FLASH_DEFL_END, struct.pack("<I", 1))[0] == 0
    assert client.left == []  # the stub stays
    assert client.ask(Command.FLASH_BEGIN, struct.pack("<5I", 0, 0, SECTOR, 0, 0))[0] == 0
    assert client.ask(Command.FLASH_END, struct.pack("<I", 0))[0] == 0
    assert client.left == [Reset.DOWNLOAD]


def test_a_client_that_reads_flash_acknowledges_it(client: Client) -> None:
    client.run_stub()
    content = bytes(range(256)) * 64
    client.flash.replace(0, content)
    body = struct.pack("<4I", 0, len(content), 4096, 2)
    packet = struct.pack("<BBHI", 0, Command.READ_FLASH, len(body), 0) + body
    (_, *blocks) = client.rom.feed(slip.encode(packet))
    assert b"".join(slip.Decoder().feed(b"".join(blocks))) == content[:8192]  # two under way, no more
    (block,) = client.rom.feed(slip.encode(struct.pack("<I", 4096)))
    assert slip.Decoder().feed(block) == [content[8192:12288]]
    client.rom.feed(slip.encode(struct.pack("<I", 12288)))
    (digest,) = client.rom.feed(slip.encode(struct.pack("<I", len(content))))
    assert slip.Decoder().feed(digest) == [client.flash.md5(0, len(content))]


def test_the_classic_chip_has_no_security_info() -> None:
    client = Client("esp32")
    assert client.ask(Command.GET_SECURITY_INFO)[0] == BAD_LENGTH
    assert client.ask(0x77)[0] == BAD_LENGTH
    client.flash.close()


# --- what boots -------------------------------------------------------------------------------------------------------


def booted(data: bytes, chip: str = "esp32") -> tuple[str, tuple[int, int] | None]:
    flash = NorFlash(None, 4 << 20)
    flash.program(esp_images.OFFSETS[chip], data)
    result = boot(chip_of(chip), flash)
    flash.close()
    return result.text, result.vfs


@pytest.mark.parametrize("chip", CHIPS)
def test_a_sound_image_boots(chip: str) -> None:
    text, vfs = booted(esp_images.merged(chip), chip)
    assert "SPI_FAST_FLASH_BOOT" in text
    assert "entry 0x40080400" in text
    assert vfs == (esp_images.VFS, 0x200000)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (0, "invalid header: 0x"),
        (60, "Checksum failed"),
        (23, "SPI_FAST_FLASH_BOOT"),  # its hash is not asked for then
        (0x7004, "Failed to verify partition table"),
        (0xF000, "invalid header"),
        (0xF000 + 3, "Image hash failed"),
        (0xF000 + 4000, "Checksum failed"),
    ],
)
def test_a_damaged_image_prints_why_it_does_not_boot(at: int, words: str) -> None:
    data = bytearray(esp_images.merged("esp32"))
    data[at] ^= 1
    text, vfs = booted(bytes(data))
    assert words in text
    assert (vfs is None) == (at != 23)


@pytest.mark.parametrize(
    ("bootloader", "table", "words"),
    [
        (esp_images.image("esp32", []), None, "invalid segment count 0"),
        (esp_images.image("esp32", [(0x3FFF0030, bytes(64))])[:28] + b"\xff" * 8, None, "invalid segment length"),
        (None, b"\x55" * 0xC00, "Failed to verify partition table"),
        (None, esp_images.partition_table(esp_images.PARTITIONS[:2]), "No bootable app partitions"),
        (None, esp_images.partition_table(esp_images.PARTITIONS[:3]), "No file system"),
    ],
)
def test_flash_with_something_else_in_it(bootloader: bytes | None, table: bytes | None, words: str) -> None:
    data = bytearray(esp_images.merged("esp32"))
    if bootloader is not None:
        data[: len(bootloader)] = bootloader
    if table is not None:
        data[0x7000:0x7C00] = table
    text, vfs = booted(bytes(data))
    assert words in text
    assert vfs is None


def test_erased_flash_prints_what_every_new_board_prints() -> None:
    assert "invalid header: 0xffffffff" in booted(b"")[0]


def test_the_chip_of_another_image_is_noticed() -> None:
    assert "mismatch chip ID, expected 5, found 13" in booted(esp_images.merged("esp32c6"), "esp32c3")[0]


def test_there_are_four_chips() -> None:
    assert chip_of("esp32-c6") is chip_of("esp32c6")
    with pytest.raises(NotFound, match="esp32s3"):
        chip_of("esp8266")
