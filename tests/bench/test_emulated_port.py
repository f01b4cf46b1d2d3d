"""The stock firmware image behind a pty: the real mpremote, resets, power cuts, sensors read by midge's own drivers."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from emulated import stock_image

from midgehost import connect
from midgehost.deploy.modules import compile_modules
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import BoardError, Busy, LineDropped, NotFound, RemoteError
from midgehost.ports import announce
from midgehost.virtual.emulated import TIME_SCALE, Crashed, EmulatedPico, UnalignedAccess
from midgehost.virtual.pico.board import EmulatedBoard
from midgehost.virtual.power import PowerCut
from midgehost.virtual.sensors import AnalogueInput, Mpu6050, Recording

pytestmark = pytest.mark.emulated

COUNTS = [(k / 16384, -k / 16384, (1000 - k) / 16384) for k in range(1000)]  # k, -k, 1000 - k at 2 g
UNALIGNED = """
@micropython.viper
def f(a: int) -> int:
    return ptr32(a)[0]
import uctypes
b = bytearray(16)
f(uctypes.addressof(b) + 1)
"""


@pytest.fixture(autouse=True, scope="module")
def image() -> Path:
    return stock_image()


@pytest.fixture(scope="module")
def board() -> Iterator[EmulatedBoard]:
    """One board for all tests that leave nothing behind which another would trip over."""
    files = {
        f"/lib/{path}": data for path, data in compile_modules(["drivers.mpu6050", "drivers.adc"], "armv6m").items()
    }
    sensors = [Mpu6050(Recording(COUNTS)), AnalogueInput(26, Recording([(k / 10,) for k in range(11)]))]
    with EmulatedBoard(files=files | {"/hello.txt": b"hello"}, sensors=sensors, pace=None) as board:
        yield board


def line_to(board: EmulatedBoard) -> SerialTransport:
    return SerialTransport(board.path, "emulated:pico", TIME_SCALE)


def mpremote(path: str, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("mpremote")), "connect", path, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come to that"
        time.sleep(0.01)


# --- mpremote


def test_mpremote_runs_code(board: EmulatedBoard) -> None:
    assert mpremote(board.path, "exec", "import sys\nprint(sys.platform, 2 ** 40)") == "rp2 1099511627776\n"
    assert mpremote(board.path, "soft-reset", "eval", "1 + 1") == "2\n"


def test_mpremote_moves_files(board: EmulatedBoard, tmp_path: Path) -> None:
    sent, back = tmp_path / "sent.bin", tmp_path / "back.bin"
    sent.write_bytes(bytes(range(256)) * 8)
    mpremote(board.path, "cp", str(sent), ":copy.bin", "+", "cp", ":copy.bin", str(back), "+", "rm", ":copy.bin")
    assert back.read_bytes() == sent.read_bytes()
    assert mpremote(board.path, "cat", "hello.txt") == "hello"
    assert "1441792" in mpremote(board.path, "df")


# --- sensors and pins


def test_its_sensors_are_read_by_midges_drivers(board: EmulatedBoard) -> None:
    code = """
from array import array
from midge import drivers
accel = drivers.open('mpu6050', {'i2c': 0, 'sda': 4, 'scl': 5, 'channels': ['x', 'y', 'z'], 'unit': 'g', 'rate_hz': 50})
light = drivers.open('adc', {'adc': 26, 'channels': ['level'], 'unit': 'V', 'rate_hz': 10})
def rows(driver, channels, n):
    row, found = array('h', bytes(2 * channels)), []
    for _ in range(n):
        driver.read_into(row, 0)
        found.append(list(row))
    return found
print(rows(accel, 3, 4), rows(light, 1, 3))
"""
    with line_to(board) as line:
        said = line.exec(code)
    accel, light = ast.literal_eval(said.replace("] [", "],["))
    first = accel[0][0]
    assert accel == [[k, -k, 1000 - k] for k in range(first, first + 4)]
    steps = [b[0] - a[0] for a, b in pairwise(light)]
    assert steps == pytest.approx([6553.5] * 2, abs=16)  # a tenth of full scale, in 16 bits of which 12 are measured


def test_a_bus_is_scanned_and_driven_bit_by_bit(board: EmulatedBoard) -> None:
    code = """
