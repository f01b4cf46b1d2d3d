"""A node's lines: cut from any stream of bytes, told from everything else that is on the line."""

from __future__ import annotations

import itertools
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midgehost.deploy.connection import CommandError, Lines, NodeConnection
from midgehost.errors import LineDropped, Timeout

PACK = b'[{"bn":"fan/","bt":12.345,"n":"accel.x","u":"g","v":0.25},{"n":"z.alarm","vb":true,"t":0.020}]\n'


class FakeLine:
    """A transport that says what it is told to, and answers commands by `replies`."""

    name = "fake"
    time_scale = 1.0

    def __init__(self, *said: bytes, replies: dict[str, bytes] | None = None, drop: bool = False) -> None:
        self.said = deque(said)
        self.replies = replies or {}
        self.drop = drop
        self.written: list[bytes] = []

    def read(self, timeout: float) -> bytes:
        if self.said:
            return self.said.popleft()
        if self.drop:
            raise LineDropped(self.name, "listening")
        return b""

    def write(self, data: bytes) -> None:
        self.written.append(data)
        for word, reply in self.replies.items():
            if f'"cmd":"{word}"'.encode() in data:
                self.said.append(reply)


def connection(line: FakeLine) -> NodeConnection:
    return NodeConnection(line)  # type: ignore[arg-type]


# --- lines ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.text("ab\r{é", max_size=6), max_size=8), st.lists(st.integers(0, 40), max_size=8))
def test_lines_do_not_depend_on_how_the_bytes_come(lines: list[str], cuts: list[int]) -> None:
    stream = "".join(line + "\n" for line in lines).encode()
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    cutter = Lines()
    found = [line for a, b in itertools.pairwise(ends) for line in cutter.feed(stream[a:b])]
    assert found == [line.rstrip("\r") for line in lines]
    assert cutter.partial == ""


def test_an_endless_line_is_dropped_and_the_next_one_read() -> None:
    cutter = Lines()
    assert cutter.feed(b"x" * 70_000) == []
    assert cutter.dropped == 1
    assert cutter.feed(b"rest\nnext\n") == ["rest", "next"]


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_between_garbage() -> None:
    half, noise = PACK[20:], b'\xff\x00[{]\nhello\n[1,2]\n[{"n":"x"}]\n'
    line = FakeLine(half, noise, PACK[:30], PACK[30:], b'{"log":"text"}\n', PACK)
    found = [(r.node, r.name, r.value, r.t, r.unit) for r in connection(line).records(timeout=0.2)]
    pack = [("fan", "accel.x", 0.25, 12_345, "g"), ("fan", "z.alarm", True, 12_365, "")]
    assert found == pack * 2


def test_a_dropped_line_ends_the_records_with_an_error() -> None:
    records = connection(FakeLine(PACK, drop=True)).records()
    assert [next(records).name, next(records).name] == ["accel.x", "z.alarm"]
    with pytest.raises(LineDropped):
        next(records)


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_command_gets_its_own_reply() -> None:
    old, mine = b'{"re":99,"ok":true,"value":1}\n', b'{"re":1,"ok":true,"value":[2]}\n'
    line = FakeLine(PACK, replies={"get": old + PACK + mine})
    assert connection(line).command("get", name="z.holdoff") == [2]
    assert line.written == [b'{"cmd":"get","name":"z.holdoff","id":1}\n']


def test_a_refused_command_says_why() -> None:
    line = FakeLine(replies={"get": b'{"re":1,"error":{"code":"link.unknown_setting","what":"no setting q"}}\n'})
    with pytest.raises(CommandError, match=r"no setting q \[link.unknown_setting\]") as error:
        connection(line).command("get", name="q")
    assert error.value.remote_code == "link.unknown_setting"


def test_a_node_that_does_not_reply_times_out() -> None:
    with pytest.raises(Timeout, match="answering 'get'"):
        connection(FakeLine()).command("get", timeout=0.1)


# --- greeting ---------------------------------------------------------------------------------------------------------


def test_the_first_record_or_reply_greets() -> None:
    assert connection(FakeLine(b"boot noise\n", PACK)).greet(5).startswith('[{"bn"')
    assert "uptime" in connection(FakeLine(replies={"status": b'{"re":1,"ok":true,"value":{"uptime":1}}\n'})).greet(5)


def test_an_echo_at_the_prompt_is_no_greeting() -> None:
    echo = b">>> {\"cmd\":\"status\",\"id\":1}\r\n{'cmd': 'status', 'id': 1}\r\n>>> "
    assert connection(FakeLine(replies={"status": echo})).greet(5) == ""


def test_a_fallen_node_is_quoted() -> None:
    fall = (
        b'Traceback (most recent call last):\r\n  File "main.py", line 33, in <module>\r\n'
        b"OSError: [Errno 2] ENOENT\r\nMicroPython v1.29.0 on 2026-01-01; Pico\r\n"
        b'Type "help()" for more information.\r\n>>> '
    )
    node = connection(FakeLine(fall))
    assert node.greet(5) == ""
    assert node.last_words == "OSError: [Errno 2] ENOENT"


def test_an_error_in_the_log_is_quoted() -> None:
    log = b'{"log":"node","error":{"code":"node_file","what":"no driver bmp"}}\n'
    node = connection(FakeLine(log))
    assert node.greet(0.1) == ""
    assert node.last_words == "no driver bmp"
