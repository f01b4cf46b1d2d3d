"""Transports: one way to run code on a board, move files to and from it, and listen to what runs there.

`SerialTransport` stands on the real mpremote (`deploy/repl.py`): raw REPL with raw-paste, as the reference of
MicroPython's REPL describes it. Every wait of an operation shares one deadline (`deploy/line.py`), and whatever ends it
is a MidgeError. What an operation leaves running on the board when it is broken off, by its deadline or by Ctrl-C here,
is stopped there too.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Generator
from typing import Protocol, Self

from mpremote.transport import TransportError

from midgehost import ports
from midgehost.deploy.line import Line, open_line
from midgehost.deploy.progress import Progress
from midgehost.deploy.repl import RawRepl
from midgehost.errors import (
    BoardError,
    Busy,
    Full,
    HashMismatch,
    LineDropped,
    LinkError,
    NotFound,
    RemoteError,
    Timeout,
)

CHUNK = 3072  # bytes that a put or get moves at once, a multiple of 3 as base64 wants it; halved four times at most
SMALLEST_CHUNK = 192
ENTER_TIMEOUT = 10.0  # s, to interrupt what runs and reach the raw REPL
RESET_TIMEOUT = 15.0  # s, for a board to come back on its port
_TRY = 0.4  # s, for one try of that; a slow or booting board gets to it later
_FIRST_BURST = 0.2  # s of Ctrl-C's before the second try; then twice as long each time
_LONGEST_BURST = 1.6
_BOOT_BURST = 2.5  # s, after a hardware reset
_ANSWER_TIMEOUT = 10.0  # s, for a small step of a file's transfer
_HASH_TIMEOUT = 60.0  # s, for the board to read a file and hash it
_CHUNK_TIMEOUT = 20.0  # s, for a chunk to arrive and be written
_FILE_TIMEOUT = 30.0  # s, for a file, and a second more for each of so many bytes:
_SLOWEST = 1000
_VANISH_TIMEOUT = 1.0  # s, in which a board that resets says something, or its USB port vanishes
_USB_VANISH_TIMEOUT = 3.0  # s, in which a port that is known to vanish does so
_STOP_TIMEOUT = 0.5  # s, to send the Ctrl-C that ends what was broken off

_NO_SPACE = re.compile(r"ENOSPC|OSError: (\[Errno )?28\b")  # ports differ in how they print it
_ANSWER = re.compile(r"\x02(.*?)\x03", re.S)
_ACK, _EOT = b"\x06", b"\x04"
# What `put`, `get` and `sha256` need on the board; sent once a connection. It has a namespace of its own, `_midge`: the
# user's program may have given any name of it another meaning. Answers are framed: a timer may print beside them.
_AGENT = """
import gc,os,sys,binascii,hashlib
def folders(p):
 i=p.find('/',1)
 while i>0:
  try:os.mkdir(p[:i])
  except OSError as e:
   if e.errno!=17:raise
  i=p.find('/',i+1)
def create(p):
 global f
 folders(p)
 f=open(p,'wb')
def write(n,size):
 b=memoryview(bytearray(size))
 while n:
  m=b[:min(n,size)]
  i=0
  while i<len(m):i+=sys.stdin.buffer.readinto(m[i:])
  f.write(binascii.a2b_base64(m))
  n-=len(m)
  print('\x06',end='')
def say(x):print('\x02'+str(x)+'\x03')
def tell():
 gc.collect()
 say(f.tell())
def close():f.close()
def discard(p):
 try:f.close()
 except OSError:pass
 os.remove(p)
def load(p):
 global f
 f=open(p,'rb')
 say(os.stat(p)[6])
def read(n):say(binascii.b2a_base64(f.read(n)).decode())
def digest(p):
 h=hashlib.sha256();b=bytearray(1024);m=memoryview(b)
 with open(p,'rb') as f:
  while 1:
   n=f.readinto(b)
   if not n:break
   h.update(m[:n])
 say(binascii.hexlify(h.digest()).decode())
