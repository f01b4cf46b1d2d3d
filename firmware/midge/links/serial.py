# A link over the board's own console: SenML packs, replies and logs out, commands in, one JSON text a line.
# Whatever else is on the line (a user's print, half a line after a reset, noise) is counted and stepped over.

import json
import select
import sys
from collections import deque

from micropython import const
from midge.errors import MidgeError, describe
from midge.records import Packer, to_json

_LINE = const(512)  # bytes of a command at most
_CHUNK = const(128)  # bytes written at a time: what a USB or pty buffer that is ready surely takes
_CHUNKS = const(8)  # ... and so often in one poll
_READ = const(256)  # bytes read in one poll at most
_PACK = const(12)  # records in one line at most
_URGENT = const(32)  # replies and alerts that wait at most
_NEWLINE = const(10)


class Console:
    # stdin and stdout of the REPL in the terms of machine.UART, which serves as a link's stream just as well.

    def __init__(self):
        self._in = sys.stdin.buffer
        self._out = sys.stdout.buffer
        self._readable = select.poll()
        self._readable.register(sys.stdin, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(sys.stdout, select.POLLOUT)

    def any(self):
        # One byte at most: a board's stdin waits for as many as it is asked for.
        for _, event in self._readable.ipoll(0):
            return 1 if event & select.POLLIN else 0
        return 0

    def readinto(self, buf):
        return self._in.readinto(buf)

    def txdone(self):
        for _, event in self._writable.ipoll(0):
            return bool(event & select.POLLOUT)
        return False

    def write(self, data):
        return self._out.write(data)


class SerialLink:
    # name: the node's, in front of every record's name.
    # queue: records that wait at most; the oldest pack gives way to a new one, counted in `lost`. Replies, and records
    #     sent as urgent, wait apart and go first.
    # stream_in, stream_out: as machine.UART (any, readinto; txdone, write); default the console.

    def __init__(self, queue=256, stream_in=None, stream_out=None, name=""):
        console = Console() if stream_in is None or stream_out is None else None
        self._in = stream_in or console
        self._out = stream_out or console
        self.packer = Packer(name + "/" if name else "")
        self.lost = 0  # records that gave way
        self.bad_lines = 0  # lines from the host that were no command
        self._room = queue
        self._queue = deque((), queue)  # (records, line)
        self._queued = 0
        self._urgent = deque((), _URGENT)
        self._sending = None  # the line on its way, and how much of it is out
        self._sent = 0
        self._byte = bytearray(1)
        self._line = bytearray(_LINE)
        self._length = 0  # bytes of _line; _LINE + 1 once it is overlong
        self._callback = None

    def on_command(self, callback):
        # callback(command) gets the dict, returns the reply's value or raises.
        self._callback = callback

    def send(self, records, urgent=False):
        for start in range(0, len(records), _PACK):
            some = records[start : start + _PACK]
            line = self.packer.pack(some)
            if not line:
                continue
            if urgent:
                self._send_first(line, len(some))
                continue
            self._queued += len(some)
            while self._queued > self._room and self._queue:
                self._drop(self._queue.popleft()[0])
            if self._queued > self._room:
                self._drop(len(some))  # more than the whole queue holds
            else:
                self._queue.append((len(some), line + "\n"))

    def log(self, text, error=None):
        # A line for people; with an exception, its code and words.
        line = {"log": text}
        if error is not None:
            line["error"] = describe(error)
        self._send_first(to_json(line), 0)

    def poll(self):
        # Takes the bytes that have come, answers commands, writes some of what waits. Never waits itself.
        self._receive()
        self._transmit()

    def idle(self):
        # Whether nothing waits to be written.
        return not (self._sending or self._queue or self._urgent)

    def _drop(self, count):
        self._queued -= count
        self.lost += count

    def _send_first(self, line, count):
        if len(self._urgent) == _URGENT:
            self.lost += self._urgent.popleft()[0]
        self._urgent.append((count, line + "\n"))

    def _transmit(self):
        for _ in range(_CHUNKS):
            if self._sending is None and not self._next_line():
                return
            if not self._out.txdone():
                return
            written = self._out.write(self._sending[self._sent : self._sent + _CHUNK])
            self._sent += written or 0
            if self._sent >= len(self._sending):
                self._sending = None

    def _next_line(self):
        if self._urgent:
            _, line = self._urgent.popleft()
        elif self._queue:
            count, line = self._queue.popleft()
            self._queued -= count
        else:
            return False
        self._sending = memoryview(line.encode())
        self._sent = 0
        return True

    def _receive(self):
        for _ in range(_READ):
            if not self._in.any() or not self._in.readinto(self._byte):
                return
            byte = self._byte[0]
            if byte == _NEWLINE or byte == 13:
                self._take_line()
            elif self._length < _LINE:
                self._line[self._length] = byte
                self._length += 1
            else:
                self._length = _LINE + 1

    def _take_line(self):
        length, self._length = self._length, 0
        if length == 0:
            return
        if length > _LINE:
            self._refuse(MidgeError("link.line_too_long", "a command has %d bytes at most" % _LINE))
            return
        if self._line[0] != 0x7B:  # not even "{": echo, noise, a person at the keyboard
            self.bad_lines += 1
            return
        try:
            command = json.loads(bytes(memoryview(self._line)[:length]))
        except ValueError:
            self._refuse(MidgeError("link.bad_line", "not a line of JSON"))
            return
        if isinstance(command, dict) and isinstance(command.get("cmd"), str):
            self._answer(command)
        else:
            self._refuse(MidgeError("link.bad_command", 'a command has the key "cmd"'))

    def _answer(self, command):
        reply = {"re": command.get("id")}
        try:
            if self._callback is None:
                raise MidgeError("link.bad_command", "this node takes no commands")
            reply["value"] = self._callback(command)
            reply["ok"] = True
        except Exception as error:  # a command may fail, the node goes on
            reply["error"] = describe(error)
        self._send_first(to_json(reply), 0)

    def _refuse(self, error):
        self.bad_lines += 1
        self._send_first(to_json({"re": None, "error": describe(error)}), 0)
