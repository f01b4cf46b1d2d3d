"""The virtual board's line, as a client with a bare serial port sees it: line ends, Ctrl-C, resets, slow clients."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from midgehost.deploy.transport import SerialTransport
from midgehost.errors import BoardError, NotFound
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.power import PowerCut
from midgehost.virtual.sensors import Mpu6050, Recording

RAW = b"raw REPL; CTRL-B to exit\r\n>"


class Client:
    """A serial terminal."""

    def __init__(self, path: str) -> None:
        self._port = serial.Serial(path, 115200, timeout=0.02)

    def send(self, data: bytes) -> None:
        self._port.write(data)

    def until(self, wanted: bytes, seconds: float = 10) -> bytes:
        """What comes, until `wanted` is in it."""
        seen = b""
        deadline = time.monotonic() + seconds
        while wanted not in seen:
            assert time.monotonic() < deadline, f"no {wanted!r} in {seen[-200:]!r}"
            seen += self._port.read(max(1, self._port.in_waiting))
        return seen

    def close(self) -> None:
        self._port.close()


@pytest.fixture
def client(board: VirtualBoard) -> Iterator[Client]:
    client = Client(board.path)
    yield client
    client.close()


def test_text_gets_its_returns_and_bytes_arrive_as_they_are(client: Client) -> None:
    client.send(b"\x01")
    client.until(RAW)
    client.send(
        b"import sys\nprint('a')\nsys.stdout.write('b\\n')\n"
        b"sys.stdout.buffer.write(b'\\r\\r\\n\\n\\x00\\r')\nprint('c\\r\\n',end='')\x04"
    )
    assert client.until(b"\x04>") == b"OKa\r\nb\r\n\r\r\n\n\x00\rc\r\n\x04\x04>"


def test_ctrl_c_stops_a_program_that_prints_without_end(client: Client) -> None:
    client.send(b"while True: print('x' * 100)\r\r")
    client.until(b"x" * 100)
    client.send(b"\x03")
    client.until(b"KeyboardInterrupt", seconds=3)


def test_ctrl_c_at_any_moment_never_loses_the_board(board: VirtualBoard, client: Client) -> None:
    chance = random.Random(1)
    for _ in range(60):
        client.send(b"for i in range(%d): pass\r" % chance.choice((1, 1000, 20000, 200000)))
        time.sleep(chance.random() * 0.008)
        client.send(b"\x03" * chance.randint(1, 3))
    client.send(b"\r\x03\r\nprint('al' + 'ive')\r")
    client.until(b"\r\nalive\r\n")
    assert board.boots == ["power"]


def test_soft_reset_keeps_the_raw_mode_and_skips_main(board: VirtualBoard) -> None:
    with SerialTransport(board.path) as line:
        line.put("/boot.py", b"print('boot')\n1/0\n")
        line.put("/main.py", b"print('main')\n")
    client = Client(board.path)
    client.send(b"\x03\x01")
    client.until(RAW)
    client.send(b"\x04")
    trace = b'Traceback (most recent call last):\r\n  File "boot.py", line 2, in <module>\r\nZeroDivisionError: '
    assert client.until(RAW) == b"OK\r\nMPY: soft reboot\r\nboot\r\n" + trace + b"divide by zero\r\n" + RAW
    client.send(b"\x02")
    client.until(b">>> ")
    client.send(b"\x04")
    assert b"divide by zero\r\nmain\r\nMicroPython " in client.until(b">>> ")
    client.close()


def test_nobody_has_to_read(board: VirtualBoard) -> None:
    with SerialTransport(board.path) as line:
        code = b"from machine import Pin\nfor i in range(4000): print('record' * 10)\nPin(15, Pin.OUT, value=1)\n"
        line.put("/main.py", code)
    board.power_cycle()
    assert board.pins.wait(15, 1, timeout=15)
    with SerialTransport(board.path) as line:
        assert line.exec("print(1)") == "1\n"


def test_paced_line_takes_its_time() -> None:
    with VirtualBoard(bps=115200) as board, SerialTransport(board.path) as line:
        began = time.monotonic()
        assert len(line.exec("print('x' * 5759)")) == 5760
        assert 0.45 < time.monotonic() - began < 3


def test_injected_garbage_reaches_the_client(board: VirtualBoard, client: Client) -> None:
    board.inject(b"\xff\x00garbage\n")
    client.until(b"\xff\x00garbage\n")


def test_crash_is_a_reset(board: VirtualBoard) -> None:
    with SerialTransport(board.path) as line:
        line.exec("import os\nf=open('kept','w')\nf.write('k')\nf.close()")
    os.kill(board._engine._interpreter.pid, signal.SIGSEGV)
    deadline = time.monotonic() + 10
    while len(board.boots) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert board.boots == ["power", "crash"] and board.wait_ready()
    with SerialTransport(board.path) as line:
        assert line.exec("print(open('kept').read())") == "k\n"


def test_programs_get_the_heap_that_was_asked_for() -> None:
    for heap, size in (("96k", 96 << 10), ("192k", 192 << 10), ("1m", 1 << 20)):
        with VirtualBoard(heap=heap) as board, SerialTransport(board.path) as line:
            free = int(line.exec("import gc\ngc.collect()\nprint(gc.mem_free())"))
            assert size - (size >> 5) - 4096 < free <= size


@pytest.mark.parametrize("heap", ["much", "4k", "-1", ""])
def test_impossible_heap(heap: str) -> None:
    if heap:
        with pytest.raises(NotFound, match="heap"):
            VirtualBoard(heap=heap)
    else:
        with VirtualBoard(heap=heap) as board:
            assert board.running  # the profile's


def test_files_that_are_no_flash(tmp_path: Path) -> None:
    for size in (0, 5000, 4096):
        image = tmp_path / "image"
        image.write_bytes(bytes(size))
        with pytest.raises(BoardError, match=f"it has {size} bytes"):
            VirtualBoard(image)
    photo = random.Random(1).randbytes(64 * 4096)
    image.write_bytes(photo)
    with pytest.raises(BoardError, match="it holds something else"):
        VirtualBoard(image)
    assert image.read_bytes() == photo


def test_garbage_in_flash_is_formatted(tmp_path: Path) -> None:
    image = tmp_path / "image"
    garbage = random.Random(1).randbytes(64 * 4096)
    with VirtualBoard(image, flash_bytes=len(garbage)) as board, SerialTransport(board.path) as line:
        board.cut_power()
        image.write_bytes(garbage)
        board.power_cycle()
        assert line.exec("import os\nprint(os.listdir(), os.statvfs('/')[2])") == "[] 64\n"


def test_power_cut_while_formatting(tmp_path: Path) -> None:
    for write in (1, 2, 3):
        image = tmp_path / f"{write}.img"
        with VirtualBoard(image, flash_bytes=64 * 4096) as board:
            board.cut_power()
            image.write_bytes(b"\xff" * 64 * 4096)
            board.power_cycle(PowerCut(write, 500))
            assert not board.running and len(board.torn) == 1
            board.power_cycle()
            assert board.wait_ready()


def test_sensor_on_other_pins() -> None:
    sensor = Mpu6050(Recording([(0, 0, 1)]), sda=0, scl=1)
    code = "from machine import I2C,Pin,SoftI2C\np=dict(sda=Pin(0),scl=Pin(1))\n"
    with VirtualBoard(sensors=[sensor]) as board, SerialTransport(board.path) as line:
        assert line.exec(code + "print(I2C(0,**p).scan(),SoftI2C(**p).scan(),I2C(0).scan())") == "[104] [104] []\n"


def test_sampling_reads_allocate_nothing() -> None:
    code = """
from machine import I2C
import micropython
i=I2C(0)
i.writeto_mem(0x68,0x6b,b'\\0')
b=bytearray(6)
def read():
    for _ in range(50):i.readfrom_mem_into(0x68,0x3b,b)
micropython.heap_lock()
read()
micropython.heap_unlock()
print(b[4]<<8|b[5])
"""
    with VirtualBoard(sensors=[Mpu6050(Recording([(0, 0, 1)]))]) as board, SerialTransport(board.path) as line:
        assert line.exec(code) == "16384\n"


def test_start_from_the_command_line(tmp_path: Path) -> None:
    link = tmp_path / "port"
    command = [str(Path(sys.executable).with_name("midge")), "board", "start", "virtual", "--link", str(link)]
    for stop, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert started.stdout is not None
        path = started.stdout.readline().strip()
        assert path == str(link)
        with SerialTransport(path) as line:
            assert line.exec("print(6 * 7)") == "42\n"
        started.send_signal(stop)
        assert started.wait(10) == code
        started.stdout.close()
        assert not link.is_symlink()