def remove(p):os.remove(p)
def free(p):
 s=os.statvfs(p)
 say(s[0]*s[3])
"""


class NoRepl(Timeout):
    """The board did not come to its REPL. `talks`: a program ran on that Ctrl-C does not stop; else nobody answered."""

    code = "board.no_repl"

    def __init__(self, port: str, seconds: float, talks: bool) -> None:
        super().__init__(port, "entering its raw REPL", seconds)
        self.talks = talks
        why = "Its program goes on and is not stopped by Ctrl-C." if talks else "It says nothing."
        do = "Press the board's reset button while you run this again; `midge flash --erase` takes its program away."
        BoardError.__init__(self, f"{self.what} {why}", do)


class Garbled(LinkError):
    """What came back was no answer: the line, or something on the board, put other bytes among it."""

    code = "link.garbled"

    def __init__(self, port: str, doing: str) -> None:
        super().__init__(f"{port} answered {doing} unreadably.", "Run this again; then change the cable.")


class Transport(Protocol):
    """A board that answers. Every method raises LineDropped, Timeout; `name` is the port as the user wrote it.

    Timeouts are the board's seconds, except that of `read`: a slow board (an emulator) takes `time_scale` times as
    long.
    """

    name: str
    time_scale: float

    def exec(self, code: str, timeout: float | None = 10.0, on_output: Callable[[str], None] | None = None) -> str:
        """Runs code on the board and returns what it printed; `on_output` gets it line by line instead.

        Interrupts whatever runs, in ENTER_TIMEOUT at most (NoRepl). `timeout` (s) spans all the rest; None waits for
        ever. Raises RemoteError.
        """
        ...

    def put(self, path: str, data: bytes, progress: Progress | None = None) -> None:
        """Writes a file, its folders too, and verifies it by SHA-256 on the board. A file that the board could not
        write whole is removed. Raises Full, HashMismatch."""
        ...

    def get(self, path: str, progress: Progress | None = None) -> bytes:
        """A file's bytes, verified like `put`. Raises RemoteError (ENOENT), HashMismatch."""
        ...

    def sha256(self, path: str) -> str:
        """The hex digest of a file, computed by the board. Raises RemoteError (ENOENT)."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file. Raises RemoteError (ENOENT)."""
        ...

    def free_bytes(self, path: str = "/") -> int:
        """Free bytes of the file system that holds `path`."""
        ...

    def restart(self) -> None:
        """Soft reset into the raw REPL: a clean heap, boot.py runs, main.py does not."""
        ...

    def reset(self) -> None:
        """Hard reset; returns when the port answers again. boot.py and main.py run; `read` hears them."""
        ...

    def read(self, timeout: float) -> bytes:
        """What the running program has said, at least one byte; b"" after `timeout` seconds of silence."""
        ...

    def write(self, data: bytes) -> None:
        """Bytes for the running program's stdin."""
        ...

    def come_back(self) -> None:
        """Opens the line again that a reset of the board's own has taken away. Raises LineDropped, NotFound, Busy."""
        ...

    def close(self) -> None:
        """Leaves the board at its friendly prompt (or its program running) and frees the port."""
        ...