from machine import I2C, Pin, SoftI2C
hard, soft = I2C(0, sda=Pin(4), scl=Pin(5)), None
print(hard.scan(), hard.readfrom_mem(0x68, 0x75, 1))
soft = SoftI2C(sda=Pin(4), scl=Pin(5))
soft.writeto_mem(0x68, 0x19, b'\\x07\\x03')
print(soft.scan(), soft.readfrom_mem(0x68, 0x19, 2))
hard = I2C(0, sda=Pin(4), scl=Pin(5))
print(hard.scan(), hard.readfrom_mem(0x68, 0x19, 2))
for bus in hard, I2C(1, sda=Pin(6), scl=Pin(7)):
    try:
        bus.readfrom(0x69, 1)
    except OSError as error:
        print(error.errno)
"""
    with line_to(board) as line:
        assert line.exec(code).splitlines() == ["[104] b'h'", "[104] b'\\x07\\x03'", "[104] b'\\x07\\x03'", "5", "5"]


def test_pins_are_seen_and_driven(board: EmulatedBoard) -> None:
    code = """
from machine import Pin
led = Pin(25, Pin.OUT)
for level in 1, 0, 1:
    led(level)
hits = []
button = Pin(15, Pin.IN, Pin.PULL_UP)
button.irq(lambda pin: hits.append(pin()))
print(button())
"""
    with line_to(board) as line:
        assert line.exec(code) == "1\n"
        assert board.pins[25] == 1 and [level for _, level in board.pins.history(25)] == [1, 0, 1]
        board.pins.drive(15, 0)
        assert line.exec("print(button(), hits)") == "0 [0]\n"
        board.pins.drive(15, None)
        assert line.exec("print(button(), hits)") == "1 [0, 1]\n"


# --- resets, power, flash


def test_resets_take_the_port_away_and_say_why(board: EmulatedBoard) -> None:
    before = len(board.boots)
    with line_to(board) as line:
        line.exec("x = 1")
        line.reset()
        assert line.exec("import machine\nprint(machine.reset_cause() == machine.WDT_RESET)") == "True\n"
        with pytest.raises(RemoteError, match="NameError"):
            line.exec("x")
        with pytest.raises(LineDropped):  # its line drops under the code that runs
            line.exec("from machine import WDT\nwatchdog = WDT(timeout=100)\nwhile True: pass")
    wait_until(lambda: board.boots[before:] == ["hard", "watchdog"] and bool(board.path))
    board.power_cycle()
    with line_to(board) as line:
        assert line.exec("import machine\nprint(machine.reset_cause() == machine.PWRON_RESET)") == "True\n"
    assert board.boots[before:] == ["hard", "watchdog", "power"]


def test_a_watchdog_that_is_fed_lets_it_run(board: EmulatedBoard) -> None:
    code = """
from machine import WDT
import time
watchdog = WDT(timeout=100)
for _ in range(10):
    time.sleep_ms(50)
    watchdog.feed()
print('well')
"""
    with line_to(board) as line:
        assert line.exec(code) == "well\n"
    board.power_cycle()


CUTS = [PowerCut(*cut) for cut in ((1, 500), (4, 70), (9, 200), (16, 330), (28, 460), (40, 590), (52, 720), (63, 850))]
WRITER = """
import os
while True:
    with open('state.new', 'w') as f:
        f.write('%d,' % n * 1000)
    os.rename('state.new', 'state')
    print(n)
    n += 1
