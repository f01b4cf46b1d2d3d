"""The ROM loader and the flasher stub that esptool loads into it: packets in, packets out.

The commands are those of Espressif's "Serial Protocol" document. Stricter than a chip: blocks come in order and all of
them, once; flash is attached before it is used; a stub runs only if every byte of it arrived.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Protocol

from midgehost.virtual.esp import slip
from midgehost.virtual.esp.chips import Chip
from midgehost.virtual.esp.circuit import Reset
from midgehost.virtual.esp.faults import Faults
from midgehost.virtual.esp.nor import SECTOR, NorFlash, OutOfFlash

ROM_BAUD = 115200
_ROM_VERSION = 0x20120707  # in answers to SYNC; the stub's is 0
_DETECT = 0x40001000  # where chips without an id say what they are
_SPI_USR = 1 << 18  # "execute" of the flash controller
_READ_ID, _READ_STATUS = 0x9F, 0x05
_VENDOR = 0x4020
_CHECKSUM_SEED = 0xEF
_SLOW_READ = 64


class Command(IntEnum):
    FLASH_BEGIN = 0x02
    FLASH_DATA = 0x03
    FLASH_END = 0x04
    MEM_BEGIN = 0x05
    MEM_END = 0x06
    MEM_DATA = 0x07
    SYNC = 0x08
    WRITE_REG = 0x09
    READ_REG = 0x0A
    SPI_SET_PARAMS = 0x0B
    SPI_ATTACH = 0x0D
    READ_FLASH_SLOW = 0x0E
    CHANGE_BAUDRATE = 0x0F
    FLASH_DEFL_BEGIN = 0x10
    FLASH_DEFL_DATA = 0x11
    FLASH_DEFL_END = 0x12
    SPI_FLASH_MD5 = 0x13
    GET_SECURITY_INFO = 0x14
    ERASE_FLASH = 0xD0
    ERASE_REGION = 0xD1
    READ_FLASH = 0xD2
    RUN_USER_CODE = 0xD3


_STUB_ONLY = (Command.ERASE_FLASH, Command.ERASE_REGION, Command.READ_FLASH, Command.RUN_USER_CODE)
_DATA = (Command.FLASH_DATA, Command.FLASH_DEFL_DATA)


class Status(Enum):
    """Why a command fails: the byte that the ROM answers, and the stub's."""

    BAD_COMMAND = 0x05, 0xFF
    BAD_LENGTH = 0x05, 0xC0
    BAD_ORDER = 0x06, 0xC6
    BAD_CHECKSUM = 0x07, 0xC1
    BAD_FLASH = 0x08, 0xC4
    BAD_DEFLATE = 0x0B, 0xC7


class Refused(Exception):
    """A command fails."""

    def __init__(self, status: Status) -> None:
        self.status = status


