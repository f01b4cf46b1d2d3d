# midge: device
# The serial link over a stream that the test holds both ends of.
import json

from midge.errors import MidgeError
from midge.links.serial import SerialLink
from midge.records import record


class Stream:
    # The terms of machine.UART. `room`: bytes it takes before it is busy.
    def __init__(self):
        self.incoming = b""
        self.at = 0  # how much of it was read
        self.out = b""
        self.writes = []
        self.room = 1000000
        self.takes = 1000000  # bytes of one write

    def any(self):
        return len(self.incoming) - self.at

    def readinto(self, buf):
        n = min(len(buf), self.any())
        buf[:n] = self.incoming[self.at : self.at + n]
        self.at += n
        return n

    def txdone(self):
        return self.room > 0

    def write(self, data):
        data = bytes(data[: self.takes])
        self.writes.append(len(data))
        self.out += data
        self.room -= len(data)
        return len(data)


def make(queue=256, name=""):
    stream = Stream()
    return SerialLink(queue, stream, stream, name), stream


def lines(link, stream):
    # Everything that comes out until the link is idle.
    for _ in range(200):
        link.poll()
        if link.idle() and not stream.any():
            break
    found, stream.out = stream.out, b""
    assert not found or found.endswith(b"\n")
    return [json.loads(line) for line in found.split(b"\n")[:-1]]


def numbered(first, last):
    return [record("x", n, 1000) for n in range(first, last)]


def values(packs):
    return [r["v"] for pack in packs for r in pack]


def ask(link, stream, text):
    stream.incoming, stream.at = stream.incoming[stream.at :] + text, 0
    return lines(link, stream)


def test_records_come_out_as_one_line():
    link, stream = make(name="fan-3")
    link.send([record("accel.x", 0.25, 1795508367038, "g"), record("z.alarm", True, 1795508367058)])
    assert stream.out == b""  # send only queues
    link.poll()
    assert stream.out == (
        b'[{"bn":"fan-3/","bt":1795508367.038,"n":"accel.x","u":"g","v":0.25},{"n":"z.alarm","vb":true,"t":0.020}]\n'
    ), stream.out
    assert link.idle()


def test_long_packs_are_split():
    link, stream = make()
    link.send(numbered(0, 50))
    packs = lines(link, stream)
    assert len(packs) > 1
    assert values(packs) == list(range(50))


def test_output_goes_in_small_pieces():
    link, stream = make()
    link.send([record("x", "y" * 3000, 1000)])
    link.poll()
    assert max(stream.writes) <= 128
    assert sum(stream.writes) <= 1024  # one poll does not write it all
    assert len(lines(link, stream)) == 1


def test_a_busy_stream_is_not_waited_for():
    link, stream = make()
    stream.room = 0
    link.send(numbered(0, 3))
    link.poll()
    assert stream.out == b"" and not link.idle()
    stream.room = 1
    link.poll()
    assert len(stream.writes) == 1
    stream.room, stream.takes = 1000000, 7
    assert values(lines(link, stream)) == [0, 1, 2]


def test_the_oldest_gives_way():
    link, stream = make(queue=5)
    for n in range(9):
        link.send(numbered(n, n + 1))
    assert link.lost == 4
    assert values(lines(link, stream)) == [4, 5, 6, 7, 8]
    link.send(numbered(0, 3))
    link.send(numbered(3, 6))
    assert link.lost == 7
    assert values(lines(link, stream)) == [3, 4, 5]


def test_more_at_once_than_the_queue_holds():
    link, stream = make(queue=5)
    link.send(numbered(0, 7))
    assert link.lost == 7 and link.idle()
    link.send(numbered(0, 5))
    assert values(lines(link, stream)) == [0, 1, 2, 3, 4]


def test_urgent_records_overtake_and_stay():
    link, stream = make(queue=2)
    link.send(numbered(0, 2))
    link.send([record("alert", "now", 1000)], urgent=True)
    link.send(numbered(2, 4))
    found = lines(link, stream)
    assert found[0][0]["vs"] == "now"
    assert values(found[1:]) == [2, 3]


def test_what_json_has_not_is_not_sent():
    link, stream = make()
    link.send([record("x", float("nan"), 0), record("x", float("inf"), 0)])
    assert link.idle() and link.packer.dropped == 2


