"""Boards that make it hard: what they run, the mode they were left in, their line and their ports. Nothing hangs."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial

import esp_images
from midgehost import virtual
from midgehost.deploy.slots import Slots
from midgehost.deploy.transport import ENTER_TIMEOUT, NoRepl, SerialTransport
from midgehost.errors import Full, LineDropped, MidgeError, RemoteError, Timeout
from midgehost.ports import Port
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.esp.board import EspBoard

FLOOD = "while 1: print('x' * 1000)"
CATCHES = "while 1:\n try:\n  {}\n except: pass"
HARD = {
    "tight loop": "while 1: pass",
    "viper loop": "@micropython.viper\ndef f():\n i = 0\n while i < 1 << 60: i += 1\nf()",
    "sleeps": "import time\nwhile 1: time.sleep(5)",
    "reads": "while 1: input()",
    "prints": FLOOD,
    "catches": "while 1:\n try: pass\n except: pass",
    "catches, tells and waits": (
        "import time\nwhile 1:\n try: time.sleep(1)\n except:\n  print('x' * 1000)\n  time.sleep(0.05)"
    ),
    "a timer prints": "import machine\nt = machine.Timer(-1, period=1, callback=lambda t: print('tick > tock'))",
    "a syntax error": "while 1 print(",
    "other names": "os = sys = binascii = hashlib = gc = print = open = len = min = bytearray = memoryview = exec = 5",
}
# On the unix port Ctrl-C is raised at once, where a board waits for the end of a bytecode: nothing gets between these.
# They begin as sensors do that have to warm up: there a reset gives midge its chance.
STUBBORN = {
    "catches at once": "import time\ntime.sleep(0.3)\nwhile 1:\n try: time.sleep(1)\n except: pass",
    "prints and catches at once": "import time\ntime.sleep(0.3)\nwhile 1:\n try: print('x' * 1000)\n except: pass",
    "Ctrl-C is off": "import time, micropython\ntime.sleep(0.3)\nmicropython.kbd_intr(-1)\nwhile 1: print('deaf')",
}


@contextmanager
def running(board: VirtualBoard, program: str) -> Iterator[SerialTransport]:
    """A line to a board whose main.py this is, and runs."""
    with SerialTransport(board.path) as line:
        line.put("/main.py", program.encode())
        line.reset()
        time.sleep(0.2)
        yield line
        line.remove("/main.py")


def hear(line: SerialTransport, word: bytes) -> None:
    heard, end = b"", time.monotonic() + 10
    while word not in heard:
        assert time.monotonic() < end, heard
        heard += line.read(0.5)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.mark.parametrize("program", HARD.values(), ids=HARD.keys())
def test_a_board_gives_its_repl_whatever_it_runs(board: VirtualBoard, program: str) -> None:
    with running(board, program) as line, at_most(ENTER_TIMEOUT):
        line.put("/d.bin", b"0123456789" * 700)
        assert line.get("/d.bin") == b"0123456789" * 700
        line.restart()
        assert line.exec("print(2 + 2)") == "4\n"


def test_what_prints_at_the_prompt_is_ended_by_a_soft_reset(board: VirtualBoard) -> None:
    """A timer or a thread on hardware; here the line says it, up to the reset."""

    def chatter() -> None:
        while board.boots[-1] != "soft":
            board.inject(b"tick > tock\r\n")
            time.sleep(0.002)

    talker = threading.Thread(target=chatter)
    talker.start()
    with SerialTransport(board.path) as line, at_most(ENTER_TIMEOUT):
        assert line.exec("print(1)") == "1\n"
    talker.join(1)
    assert board.boots == ["power", "soft"]


def test_a_megabyte_a_second(board: VirtualBoard) -> None:
    with running(board, FLOOD) as line:
        heard, began = 0, time.monotonic()
        while time.monotonic() - began < 0.5:
            heard += len(line.read(0.1))
        assert heard > 500_000
        with at_most(2):
            assert line.exec("print('quiet')") == "quiet\n"


@pytest.mark.parametrize("program", STUBBORN.values(), ids=STUBBORN.keys())
def test_a_program_that_nothing_stops_is_an_error_that_says_what_helps(
    board: VirtualBoard, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    with running(board, program) as line:
        time.sleep(0.4)
        monkeypatch.setattr(line, "_enter_timeout", 0.9)
        with at_most(3), pytest.raises(NoRepl, match="Press the board's reset button"):
            line.exec("print(1)")
        monkeypatch.undo()
        threading.Timer(0.5, board.power_cycle).start()  # as a person does it, while midge tries
        with at_most(ENTER_TIMEOUT):
            line.exec("print(1)")


def test_a_board_that_is_just_booting(board: VirtualBoard) -> None:
    noise = "import time\nfor i in range(20):\n print('boot', i)\n time.sleep(0.02)\n"
    with SerialTransport(board.path) as line:
        line.put("/boot.py", noise.encode())
        for pause in (0, 0.05, 0.1, 0.2, 0.3):
            line.reset()
            time.sleep(pause)
            with at_most(5):
                assert line.exec("print(1)") == "1\n"


def test_a_board_that_resets_again_and_again(board: VirtualBoard) -> None:
    with running(board, "import machine, time\nprint('hello')\ntime.sleep(0.3)\nmachine.reset()") as line, at_most(10):
        assert line.exec("print(1)") == "1\n"


def test_a_board_with_a_reset_circuit_needs_nobody_to_press_a_button(tmp_path: Path) -> None:
    virtual.register()  # the URL vboard://
    blank = b"\xff" * esp_images.OFFSETS["esp32"] + esp_images.merged("esp32", 60_000, version="v1.26.1")
    (tmp_path / "flash").write_bytes(blank.ljust(4 << 20, b"\xff"))
    with EspBoard("esp32", tmp_path / "flash") as board, SerialTransport(board.url, enter_timeout=5) as line:
        line.put("/main.py", STUBBORN["Ctrl-C is off"].encode())
        line.reset()
        hear(line, b"deaf")
        with at_most(8):
            assert line.exec("print(1)") == "1\n"


# --- modes ------------------------------------------------------------------------------------------------------------

PASTE = b"x = 'a long enough line of code to be cut anywhere'\nprint(x)\nfor i in range(3):\n    print(i)\n"
MODES = {
    "friendly": b"\r\x03\x02" + PASTE.replace(b"\n", b"\r"),
    "paste": b"\r\x03\x02\x05" + PASTE.replace(b"\n", b"\r") + b"\x04",
    "raw": b"\r\x03\x01" + PASTE + b"\x04",
    "raw paste": b"\r\x03\x01\x05A\x01" + PASTE + b"\x04",
    "raw paste, wrong": b"\r\x03\x01\x05A\x01while 1 print(" + PASTE,
    "running": b"\r\x03\x01while 1: print(1)\x04" + PASTE,
}


def cut_everywhere(board: VirtualBoard, stream: bytes, cuts: list[int]) -> float:
    """Leaves the board behind after each so many bytes; returns the slowest way back to its REPL, s."""
    slowest = 0.0
    for cut in cuts:
        with serial.Serial(board.path, exclusive=True) as port:
            port.write(stream[:cut])
            if cut % 3 == 0:
                time.sleep(0.01)
        with SerialTransport(board.path) as line:
            began = time.monotonic()
            assert line.exec("print('in', 'side')") == "in side\n", stream[:cut]
            slowest = max(slowest, time.monotonic() - began)
    return slowest


@pytest.mark.parametrize("mode", MODES)
def test_a_board_left_in_any_mode(shared_board: VirtualBoard, mode: str) -> None:
    stream = MODES[mode]
    cuts = random.Random(mode).sample(range(len(stream) + 1), 6)
    assert cut_everywhere(shared_board, stream, cuts) < 3


@pytest.mark.soak
def test_a_board_left_at_every_byte_of_every_mode() -> None:
    with VirtualBoard() as board:
        slowest = {mode: cut_everywhere(board, MODES[mode], list(range(len(MODES[mode]) + 1))) for mode in MODES}
        assert board.boots == ["power"]
    count = sum(len(stream) + 1 for stream in MODES.values())
    print(f"\n| left at {count} places of {len(MODES)} modes | slowest way back, s |\n|---|---|")
    for mode, seconds in slowest.items():
        print(f"| {mode} | {seconds:.2f} |")


def test_a_stopped_host_program_stops_the_board(board: VirtualBoard) -> None:
    """Ctrl-C of the host; mpremote would leave the board's program running."""
    script = (
        "import sys\nfrom midgehost.deploy.transport import SerialTransport\n"
        "with SerialTransport(sys.argv[1]) as line:\n"
        ' line.exec(\'print("on")\\nwhile 1: print(end="")\', timeout=60, on_output=lambda s: print(s, flush=True))\n'
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, board.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"on\n"
        host.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in host.communicate(timeout=10)[1]
    with serial.Serial(board.path, timeout=0.1) as port:
        port.write(b"print('prom' + 'pt')\r")
        heard, end = b"", time.monotonic() + 5
        while b"\r\nprompt\r\n" not in heard:
            assert time.monotonic() < end, heard
            heard += port.read(100)


def test_what_outlives_its_deadline_is_stopped_at_once(board: VirtualBoard) -> None:
    with SerialTransport(board.path) as line:
        with pytest.raises(Timeout):
            line.exec("while 1: pass", timeout=0.3)
        line._line.begin("looking", 2)
        line._line.skip_to(b"KeyboardInterrupt")


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_full_file_system_keeps_what_it_has() -> None:
    with VirtualBoard(flash_bytes=64 * 1024) as board, SerialTransport(board.path) as line:
        Slots(line).replace("/kept", b"old")
        line.put("/ballast", bytes(20_000))
        before = line.free_bytes()
        with at_most(20), pytest.raises(Full) as full:
            Slots(line).replace("/kept", random.Random(0).randbytes(60_000))
        assert full.value.free == line.free_bytes() == before
        assert line.get("/kept") == b"old"
        assert line.exec("import os\nprint(sorted(os.listdir('/')))") == "['ballast', 'kept']\n"


def test_two_boards_at_once() -> None:
    found: dict[int, bytes] = {}

    def work(number: int, path: str) -> None:
        with SerialTransport(path) as line:
            for turn in range(3):
                line.put("/x.bin", random.Random(number).randbytes(20_000 + turn))
                line.reset()
            found[number] = line.get("/x.bin")

    with VirtualBoard() as one, VirtualBoard() as other:
        threads = [threading.Thread(target=work, args=(n, board.path)) for n, board in enumerate((one, other))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == {n: random.Random(n).randbytes(20_002) for n in range(2)}


# --- lines ------------------------------------------------------------------------------------------------------------

WORK: dict[str, Callable[[SerialTransport], object]] = {
    "exec": lambda line: line.exec("import time\ntime.sleep(5)", timeout=0.8),
    "a long program": lambda line: line.exec("#" * 20_000_000, timeout=0.8),
    "put": lambda line: [line.put("/x", bytes(300_000)) for _ in range(100)],
    "get": lambda line: [line.get("/big") for _ in range(500)],
    "sha256": lambda line: [line.sha256("/big") for _ in range(5000)],
    "restart": lambda line: [line.restart() for _ in range(50)],
    "reset": lambda line: [line.reset() for _ in range(50)],
    "read": lambda line: [line.read(1) for _ in range(50)],
    "write": lambda line: [line.write(b"x" * 100) for _ in range(500_000)],
}


@pytest.mark.parametrize("work", WORK)
def test_a_line_lost_in_the_middle(board: VirtualBoard, work: str) -> None:
    with SerialTransport(board.path) as line:
        line.put("/big", bytes(60_000))
        threading.Timer(0.2 + 0.2 * random.Random(work).random(), board.unplug).start()
        with at_most(5), pytest.raises(LineDropped):
            WORK[work](line)
        with at_most(1), pytest.raises(LineDropped):
            line.exec("print(1)")


@pytest.mark.parametrize("work", [name for name in WORK if name not in ("read", "write", "reset")])
def test_a_board_that_dies_in_the_middle(board: VirtualBoard, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    """The line is there, and nobody answers any more."""
    monkeypatch.setattr("midgehost.deploy.transport.ENTER_TIMEOUT", 0.5)
    for name in ("_ANSWER_TIMEOUT", "_HASH_TIMEOUT", "_CHUNK_TIMEOUT", "RESET_TIMEOUT"):
        monkeypatch.setattr(f"midgehost.deploy.transport.{name}", 0.7)
    with SerialTransport(board.path) as line:
        line.put("/big", bytes(60_000))
        threading.Timer(0.2 + 0.2 * random.Random(work).random(), board.cut_power).start()
        with at_most(8), pytest.raises(Timeout):
            WORK[work](line)


def test_noise_ends_in_the_right_answer_or_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midgehost.deploy.transport.ENTER_TIMEOUT", 2.0)
    right = wrong = 0
    with VirtualBoard(noise=0.001, seed=5) as board:
        for number in range(12):
            with SerialTransport(board.path) as line, at_most(8):
                try:
                    right += line.exec(f"print({number} * 7)", timeout=1) == f"{number * 7}\n"
                except (Timeout, RemoteError, LineDropped):
                    wrong += 1
    assert right + wrong == 12
    assert right > 6


def test_a_file_arrives_through_noise_or_an_error_is_told() -> None:
    data = random.Random(1).randbytes(4000)
    told = arrived = 0
    with VirtualBoard(noise=0.0005, seed=3) as board:
        noisy = board._engine.line
        for _ in range(6):
            noisy.noise = 0.0005
            with SerialTransport(board.path, enter_timeout=2) as line, at_most(30):
                try:
                    line.put("/x", data)
                except MidgeError:
                    told += 1
                    continue
                noisy.noise = 0.0
                assert line.get("/x") == data
                arrived += 1
    assert told + arrived == 6
    assert arrived > 0


# --- native USB -------------------------------------------------------------------------------------------------------


def plugged(*boards: VirtualBoard) -> Callable[[], list[Port]]:
    """What the operating system lists of them."""
    return lambda: [board.port for board in boards if board.path]


def test_a_port_that_vanishes_with_a_reset_is_found_under_its_new_name() -> None:
    who = "import machine, binascii\nprint(binascii.hexlify(machine.unique_id()).decode().upper())"
    with (
        VirtualBoard(usb_away=0.3) as board,
        VirtualBoard(usb_away=0.3) as other,
        SerialTransport(board.path, listing=plugged(other, board)) as line,
    ):
        line.put("/main.py", b"print('up')\nwhile 1: pass\n")
        first = line.path
        for _ in range(3):
            with at_most(5):
                line.reset()
                assert line.exec(who) == board.port.serial_number + "\n"
        assert line.path == board.path != first
        assert other.boots == ["power"]


def test_a_board_with_native_usb_that_resets_again_and_again() -> None:
    with VirtualBoard(usb_away=0.2) as board, SerialTransport(board.path, listing=plugged(board)) as line:
        line.put("/main.py", b"import time, machine\ntime.sleep(0.4)\nmachine.reset()")
        line.reset()
        time.sleep(0.3)
        with at_most(12):
            assert line.exec("print(1)") == "1\n"


def test_a_board_that_does_not_come_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midgehost.deploy.transport.RESET_TIMEOUT", 1.0)
    with (
        VirtualBoard(usb_away=60) as board,
        SerialTransport(board.path, "pico", listing=plugged(board)) as line,
        at_most(4),
        pytest.raises(MidgeError, match="pico has not come back"),
    ):
        line.reset()