class _Inflate(Protocol):
    """A zlib decompressor."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass
class _Write:
    """Flash that is being written, from a BEGIN to an END. Erased to `erased`, written to `at`."""

    begin: Command
    at: int
    end: int
    blocks: int
    block_size: int
    erased: int
    inflate: _Inflate | None = None
    next: int = 0


@dataclass
class _Load:
    """RAM that is being loaded."""

    start: int
    size: int
    blocks: int
    got: int = 0
    next: int = 0

    @property
    def whole(self) -> bool:
        return self.got == self.size and self.next == self.blocks


@dataclass
class _Read:
    """Flash that is being sent."""

    data: bytes
    block_size: int
    in_flight: int  # blocks
    sent: int = 0
    digest: bytes = field(default=b"")


class RomLoader:
    """One chip in download mode. `left` is called when it is told to start again, before its answer is out."""

    def __init__(self, chip: Chip, flash: NorFlash, mac: bytes, faults: Faults, left: Callable[[Reset], None]) -> None:
        self._chip, self._flash, self._mac = chip, flash, mac
        self.faults = faults
        self._left = left
        self.blocks = 0  # data blocks it has taken since power-on
        self.vanished = False
        self._handlers: dict[int, Callable[[bytes, int], bytes]] = {
            Command.FLASH_BEGIN: self._flash_begin,
            Command.FLASH_DATA: self._flash_data,
            Command.FLASH_END: self._flash_end,
            Command.MEM_BEGIN: self._mem_begin,
            Command.MEM_DATA: self._mem_data,
            Command.MEM_END: self._mem_end,
            Command.SYNC: self._sync,
            Command.WRITE_REG: self._write_reg,
            Command.READ_REG: self._read_reg,
            Command.SPI_SET_PARAMS: self._set_params,
            Command.SPI_ATTACH: self._attach,
            Command.READ_FLASH_SLOW: self._read_slow,
            Command.CHANGE_BAUDRATE: self._change_baud,
            Command.FLASH_DEFL_BEGIN: self._defl_begin,
            Command.FLASH_DEFL_DATA: self._defl_data,
            Command.FLASH_DEFL_END: self._flash_end,
            Command.SPI_FLASH_MD5: self._md5,
            Command.GET_SECURITY_INFO: self._security_info,
            Command.ERASE_FLASH: self._erase_flash,
            Command.ERASE_REGION: self._erase_region,
            Command.READ_FLASH: self._read_flash,
            Command.RUN_USER_CODE: self._run_user_code,
        }
        self.reset()

    def reset(self) -> None:
        """What entering download mode begins with."""
        chip = self._chip
        self.stub = False
        self.baud: int | None = None  # what it talks with; None: it takes that of the first packet
        self._slip = slip.Decoder()
        self._write: _Write | None = None
        self._load: _Load | None = None
        self._loaded: list[_Load] = []
        self._reading: _Read | None = None
        self._attached = False
        self._size = self._flash.size
        self._value = 0
        self._registers = dict(chip.registers)
        high, low = struct.unpack(">HI", self._mac)
        self._registers[chip.mac], self._registers[chip.mac + 4] = low, high
        self._registers[_DETECT] = chip.magic

    def feed(self, data: bytes) -> list[bytes]:
        """The packets, framed, that answer the bytes of a client."""
        answers: list[bytes] = []
        for packet in self._slip.feed(data):
            if self.faults.dies_after is not None and self.blocks >= self.faults.dies_after:
                return []
            answers += self._acknowledged(packet) if self._reading else self._answer(packet)
        return answers

    def _answer(self, packet: bytes) -> list[bytes]:
        if len(packet) < 8 or packet[0] != 0:
            return []  # noise
        _, number, length, checksum = struct.unpack_from("<BBHI", packet)
        body, faults = packet[8:], self.faults
        status, content = None, b""
        was_stub = self.stub
        self._value = 0
        try:
            content = self._execute(number, body, length, checksum)
        except Refused as refused:
            status = refused.status
        except OutOfFlash:
            status = Status.BAD_FLASH
        except struct.error:
            status = Status.BAD_LENGTH
        if number in _DATA:
            self.blocks += 1
            if faults.vanishes_after is not None and self.blocks >= faults.vanishes_after:
                self.vanished = True
        if faults.take(faults.lost_answers, number):
            return []
        content += bytes([1, status.value[was_stub]]) if status else bytes(2)
        content += b"" if was_stub else bytes(2)  # the ROM's answers end in two more
        answer = slip.encode(struct.pack("<BBHI", 1, number, len(content), self._value) + content)
        if faults.take(faults.short_answers, number):
            answer = answer[:4] + answer[5:]
        if number == Command.SYNC:
            answer *= 8
            if faults.chatters:
                faults.chatters -= 1
                answer = faults.chatter + answer
        if number == Command.MEM_END and self.stub and not was_stub:
            return [answer, slip.encode(b"OHAI")]
        if number == Command.READ_FLASH and self._reading:
            return [answer, *self._more()]
        return [answer]

    def _execute(self, number: int, body: bytes, length: int, checksum: int) -> bytes:
        handler = self._handlers.get(number)
        if handler is None or (number in _STUB_ONLY and not self.stub):
            raise Refused(Status.BAD_COMMAND)
        if len(body) != length:
            raise Refused(Status.BAD_LENGTH)
        return handler(body, checksum)

    # --- the chip

    def _sync(self, body: bytes, checksum: int) -> bytes:
        if body != b"\x07\x07\x12\x20" + b"\x55" * 32:
            raise Refused(Status.BAD_LENGTH)
        self._value = 0 if self.stub else _ROM_VERSION
        return b""

    def _security_info(self, body: bytes, checksum: int) -> bytes:
        if not self._chip.tells_id:
            raise Refused(Status.BAD_COMMAND)
        return struct.pack("<IB7sII", 0, 0, bytes(7), self._chip.image_id, 0)

    def _read_reg(self, body: bytes, checksum: int) -> bytes:
        (address,) = struct.unpack("<I", body)
        self._value = self._registers.get(address, 0)
        return b""

    def _write_reg(self, body: bytes, checksum: int) -> bytes:
        for address, value, mask, _ in struct.iter_unpack("<4I", body):
            self._registers[address] = self._registers.get(address, 0) & ~mask | value & mask
            if address == self._chip.spi and value & _SPI_USR:
                self._spi_command()
                self._registers[address] = 0
        return b""

    def _spi_command(self) -> None:
        spi, chip = self._chip.spi, self._chip
        command = self._registers.get(spi + chip.spi_usr2, 0) & 0xFF
        size_code = self._flash.size.bit_length() - 1
        answers = {_READ_ID: size_code << 16 | _VENDOR, _READ_STATUS: 0}
        self._registers[spi + chip.spi_w0] = answers.get(command, 0)

    def _change_baud(self, body: bytes, checksum: int) -> bytes:
        self.baud = struct.unpack("<2I", body)[0]
        return b""

    # --- RAM

    def _mem_begin(self, body: bytes, checksum: int) -> bytes:
        size, blocks, block_size, start = struct.unpack("<4I", body)
        if blocks != -(-size // block_size):
            raise Refused(Status.BAD_LENGTH)
        self._load = _Load(start, size, blocks)
        return b""

    def _mem_data(self, body: bytes, checksum: int) -> bytes:
        sequence, data = _block(body, checksum)
        load = self._load
        if load is None or sequence != load.next:
            raise Refused(Status.BAD_ORDER)
        load.next += 1
        load.got += len(data)
        if load.whole:
            self._loaded.append(load)
        return b""

    def _mem_end(self, body: bytes, checksum: int) -> bytes:
        stay, entry = struct.unpack("<2I", body)
        if self._load is None or not self._load.whole:
            raise Refused(Status.BAD_ORDER)
        if not stay:
            if not any(load.start <= entry < load.start + load.size for load in self._loaded):
                raise Refused(Status.BAD_ORDER)
            self.stub = self._attached = True  # the stub attaches the flash itself
        return b""

    # --- flash

    def _attach(self, body: bytes, checksum: int) -> bytes:
        if len(body) != (4 if self.stub else 8):
            raise Refused(Status.BAD_LENGTH)
        self._attached = True
        return b""

    def _set_params(self, body: bytes, checksum: int) -> bytes:
        _, self._size, _, sector, _, _ = struct.unpack("<6I", body)
        if sector != SECTOR or self._size > self._flash.size:
            raise Refused(Status.BAD_FLASH)
        return b""

    def _begin(self, begin: Command, body: bytes) -> _Write:
        # The classic ROM takes four words; every other has a fifth for encryption, and none may ask for that.
        extended = self.stub or self._chip.tells_id
        size, blocks, block_size, offset, *encrypted = struct.unpack("<5I" if extended else "<4I", body)
        if any(encrypted):
            raise Refused(Status.BAD_COMMAND)
        if size and not self._attached:
            raise Refused(Status.BAD_ORDER)
        if offset + size > self._size:
            raise Refused(Status.BAD_FLASH)
        self._write = _Write(begin, offset, offset + size, blocks, block_size, _down(offset))
        if not self.stub:  # the ROM erases all of it first, the stub as it goes
            self._erase_to(self._write, self._write.end)
        return self._write

    def _flash_begin(self, body: bytes, checksum: int) -> bytes:
        write = self._begin(Command.FLASH_BEGIN, body)
        if write.blocks * write.block_size < write.end - write.at:
            raise Refused(Status.BAD_LENGTH)
        return b""

    def _defl_begin(self, body: bytes, checksum: int) -> bytes:
        self._begin(Command.FLASH_DEFL_BEGIN, body).inflate = zlib.decompressobj()
        return b""

    def _flash_data(self, body: bytes, checksum: int) -> bytes:
        write, data = self._next_block(Command.FLASH_BEGIN, body, checksum)
        if len(data) != write.block_size:
            raise Refused(Status.BAD_LENGTH)
        room = write.end - write.at
        if data[room:].strip(b"\xff"):  # the last block is filled up with what programs nothing
            raise Refused(Status.BAD_LENGTH)
        self._put(write, data[:room])
        return b""

    def _defl_data(self, body: bytes, checksum: int) -> bytes:
        write, data = self._next_block(Command.FLASH_DEFL_BEGIN, body, checksum)
        assert write.inflate is not None
        try:
            plain = write.inflate.decompress(data)
        except zlib.error:
            raise Refused(Status.BAD_DEFLATE) from None
        if write.at + len(plain) > write.end:
            raise Refused(Status.BAD_LENGTH)
        self._put(write, plain)
        return b""

    def _next_block(self, begin: Command, body: bytes, checksum: int) -> tuple[_Write, bytes]:
        sequence, data = _block(body, checksum)
        write = self._write
        if write is None or write.begin != begin or sequence != write.next or sequence >= write.blocks:
            raise Refused(Status.BAD_ORDER)
        write.next += 1
        return write, data

    def _put(self, write: _Write, data: bytes) -> None:
        self._erase_to(write, write.at + len(data))
        self._flash.program(write.at, data)
        flipped = self.faults.flipped
        if flipped is not None and write.at <= flipped < write.at + len(data):
            self._flash.replace(flipped, bytes([self._flash.read(flipped, 1)[0] ^ 1]))
        write.at += len(data)

    def _erase_to(self, write: _Write, end: int) -> None:
        if (end := _up(end)) > write.erased:
            self._flash.erase(write.erased, end - write.erased)
            write.erased = end

    def _flash_end(self, body: bytes, checksum: int) -> bytes:
        (run,) = struct.unpack("<I", body)
        write = self._write
        if write is None or write.next != write.blocks:
            raise Refused(Status.BAD_ORDER)
        if write.inflate is not None and (write.at != write.end or not write.inflate.eof) and self.stub:
            raise Refused(Status.BAD_DEFLATE)
        self._write = None
        if not run:
            self._left(Reset.DOWNLOAD)  # a software reset: the boot pin is not looked at again
        elif not self.stub:
            self._left(Reset.FLASH)
        return b""

    def _run_user_code(self, body: bytes, checksum: int) -> bytes:
        self._left(Reset.FLASH)
        return b""

    def _md5(self, body: bytes, checksum: int) -> bytes:
        offset, length, _, _ = struct.unpack("<4I", body)
        self._need_flash()
        digest = self._flash.md5(offset, length)
        return digest if self.stub else digest.hex().encode()

    def _erase_flash(self, body: bytes, checksum: int) -> bytes:
        self._need_flash()
        self._flash.erase(0, self._flash.size)
        return b""

    def _erase_region(self, body: bytes, checksum: int) -> bytes:
        self._need_flash()
        self._flash.erase(*struct.unpack("<2I", body))
        return b""

    def _read_slow(self, body: bytes, checksum: int) -> bytes:
        offset, length = struct.unpack("<2I", body)
        self._need_flash()
        if length > _SLOW_READ:
            raise Refused(Status.BAD_LENGTH)
        return self._flash.read(offset, length).ljust(_SLOW_READ, b"\0")

    def _read_flash(self, body: bytes, checksum: int) -> bytes:
        offset, length, block_size, in_flight = struct.unpack("<4I", body)
        self._need_flash()
        data = self._flash.read(offset, length)
        digest = hashlib.md5(data).digest()
        flipped = self.faults.flipped_read
        if flipped is not None and offset <= flipped < offset + length:
            at = flipped - offset
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        self._reading = _Read(data, block_size, in_flight, 0, digest)
        return b""

    def _more(self, acknowledged: int = 0) -> list[bytes]:
        """The blocks that may be under way without an acknowledgement."""
        read = self._reading
        assert read is not None
        blocks: list[bytes] = []
        while read.sent < len(read.data) and read.sent - acknowledged < read.block_size * read.in_flight:
            block = read.data[read.sent : read.sent + read.block_size]
            blocks.append(slip.encode(block))
            read.sent += len(block)
        return blocks

    def _acknowledged(self, packet: bytes) -> list[bytes]:
        read = self._reading
        assert read is not None
        if len(packet) != 4:  # the client has given up
            self._reading = None
            return self._answer(packet)
        (acknowledged,) = struct.unpack("<I", packet)
        if acknowledged < len(read.data):
            return self._more(acknowledged)
        self._reading = None
        return [slip.encode(read.digest)]

    def _need_flash(self) -> None:
        if not self._attached:
            raise Refused(Status.BAD_ORDER)


def _block(body: bytes, checksum: int) -> tuple[int, bytes]:
    """The sequence number and the content of a data packet."""
    length, sequence, _, _ = struct.unpack_from("<4I", body)
    data = body[16:]
    if length != len(data):
        raise Refused(Status.BAD_LENGTH)
    seen = _CHECKSUM_SEED
    for byte in data:
        seen ^= byte
    if seen != checksum & 0xFF:
        raise Refused(Status.BAD_CHECKSUM)
    return sequence, data


def _down(offset: int) -> int:
    return offset - offset % SECTOR


def _up(offset: int) -> int:
    return -(-offset // SECTOR) * SECTOR