def test_a_line_for_people():
    link, stream = make()
    link.log("net", MidgeError("model.bad_bundle", "cut short"))
    link.log('said "é"')
    assert lines(link, stream) == [
        {"log": "net", "error": {"code": "model.bad_bundle", "what": "cut short"}},
        {"log": 'said "é"'},
    ]


def test_commands_are_answered():
    link, stream = make()
    assert ask(link, stream, b'{"cmd":"get","id":1}\n')[0]["error"]["code"] == "link.bad_command"
    seen = []

    def callback(command):
        seen.append(command)
        if command["cmd"] == "get":
            return {"z.threshold": 3.5, "none": None}
        if command["cmd"] == "set":
            raise MidgeError("link.bad_value", "too big")
        raise KeyError("name")

    link.on_command(callback)
    assert ask(link, stream, b'{"cmd":"get","id":7}\r\n') == [
        {"re": 7, "ok": True, "value": {"z.threshold": 3.5, "none": None}}
    ]
    assert ask(link, stream, b'{"cmd":"set","name":"a","value":1,"id":"s"}\n') == [
        {"re": "s", "error": {"code": "link.bad_value", "what": "too big"}}
    ]
    (reply,) = ask(link, stream, b'{"cmd":"x"}\n')
    assert reply["re"] is None and reply["error"]["code"] == "board.exception"
    assert seen[1] == {"cmd": "set", "name": "a", "value": 1, "id": "s"}
    assert link.bad_lines == 0


def test_a_command_in_pieces():
    link, stream = make()
    link.on_command(lambda command: command["value"])
    text = b'{"cmd":"set","value":[1,2],"id":1}\n'
    for i in range(len(text) - 1):
        assert ask(link, stream, text[i : i + 1]) == []
    assert ask(link, stream, text[-1:])[0]["value"] == [1, 2]


def test_garbage_is_counted_and_stepped_over():
    link, stream = make()
    link.on_command(lambda command: command["id"])
    for text, code in (
        (b"hello\n", None),
        (b"\x00\xff\x80\n", None),
        (b"[1,2]\n", None),
        (b'{"cmd":\n', "link.bad_line"),
        (b'{"cmd":"get"} x\n', "link.bad_line"),
        (b"{\xff\xfe}\n", "link.bad_line"),
        (b"{}\n", "link.bad_command"),
        (b'{"cmd":3}\n', "link.bad_command"),
        (b'{"' + b"x" * 600 + b'":1}\n', "link.line_too_long"),
        (b"x" * 600 + b"\n", "link.line_too_long"),
    ):
        before = link.bad_lines
        found = ask(link, stream, text)
        assert link.bad_lines == before + 1, text
        assert [reply["error"]["code"] for reply in found] == ([code] if code else []), (text, found)
        assert ask(link, stream, b'{"cmd":"get","id":5}\n')[0]["value"] == 5
    assert ask(link, stream, b"\n\r\n\r\r\n") == []
    assert link.bad_lines == 10


def test_the_longest_command():
    link, stream = make()
    link.on_command(lambda command: len(command["value"]))
    room = 512 - len(b'{"cmd":"set","value":""}')
    for extra, good in ((0, True), (1, False)):
        (reply,) = ask(link, stream, b'{"cmd":"set","value":"' + b"y" * (room + extra) + b'"}\n')
        assert reply.get("ok", False) == good, reply


def test_a_flood_of_input_leaves_time_for_the_rest():
    link, stream = make()
    stream.incoming = b"x" * 1000
    link.poll()
    assert stream.any() == 1000 - 256
    assert ask(link, stream, b"\n")[0]["error"]["code"] == "link.line_too_long"


def test_replies_that_nobody_reads_do_not_fill_the_heap():
    link, stream = make()
    stream.room = 0
    stream.incoming = b"{}\n" * 100
    while stream.any():
        link.poll()
    assert link.bad_lines == 100
    stream.room = 1000000
    assert len(lines(link, stream)) <= 33  # one that had begun, and those that wait


def test_the_boards_own_console():
    import time

    link = SerialLink(name="console")
    link.send([record("x", 1.5, 1000)])
    start = time.ticks_ms()
    while not link.idle():
        assert time.ticks_diff(time.ticks_ms(), start) < 2000
        link.poll()
    assert link.bad_lines == 0
