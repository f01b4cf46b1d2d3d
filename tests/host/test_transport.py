"""The serial transport on a virtual board, and on lines that no board answers: it does its work, or it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import threading
import time
import tty
from collections.abc import Callable, Iterator

import pytest

from midgehost.deploy import transport as transport_module
from midgehost.deploy.line import open_line
from midgehost.deploy.transport import CHUNK, SerialTransport
from midgehost.errors import Busy, Full, HashMismatch, LineDropped, NotFound, RemoteError, Timeout
from midgehost.virtual.board import VirtualBoard


@pytest.fixture(scope="module")
def board() -> Iterator[VirtualBoard]:
    """One board for all tests that leave it usable."""
    with VirtualBoard() as board:
        yield board


@pytest.fixture
def line(board: VirtualBoard) -> Iterator[SerialTransport]:
    with SerialTransport(board.path, "the board") as line:
        yield line


# --- running code -----------------------------------------------------------------------------------------------------


def test_exec_returns_what_was_printed(line: SerialTransport) -> None:
    assert line.exec("print('höhe', 1)\nprint(2)") == "höhe 1\n2\n"
    assert line.exec("x = 5") == ""
    assert line.exec("print(x)") == "5\n"


def test_output_comes_line_by_line(line: SerialTransport) -> None:
    lines: list[str] = []
    assert line.exec("for i in range(3): print(i)\nprint('end', end='')", on_output=lines.append) == ""
    assert lines == ["0\n", "1\n", "2\n", "end"]


def test_remote_exception_carries_its_traceback(line: SerialTransport) -> None:
    with pytest.raises(RemoteError, match="the board raised ZeroDivisionError") as error:
        line.exec("def f():\n return 1 // 0\nf()")
    assert "in f" in error.value.traceback
    assert line.exec("print('fine')") == "fine\n"


@pytest.mark.parametrize("code", ["while 1: print('x' * 60)", "while 1: pass", "import time\ntime.sleep(60)"])
def test_deadline_spans_the_whole_call(line: SerialTransport, code: str) -> None:
    began = time.monotonic()
    with pytest.raises(Timeout, match=r"did not answer within 0\.5 s while running code"):
        line.exec(code, timeout=0.5)
    assert time.monotonic() - began < 2
    assert line.exec("print('back')") == "back\n"


def test_a_line_that_nobody_answers_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "ENTER_TIMEOUT", 1.0)
    with scripted_line(lambda _: None) as path, SerialTransport(path) as line:
        began = time.monotonic()
        with pytest.raises(Timeout, match="within 1 s while entering its raw REPL"):
            line.exec("print(1)")
        assert time.monotonic() - began < 3


def test_a_slow_board_gets_more_time(board: VirtualBoard) -> None:
    began = time.monotonic()
    with SerialTransport(board.path, time_scale=3) as line, pytest.raises(Timeout, match=r"within 0\.3 s"):
        line.exec("while 1: pass", timeout=0.3)
    assert 0.9 < time.monotonic() - began < 2


def test_a_line_that_never_stops_talking_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "ENTER_TIMEOUT", 1.0)
    chatter = b"raw REPL; CTRL-B 12345\r\n"
    with scripted_line(lambda master: os.write(master, chatter)) as path, SerialTransport(path) as line:
        began = time.monotonic()
        with pytest.raises(Timeout):
            line.exec("print(1)")
        assert time.monotonic() - began < 3


def test_late_answers_of_earlier_tries_are_not_taken_for_this_one(board: VirtualBoard) -> None:
    with SerialTransport(board.path) as line:
        line._line.begin("asking twice", 5)
        line._line.write(b"\r\x03\r\x01\r\x01\r\x01\x02\r\x03\r\x01")
        assert line.exec("print('mine')") == "mine\n"


def test_no_step_outlives_the_whole() -> None:
    with scripted_line(lambda master: os.write(master, b"x")) as path:
        line = open_line(path, "it")
        began = time.monotonic()
        with line.within(0.3):
            with pytest.raises(Timeout, match="while sending"):
                while time.monotonic() - began < 3:
                    line.begin("sending", 5)
                    line.read(1)
            assert 0.25 < time.monotonic() - began < 1
            line.begin("stopping", 1, last=True)
            line.write(b"x")
        line.close()


# --- the port ---------------------------------------------------------------------------------------------------------


def test_a_port_is_opened_once(board: VirtualBoard, line: SerialTransport) -> None:
    assert line.exec("print(1)") == "1\n"
    with pytest.raises(Busy, match="in use by another program"):
        SerialTransport(board.path)


def test_a_missing_port_is_named() -> None:
    with pytest.raises(NotFound, match="no board at /dev/ttyNONE"):
        SerialTransport("/dev/ttyNONE")


def test_pulled_line_while_running_code() -> None:
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        line.exec("print(1)")
        threading.Timer(0.3, board.unplug).start()
        with pytest.raises(LineDropped, match="dropped while running code"):
            line.exec("import time\ntime.sleep(20)", timeout=20)


def test_pulled_line_while_sending() -> None:
    with VirtualBoard() as board, SerialTransport(board.path) as line, pytest.raises(LineDropped):
        line.put("/x", bytes(100_000), lambda done, _: board.unplug() if done > 20_000 else None)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 50_000])
def test_a_file_comes_back_as_it_went(line: SerialTransport, size: int) -> None:
    data = random.Random(size).randbytes(size)
    steps: list[tuple[int, int]] = []
    line.put(f"/deep/er/{size}.bin", data, lambda done, total: steps.append((done, total)))
    assert line.get(f"/deep/er/{size}.bin") == data
    assert [done for done, _ in steps] == [*range(CHUNK, size, CHUNK), *([size] if size else [])]
    assert {total for _, total in steps} <= {size}
    line.remove(f"/deep/er/{size}.bin")
    with pytest.raises(RemoteError, match="ENOENT"):
        line.get(f"/deep/er/{size}.bin")


def test_damage_on_the_board_is_noticed(line: SerialTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = (
        "_real=binascii\nclass binascii:\n hexlify=_real.hexlify\n"
        " def a2b_base64(s):\n  b=bytearray(_real.a2b_base64(s))\n  b[-1]^=4\n  return b\n"
    )
    monkeypatch.setattr(transport_module, "_AGENT", transport_module._AGENT + faulty)
    with pytest.raises(HashMismatch, match=r"/x\.bin arrived damaged"):
        line.put("/x.bin", b"12345")


def test_a_small_heap_gets_smaller_chunks() -> None:
    data = random.Random(0).randbytes(20_000)
    steps: list[int] = []
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        line.put("/y.bin", b"")  # what sending needs on the board is there now
        line.exec("import gc\n_ballast=[None]*1000\ngc.collect()")
        line.exec("for i in range((gc.mem_free()-8000)//512):_ballast[i]=bytearray(480)")
        line.put("/y.bin", data, lambda done, _: steps.append(done))
        line.exec("del _ballast\ngc.collect()")
        assert len(steps) > len(data) // CHUNK + 1, "no chunk was refused: the test's heap is too large"
        assert line.get("/y.bin") == data


def test_a_full_board_says_so() -> None:
    with VirtualBoard(flash_bytes=64 * 1024) as board, SerialTransport(board.path) as line:
        with pytest.raises(Full) as full:
            line.put("/x", random.Random(0).randbytes(80_000))
        assert full.value.code == "deploy.full"
        assert full.value.needed == 80_000 > full.value.free


# --- the running program ----------------------------------------------------------------------------------------------


def test_reset_runs_main_and_read_hears_it() -> None:
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        line.put("/main.py", b"print('main runs')\nprint(input() * 2)\nwhile 1: print('.')\n")
        line.reset()
        hear(line, b"main runs")
        assert board.boots == ["power", "hard"]
        line.write(b"ab\n")
        hear(line, b"abab")
        assert line.exec("print('interrupted')") == "interrupted\n"
        assert line.exec("import os\nprint(os.listdir('/'))") == "['main.py']\n"


def test_restart_clears_the_heap_and_leaves_main_alone() -> None:
    with VirtualBoard() as board, SerialTransport(board.path) as line:
        line.put("/main.py", b"print('main runs')\n")
        line.exec("x = 1")
        line.restart()
        assert board.boots[-1] == "soft"
        with pytest.raises(RemoteError, match="NameError"):
            line.exec("print(x)")
        line.put("/z", b"123")
        assert line.get("/z") == b"123"


def test_read_ends_when_nothing_comes(line: SerialTransport) -> None:
    line.exec("pass")
    hear(line, b">>> ")
    began = time.monotonic()
    assert line.read(0.2) == b""
    assert 0.1 < time.monotonic() - began < 1


@pytest.mark.soak
def test_1000_resets_and_interrupts() -> None:
    """Connections at any moment of a board's boot."""
    chance = random.Random(3)
    slowest = 0.0
    with VirtualBoard() as board:
        for _ in range(1000):
            with SerialTransport(board.path) as line:
                began = time.monotonic()
                assert line.exec("print(7)") == "7\n"
                slowest = max(slowest, time.monotonic() - began)
                line.reset()
                time.sleep(chance.random() * 0.2)
    print(f"\n1000 resets, each followed by a connection within 0.2 s: 0 failures, slowest {slowest:.2f} s")


@contextlib.contextmanager
def scripted_line(act: Callable[[int], object]) -> Iterator[str]:
    """A pty whose other end calls `act` over and over."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    done = threading.Event()

    def run() -> None:
        while not done.wait(0.001):
            with contextlib.suppress(BlockingIOError):
                act(master)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        done.set()
        thread.join()
        os.close(master)
        os.close(slave)


def hear(line: SerialTransport, word: bytes, timeout: float = 10.0) -> bytes:
    heard, end = b"", time.monotonic() + timeout
    while word not in heard:
        assert time.monotonic() < end, heard
        heard += line.read(0.5)
    return heard