class SerialTransport:
    """The transport over a serial port, a pty or any pyserial URL.

    `name` is how messages call the port when its path says little (`virtual`). Raises NotFound, Busy at once; the
    board itself is first spoken to by `exec` and what stands on it. `listing` tells what is plugged in: a board that
    resets may come back as another port, and is found again by its USB serial number. `enter_timeout` (s) is for
    reaching the REPL, ENTER_TIMEOUT by default.
    """

    def __init__(
        self,
        path: str,
        name: str | None = None,
        time_scale: float = 1.0,
        listing: Callable[[], list[ports.Port]] = ports.plugged_in,
        enter_timeout: float | None = None,
    ) -> None:
        self.path = path
        self.name = name or path
        self.time_scale = time_scale
        self._listing = listing
        self._enter_timeout = enter_timeout or ENTER_TIMEOUT
        self._port = ports.find(path, listing())
        self._open()

    def _open(self) -> None:
        self._line: Line = open_line(self.path, self.name, self.time_scale)
        self._repl = RawRepl(self._line)
        self._disturbed = False  # something was broken off, and the REPL is in whatever mode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- running code -----------------------------------------------------------------------------------------------

    def exec(self, code: str, timeout: float | None = 10.0, on_output: Callable[[str], None] | None = None) -> str:
        """Runs code on the board, see `Transport.exec`."""
        self._enter()
        with self._operation("running code", timeout):
            self._repl.exec_raw_no_follow(code)
            output, error = self._repl.follow(None, _by_line(on_output) if on_output else None)
        if error:
            raise RemoteError(self.name, error.decode(errors="replace"))
        return "" if on_output else output.decode(errors="replace").replace("\r\n", "\n")

    def _enter(self) -> None:
        """Interrupts what runs and enters the raw REPL. Tries again until the deadline: a board that boots is deaf, a
        program may catch what interrupts it."""
        if self._repl.in_raw_repl:
            return
        end = time.monotonic() + self._enter_timeout * self.time_scale
        burst, heard, may_pulse = 0.0, False, True
        with self._line.within(self._enter_timeout):
            while True:
                try:
                    self._try_to_enter(burst)
                    break
                except LineDropped:
                    self.come_back()
                except Timeout:
                    heard = heard or self._line.received > 0
                left = (end - time.monotonic()) / self.time_scale
                if left <= 0:
                    raise NoRepl(self.name, self._enter_timeout, heard)
                burst = max(0.0, min(max(_FIRST_BURST, 2 * burst), _LONGEST_BURST, left - _TRY))
                if may_pulse and left < max(self._enter_timeout / 2, _BOOT_BURST + 3 * _TRY):
                    may_pulse = False
                    if self._reset_by_line(left - 2 * _TRY):
                        burst = 0.0

    def _try_to_enter(self, burst: float) -> None:
        with self._operation("entering its raw REPL", burst + _TRY, stop=False):
            self._repl.interrupt(burst * self.time_scale)
            self._repl.enter()
        if self._repl.is_chatty():
            with self._operation("restarting", RESET_TIMEOUT, stop=False):
                self._repl.soft_reset()
        self._disturbed = False

    def _reset_by_line(self, left: float) -> bool:
        """What is left where Ctrl-C does not help: a reset by DTR and RTS, if the port leads to such a circuit, and
        Ctrl-C while the board boots."""
        if not ports.has_reset_lines(self.path, self._port):
            return False
        with contextlib.suppress(Timeout, LineDropped), self._operation("resetting", left, stop=False):
            if self._line.pulse_reset():
                self._repl.interrupt(min(_BOOT_BURST, max(0.0, left - 1)) * self.time_scale)
                return True
        return False

    def come_back(self) -> None:
        """See `Transport.come_back`; LineDropped where the board could not be told from another one."""
        if not (self._port and self._port.serial_number):
            raise LineDropped(self.name, "waiting for it to come back")
        self.reopen(_USB_VANISH_TIMEOUT)

    @contextlib.contextmanager
    def _operation(self, doing: str, timeout: float | None, *, stop: bool = True) -> Generator[None]:
        """One deadline over everything inside; mpremote's errors become ours. Ends in a known state or none; with
        `stop`, what is broken off does not run on."""
        self._line.begin(doing, timeout)
        finished = False
        try:
            yield
            finished = True
        except (TransportError, ValueError, IndexError) as error:
            raise Timeout(self.name, f"{doing} ({error})", timeout or 0) from None
        finally:
            if not finished:
                self._repl.in_raw_repl = False
                self._disturbed = True
                if stop:
                    self._stop()

    def _stop(self) -> None:
        with contextlib.suppress(LineDropped, Timeout):
            self._line.begin("stopping", _STOP_TIMEOUT, last=True)
            self._line.write(b"\x03")

    # --- files ------------------------------------------------------------------------------------------------------

    def _call(self, function: str, *arguments: object, timeout: float = 0) -> str:
        """Calls a function of the agent and returns what it says; the board gets the agent when it has none yet."""
        name, listed = _agent_name(), ",".join(map(repr, arguments))
        try:
            output = self.exec(f"{name}[{function!r}]({listed})", timeout or _ANSWER_TIMEOUT)
            answer = _ANSWER.search(output)
            return answer[1] if answer else ""
        except RemoteError as error:
            if f"'{name}'" not in error.traceback:
                raise
        self.exec(f"import builtins as {name}\n{name}={{'b':{name}}}\n{name}['b'].exec({_AGENT!r},{name})")
        return self._call(function, *arguments, timeout=timeout)

    def _number(self, function: str, *arguments: object) -> int:
        """Like `_call`, for a number. Raises Garbled."""
        answer = self._call(function, *arguments)
        if not answer.isdigit():
            raise Garbled(self.name, f"{function}{arguments}")
        return int(answer)

    def put(self, path: str, data: bytes, progress: Progress | None = None) -> None:
        """Writes a file and verifies it, see `Transport.put`."""
        with self._line.within(_FILE_TIMEOUT + ENTER_TIMEOUT + len(data) / _SLOWEST):
            try:
                self._call("create", path)
                self._send(data, progress)
                self._call("close", timeout=30)
            except RemoteError as error:
                with contextlib.suppress(RemoteError):
                    self._call("discard", path, timeout=30)
                if _NO_SPACE.search(error.traceback):
                    raise Full(len(data), self.free_bytes()) from None
                raise
            if self.sha256(path) != hashlib.sha256(data).hexdigest():
                raise HashMismatch(path)

    def _send(self, data: bytes, progress: Progress | None) -> None:
        """All of it; a heap too small for a chunk gets smaller ones, from where the board says it is."""
        done, chunk = 0, CHUNK
        while done < len(data):
            try:
                self._stream(data, done, chunk, progress)
                return
            except RemoteError as error:
                if "MemoryError" not in error.traceback or chunk <= SMALLEST_CHUNK:
                    raise
            chunk //= 2
            done = self._number("tell")

    def _stream(self, data: bytes, done: int, chunk: int, progress: Progress | None) -> None:
        """`data` from `done` on to the board's stdin as base64. The board acknowledges a chunk when it is written, so
        none comes while its interrupts are off; and base64 has no Ctrl-C."""
        error = b""
        with self._operation("sending a file", _CHUNK_TIMEOUT):
            length = 4 * -(-(len(data) - done) // 3)
            self._repl.exec_raw_no_follow(f"{_agent_name()}['write']({length},{4 * chunk // 3})")
            for at in range(done, len(data), chunk):
                self._line.begin("sending a file", _CHUNK_TIMEOUT)
                self._line.write(binascii.b2a_base64(data[at : at + chunk], newline=False))
                if not self._acknowledged():
                    error = self._repl.read_until(1, _EOT)[:-1]
                    break
                if progress:
                    progress(min(at + chunk, len(data)), len(data))
            else:
                self._repl.follow(None)
        if error:
            raise RemoteError(self.name, error.decode(errors="replace"))

    def _acknowledged(self) -> bool:
        """Whether the board has taken a chunk; False when its code has ended. What a timer prints is passed over."""
        while True:
            byte = self._line.read(1)
            if byte in (_ACK, _EOT):
                return byte == _ACK

    def get(self, path: str, progress: Progress | None = None) -> bytes:
        """A file's bytes, see `Transport.get`."""
        size = self._number("load", path)
        data = bytearray()
        with self._line.within(_FILE_TIMEOUT + size / _SLOWEST):
            while chunk := self._part():
                data += chunk
                if progress:
                    progress(len(data), size)
            self._call("close")
            if self.sha256(path) != hashlib.sha256(data).hexdigest():
                raise HashMismatch(path)
        return bytes(data)

    def _part(self) -> bytes:
        try:
            return binascii.a2b_base64(self._call("read", CHUNK))
        except ValueError:
            raise Garbled(self.name, "read") from None

    def sha256(self, path: str) -> str:
        """The board's own digest of a file, see `Transport.sha256`."""
        return self._call("digest", path, timeout=_HASH_TIMEOUT)

    def remove(self, path: str) -> None:
        """Removes a file, see `Transport.remove`."""
        self._call("remove", path)

    def free_bytes(self, path: str = "/") -> int:
        """Free bytes of a file system, see `Transport.free_bytes`."""
        return self._number("free", path)

    # --- the running program ----------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Soft reset into the raw REPL, see `Transport.restart`."""
        self._enter()
        with self._operation("restarting", RESET_TIMEOUT):
            self._repl.soft_reset()

    def reset(self) -> None:
        """Hard reset, see `Transport.reset`. A native USB port vanishes with it and is opened anew."""
        self._enter()
        vanishes = self._port is not None and self._port.vanishes
        try:
            with self._operation("resetting", 10.0):
                self._repl.exec_raw_no_follow("import machine\nmachine.reset()")
        except LineDropped:
            if not vanishes:
                raise
        self._repl.in_raw_repl = self._disturbed = False
        self._line.forget()
        try:
            if vanishes:
                self._line.gather(_USB_VANISH_TIMEOUT * self.time_scale)
            else:
                self._line.wait(_VANISH_TIMEOUT * self.time_scale)
        except LineDropped:
            self.reopen(RESET_TIMEOUT)

    def reopen(self, timeout: float) -> None:
        """Closes the port and opens it again, trying until `timeout` (s) has passed; a board with a USB serial number
        is looked for under every name. Raises NotFound, Busy."""
        end = time.monotonic() + timeout * self.time_scale
        self._line.close()
        while True:
            try:
                self.path = self._present_path()
                return self._open()
            except (NotFound, Busy):  # udev gives the right to open a new port a moment after its name
                if time.monotonic() >= end:
                    raise
                time.sleep(0.1)

    def _present_path(self) -> str:
        if not (self._port and self._port.serial_number):
            return self.path
        for port in self._listing():
            if port.same_board(self._port):
                return port.path
        raise NotFound(f"{self.name} has not come back.", "Plug it in again, or press its reset button.")

    def read(self, timeout: float) -> bytes:
        """What the running program says, see `Transport.read`."""
        self._leave()
        return self._line.read_available(timeout)

    def write(self, data: bytes) -> None:
        """Bytes for the running program, see `Transport.write`."""
        self._leave()
        self._line.begin("writing", 5.0)
        self._line.write(data)

    def _leave(self) -> None:
        """Back to the friendly prompt, where what is read and written is the program's."""
        if self._repl.in_raw_repl:
            with self._operation("leaving its raw REPL", 2.0):
                self._repl.exit_raw_repl()
        elif self._disturbed:
            self._disturbed = False
            self._line.begin("leaving its raw REPL", _STOP_TIMEOUT)
            self._line.write(b"\r\x03\x02")

    def close(self) -> None:
        """Frees the port, see `Transport.close`. Never raises: the line may be gone."""
        with contextlib.suppress(LineDropped, Timeout):
            self._leave()
        self._line.close()


def _agent_name() -> str:
    """The agent's global on the board; another version of midge has another one."""
    return f"_midge_{binascii.crc32(_AGENT.encode()):08x}"


def _by_line(on_output: Callable[[str], None]) -> Callable[[bytes], None]:
    """mpremote hands over what comes in pieces, the last of which ends in 0x04; people want lines."""
    held = bytearray()

    def consume(piece: bytes) -> None:
        nonlocal held
        ended = piece.endswith(_EOT)
        held += piece.removesuffix(_EOT)
        *lines, held = held.split(b"\n")
        for line in [line + b"\n" for line in lines] + ([held] if ended and held else []):
            on_output(line.decode(errors="replace").replace("\r\n", "\n"))

    return consume