"""


def possible(state: str, written: list[str]) -> tuple[int, ...]:
    """The numbers that may be in the file after a cut: the last one whose writing ended, or the one under way."""
    last = int(written[-1]) if written else int(state.split(",")[0])
    return last, last + 1


def test_cuts_inside_flash_writes_leave_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """Each inside the erasure or programming of a block, at another place and share of it."""
    with EmulatedBoard(flash=tmp_path / "flash.bin", files={"/state": b"0," * 1000}, pace=None) as board:
        for cut in CUTS:
            written: list[str] = []
            board.power_cycle(cut)
            with line_to(board) as line, pytest.raises(LineDropped):
                line.exec("n = int(open('state').read().split(',')[0]) + 1" + WRITER, 60, written.append)
            assert board.wait_off()
            board.power_cycle()
            with line_to(board) as line:
                state = line.get("/state").decode()
            assert state in [f"{n}," * 1000 for n in possible(state, written)]
        assert [torn.kept < torn.length for torn in board.torn] == [True] * len(CUTS)
        assert {torn.length for torn in board.torn} == {256, 4096}


def test_flash_is_kept_in_a_file(tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    with connect(f"emulated:pico:{flash}", pace=None) as one:
        one.transport.put("/kept", b"kept")
        with pytest.raises(Busy), connect(f"emulated:pico:{flash}"):
            pass
    with connect(f"emulated:pico:{flash}", pace=None) as two:
        assert two.transport.get("/kept") == b"kept"
    assert flash.stat().st_size == 2 * 1024 * 1024
    (tmp_path / "other").write_bytes(b"\xff" * 2 * 1024 * 1024)
    with pytest.raises(BoardError, match="no flash image"), connect(f"emulated:pico:{tmp_path / 'other'}"):
        pass


def test_a_link_of_somebody_else_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "pico"
    link.write_text("mine")
    with pytest.raises(Busy), EmulatedBoard(link=link):
        pass
    assert link.read_text() == "mine"


# --- time


@pytest.mark.parametrize(("pace", "least", "most"), [(1.0, 0.95, 20.0), (None, 0.0, 0.9)])
def test_a_sleeping_board_is_paced(pace: float | None, least: float, most: float) -> None:
    with EmulatedBoard(pace=pace) as board, line_to(board) as line:
        line.exec("import time")
        began = time.monotonic()
        line.exec("time.sleep(1)")
        assert least <= time.monotonic() - began <= most


# --- what a real processor does not survive


def test_an_unaligned_word_stops_it_and_fails_the_test() -> None:
    board = EmulatedBoard().start()
    with line_to(board) as line:
        line.write(b"\x05" + UNALIGNED.encode() + b"\x04")  # paste mode: nothing waits for an answer
        wait_until(lambda: bool(board.fault))
        heard = b""
        while b"midge: the processor stopped at an unaligned access" not in heard:
            heard += line.read(1.0)
    with pytest.raises(UnalignedAccess, match="32 bit aligned"):
        board.close()


def test_a_watchdog_revives_a_stopped_processor() -> None:
    with EmulatedBoard(pace=None) as board, line_to(board) as line:
        line.write(b"\x05from machine import WDT\nwatchdog = WDT(timeout=500)\n" + UNALIGNED.encode() + b"\x04")
        wait_until(lambda: board.boots == ["power", "watchdog"])
        assert not board.fault


def test_a_breakpoint_stops_it() -> None:
    with EmulatedPico() as pico:
        with pytest.raises(Crashed, match="breakpoint"):
            pico.exec("@micropython.asm_thumb\ndef f():\n data(2, 0xbe00)\nf()")
        pico.reset()
        assert pico.exec("print(1)") == "1\n"


# --- kinds, versions, the command


def test_pico_w_boots_with_its_heap() -> None:
    stock_image("pico-w")
    with connect("emulated:pico-w", pace=None) as board:
        info = board.info
        assert "Pico W" in info.machine and info.arch == "armv6m"
        assert info.fs_total == 868_352
        print(
            f"\nemulated:pico-w, MicroPython {'.'.join(map(str, info.version))}: {info.heap_free:,} bytes of heap free"
        )
        assert info.heap_free >= 195_000


def test_another_version_is_named_in_the_port() -> None:
    stock_image("pico", "1.24.1")
    with connect("emulated:pico@1.24.1", pace=None) as board:
        assert board.info.version[:3] == (1, 24, 1)


@pytest.mark.parametrize("port", ["emulated:pico3", "emulated:pico@0.1", "emulated:"])
def test_what_there_is_not_is_refused(port: str) -> None:
    with pytest.raises(NotFound), connect(port):
        pass


CONVERT = """
from machine import ADC
a = ADC(27)
print([a.read_u16() >> 8 for _ in range(3)])
"""


def test_board_start_keeps_one_running(tmp_path: Path) -> None:
    recording, link = tmp_path / "room.csv", tmp_path / "pico"
    recording.write_text("co2\n0.25\n0.5\n")
    command = [str(Path(sys.executable).with_name("midge")), "board", "start", "emulated:pico"]
    options = f"--link {link} --flash {tmp_path / 'flash.bin'} --adc 27={recording}:co2 --end hold".split()
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None and running.stdout.readline() == f"{link}\n"
            said = mpremote(str(link), "exec", CONVERT)
            assert said == "[64, 128, 128]\n"
            with connect(str(link)) as board:  # announced, so its slowness is known
                assert board.transport.time_scale == TIME_SCALE
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    assert not link.is_symlink()
    with EmulatedBoard(flash=tmp_path / "flash.bin") as board, announce(board.port):
        assert mpremote(board.path, "exec", "print('again')") == "again\n"


def test_the_device_tests_run_there_with_one_flag() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--port", "emulated:pico"]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("test_device.py")), "-k", "test_drivers and counts"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
