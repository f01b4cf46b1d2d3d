"""The virtual board's own rules: machine, faults, and strictness where a board is strict."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from midgehost.deploy.transport import SerialTransport
from midgehost.errors import BoardError, Busy, LineDropped, MidgeError, NotFound, RemoteError
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.sensors import AnalogueInput, Fault, Mpu6050, Recording

READ = """
from machine import I2C,Pin
i=I2C(0,sda=Pin(4),scl=Pin(5))
i.writeto_mem(0x68,0x6b,b'\\0')
def read():
 try:
  b=i.readfrom_mem(0x68,0x3b,6)
  return [((b[k]<<8|b[k+1])^32768)-32768 for k in (0,2,4)]
 except OSError as e:return e.errno
"""


def run(board: VirtualBoard, code: str) -> str:
    with SerialTransport(board.path) as line:
        return line.exec(code)


def test_accelerometer_plays_a_recording_register_by_register() -> None:
    samples = [(0.5, -0.25, 1.0), (0.1, 0, 3.0), (0.2, 0, 0)]
    faults = [Fault("silent", 1, 1)]
    with VirtualBoard(sensors=[Mpu6050(Recording(samples, end="stop", faults=faults))]) as board:
        code = READ + "print(i.readfrom_mem(0x68,0x75,1)[0],read(),read(),read(),read())"
        assert run(board, code) == "104 [8192, -4096, 16384] 5 [3277, 0, 0] 5\n"
        board.power_cycle()
        assert run(board, READ + "i.writeto_mem(0x68,0x1c,bytes([0x18]))\nprint(read())") == "[1024, -512, 2048]\n"


def test_sensor_sleeps_until_woken() -> None:
    with VirtualBoard(sensors=[Mpu6050(Recording([(1, 1, 1)]))]) as board, SerialTransport(board.path) as line:
        asleep = READ.replace("i.writeto_mem(0x68,0x6b,b'\\0')", "")
        assert line.exec(asleep + "print(read())") == "[0, 0, 0]\n"


def test_analogue_input_saturates_at_twelve_bits() -> None:
    code = "from machine import ADC\na=ADC(26)\nprint(*[a.read_u16() for _ in range(3)])"
    with VirtualBoard(sensors=[AnalogueInput(26, Recording([(0.5,), (2.0,), (-1,)]))]) as board:
        assert run(board, code) == "32776 65535 0\n"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("from machine import Pin\nPin(77)", "ValueError"),
        ("from machine import I2C,Pin\nI2C(0,sda=Pin(5),scl=Pin(4))", "bad SDA pin"),
        ("from machine import I2C,Pin\nI2C(0,sda=Pin(4),scl=Pin(5)).readfrom(0x40,1)", "EIO"),
        ("from machine import ADC\nADC(15)", "ADC"),
        ("from machine import WDT\nWDT(timeout=9000)", "WDT"),
        ("x=bytearray(300000)", "MemoryError"),
    ],
)
def test_is_no_more_permissive_than_a_pico(board: VirtualBoard, code: str, error: str) -> None:
    with SerialTransport(board.path) as line, pytest.raises(RemoteError) as raised:
        line.exec(code)
    assert error in raised.value.traceback


def test_pins_both_ways(board: VirtualBoard) -> None:
    with SerialTransport(board.path) as line:
        line.exec("from machine import Pin\np=Pin(15,Pin.OUT)\np.value(1)")
        assert board.pins[15] == 1
        board.pins.drive(3, 1)
        code = "q=Pin(3,Pin.IN)\nn=[]\nq.irq(lambda p:n.append(p()),Pin.IRQ_FALLING)\nprint(q())"
        assert line.exec(code) == "1\n"
        board.pins.drive(3, 0)
        assert line.exec("import time\ntime.sleep_ms(50)\nprint(n)") == "[0]\n"


def test_starved_watchdog_resets(board: VirtualBoard) -> None:
    with SerialTransport(board.path) as line:
        line.exec("from machine import WDT\nw=WDT(timeout=300)\nw.feed()")
    deadline = time.monotonic() + 10
    while "watchdog" not in board.boots and time.monotonic() < deadline:
        time.sleep(0.01)
    assert board.boots[-1] == "watchdog" and board.wait_ready()
    with SerialTransport(board.path) as line:
        assert line.exec("import machine\nprint(machine.reset_cause()==machine.WDT_RESET)") == "True\n"


def test_timers_hold_their_rate(board: VirtualBoard) -> None:
    code = """
from machine import Timer
import time
n=[0,0]
def a(t):n[0]+=1
def b(t):n[1]+=1
t=Timer(-1,freq=1000,callback=a);u=Timer(-1,period=20,callback=b)
e=time.ticks_add(time.ticks_ms(),1000)
while time.ticks_diff(e,time.ticks_ms())>0:time.sleep_ms(1)
t.deinit();u.deinit()
print(*n)
"""
    with SerialTransport(board.path) as line:
        fast, slow = map(int, line.exec(code).split())
    assert 600 <= fast <= 1010 and 40 <= slow <= 51


def test_unplugged_line_is_an_error_and_the_board_runs_on(board: VirtualBoard) -> None:
    line = SerialTransport(board.path)
    line.exec("x=5")
    board.unplug()
    with pytest.raises(LineDropped):
        line.exec("print(x)")
    line.close()
    board.replug()
    with SerialTransport(board.path) as again:
        assert again.exec("print(x)") == "5\n"


def test_profiles_and_identity() -> None:
    for profile, platform, epoch in (("pico", "rp2", 1970), ("esp32", "esp32", 2000)):
        with VirtualBoard(profile=profile) as board, SerialTransport(board.path) as line:
            code = "import sys,time,os\nprint(sys.platform,time.gmtime(0)[0],'virtual' in os.uname().machine)"
            assert line.exec(code) == f"{platform} {epoch} True\n"
    with pytest.raises(NotFound):
        VirtualBoard(profile="stm32")


def test_missing_recording_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(MidgeError):
        Recording.read(tmp_path / "none.csv", "xyz")


def test_a_flash_image_has_one_board_at_a_time(tmp_path: Path) -> None:
    image = tmp_path / "board.img"
    with VirtualBoard(image), pytest.raises(Busy, match="is in use"):
        VirtualBoard(image)
    with VirtualBoard(image) as board:
        assert run(board, "print(1)") == "1\n"


def test_what_is_no_flash_image_stays_as_it_is(tmp_path: Path) -> None:
    image = tmp_path / "notes.txt"
    image.write_text("no flash")
    with pytest.raises(BoardError, match="it has 8 bytes"):
        VirtualBoard(image)
    assert image.read_text() == "no flash"
    with pytest.raises(BoardError, match="Is a directory"):
        VirtualBoard(tmp_path)


def test_a_link_has_one_board_and_no_file_is_replaced(tmp_path: Path) -> None:
    link, file = tmp_path / "port", tmp_path / "file"
    file.write_text("mine")
    with VirtualBoard(link=link) as board:
        where = link.readlink()
        with pytest.raises(Busy, match="port is in use"):
            VirtualBoard(link=link).start()
        assert link.readlink() == where and run(board, "print(1)") == "1\n"
        with pytest.raises(Busy):
            VirtualBoard(link=file).start()
    assert file.read_text() == "mine" and not link.is_symlink()
    link.symlink_to("/dev/pts/gone")  # what a killed board leaves
    with VirtualBoard(link=link) as board:
        assert run(board, "print(2)") == "2\n"
