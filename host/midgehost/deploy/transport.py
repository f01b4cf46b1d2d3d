"""Transports: one way to run code on a board, move files to and from it, and listen to what runs there.

`SerialTransport` stands on the real mpremote: raw REPL with raw-paste, as the reference of MicroPython's REPL
describes it. What it adds is a line with a deadline: mpremote waits between characters, so a board that prints for ever
holds it for ever; here every wait of an operation shares one deadline, and whatever ends it is a MidgeError.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, Self

from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport as MpremoteTransport

from midgehost.deploy.line import Line, open_line
from midgehost.errors import Full, HashMismatch, LineDropped, NotFound, RemoteError, Timeout

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)

CHUNK = 3072  # bytes that a put or get moves at once, a multiple of 3 as base64 wants it; halved four times at most
SMALLEST_CHUNK = 192
ENTER_TIMEOUT = 10.0  # s, to interrupt what runs and reach the raw REPL
RESET_TIMEOUT = 15.0  # s, for a board to come back on its port
_FIRST_TRY = 0.4  # s, for the first try of that
_CHUNK_TIMEOUT = 20.0  # s, for a chunk to arrive and be written
_VANISH_TIMEOUT = 1.0  # s, in which a board that resets says something, or its USB port vanishes

_NO_SPACE = re.compile(r"ENOSPC|OSError: (\[Errno )?28\b")  # ports differ in how they print it
_ACK, _EOT = b"\x06", b"\x04"
# What `put`, `get` and `sha256` need on the board; sent once a connection.
_AGENT = """
import os,sys,binascii,hashlib
def _midge_w(n,size):
 b=memoryview(bytearray(size))
 while n:
  m=b[:min(n,size)]
  i=0
  while i<len(m):i+=sys.stdin.buffer.readinto(m[i:])
  _midge_f.write(binascii.a2b_base64(m))
  n-=len(m)
  print('\\x06',end='')
def _midge_r(n):print(binascii.b2a_base64(_midge_f.read(n)).decode(),end='')
def _midge_d(p):
 i=p.find('/',1)
 while i>0:
  try:os.mkdir(p[:i])
  except OSError as e:
   if e.errno!=17:raise
  i=p.find('/',i+1)
def _midge_h(p):
 h=hashlib.sha256();b=bytearray(1024);m=memoryview(b)
 with open(p,'rb') as f:
  while 1:
   n=f.readinto(b)
   if not n:break
   h.update(m[:n])
 print(binascii.hexlify(h.digest()).decode())
"""


class Transport(Protocol):
    """A board that answers. Every method raises LineDropped, Timeout; `name` is the port as the user wrote it.

    `listens` is False where `read` and `write` are not offered: such a board runs code, but no node. Timeouts are the
    board's seconds, except that of `read`: a slow board (an emulator) takes `time_scale` times as long.
    """

    name: str
    listens: bool
    time_scale: float

    def exec(self, code: str, timeout: float | None = 10.0, on_output: Callable[[str], None] | None = None) -> str:
        """Runs code on the board and returns what it printed; `on_output` gets it line by line instead.

        Interrupts whatever runs. `timeout` (s) spans the whole call; None waits for ever. Raises RemoteError.
        """
        ...

    def put(self, path: str, data: bytes, progress: Progress | None = None) -> None:
        """Writes a file, its folders too, and verifies it by SHA-256 on the board. Raises Full, HashMismatch."""
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

    def close(self) -> None:
        """Leaves the board at its friendly prompt (or its program running) and frees the port."""
        ...


class _RawRepl(MpremoteTransport):  # type: ignore[misc] - mpremote has no types
    """mpremote's protocol on our line. Its own constructor opens the port, and loses why it could not."""

    def __init__(self, line: Line) -> None:
        self.serial = line
        self.in_raw_repl = False
        self.use_raw_paste = True
        self.mounted = False
        self.is_pty = True  # `read` waits on our line; the other way polls every 10 ms


class SerialTransport:
    """The transport over a serial port, a pty or any pyserial URL.

    `name` is how messages call the port when its path says little (`virtual`). Raises NotFound, Busy at once; the
    board itself is first spoken to by `exec` and what stands on it.
    """

    listens = True

    def __init__(self, path: str, name: str | None = None, time_scale: float = 1.0) -> None:
        self.path = path
        self.name = name or path
        self.time_scale = time_scale
        self._open()

    def _open(self) -> None:
        self._line = open_line(self.path, self.name, self.time_scale)
        self._repl: Any = _RawRepl(self._line)
        self._has_agent = False
        self._questions = 0

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
        """Interrupts what runs and enters the raw REPL. Tries again until the deadline: a board that boots is deaf."""
        if self._repl.in_raw_repl:
            return
        doing, end = "entering its raw REPL", time.monotonic() + ENTER_TIMEOUT * self.time_scale
        patience = _FIRST_TRY
        while True:
            try:
                with self._operation(doing, min(patience, max(0.1, end - time.monotonic()) / self.time_scale)):
                    self._repl.enter_raw_repl(soft_reset=False)
                    self._synchronise()
                break
            except Timeout:
                if time.monotonic() >= end:
                    raise Timeout(self.name, doing, ENTER_TIMEOUT) from None
                patience *= 2  # slow boards (an emulator) need longer than a board that boots is deaf
        self._repl.use_raw_paste = True

    def _synchronise(self) -> None:
        """Reads up to the answer to a question of our own: banners of earlier tries would be taken for answers."""
        self._questions += 1
        word = b"midge-%d" % self._questions
        self._line.write(b"print('%s')\x04" % word)
        self._repl.read_until(1, word)
        self._repl.read_until(1, b"\x04\x04")

    @contextlib.contextmanager
    def _operation(self, doing: str, timeout: float | None) -> Generator[None]:
        """One deadline over everything inside; mpremote's errors become ours. Ends in a known state or none."""
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

    # --- files ------------------------------------------------------------------------------------------------------

    def _load_agent(self) -> None:
        if not self._has_agent:
            self.exec(_AGENT)
            self._has_agent = True

    def put(self, path: str, data: bytes, progress: Progress | None = None) -> None:
        """Writes a file and verifies it, see `Transport.put`."""
        self._load_agent()
        try:
            self.exec(f"_midge_d({path!r})\n_midge_f=open({path!r},'wb')")
            self._send(data, progress)
            self.exec("_midge_f.close()", timeout=30)
        except RemoteError as error:
            with contextlib.suppress(RemoteError):
                self.exec("_midge_f.close()")
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
            done = int(self.exec("import gc\ngc.collect()\nprint(_midge_f.tell())"))

    def _stream(self, data: bytes, done: int, chunk: int, progress: Progress | None) -> None:
        """`data` from `done` on to the board's stdin as base64. The board acknowledges a chunk when it is written, so
        none comes while its interrupts are off; and base64 has no Ctrl-C."""
        error = b""
        with self._operation("sending a file", _CHUNK_TIMEOUT):
            length = 4 * -(-(len(data) - done) // 3)
            self._repl.exec_raw_no_follow(f"_midge_w({length},{4 * chunk // 3})")
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
        self._load_agent()
        size = int(self.exec(f"_midge_f=open({path!r},'rb')\nprint(os.stat({path!r})[6])"))
        data = bytearray()
        while True:
            chunk = binascii.a2b_base64(self.exec(f"_midge_r({CHUNK})"))
            if not chunk:
                break
            data += chunk
            if progress:
                progress(len(data), size)
        self.exec("_midge_f.close()")
        if self.sha256(path) != hashlib.sha256(data).hexdigest():
            raise HashMismatch(path)
        return bytes(data)

    def sha256(self, path: str) -> str:
        """The board's own digest of a file, see `Transport.sha256`."""
        self._load_agent()
        return self.exec(f"_midge_h({path!r})", timeout=60).strip()

    def remove(self, path: str) -> None:
        """Removes a file, see `Transport.remove`."""
        self.exec(f"import os\nos.remove({path!r})")

    def free_bytes(self, path: str = "/") -> int:
        """Free bytes of a file system, see `Transport.free_bytes`."""
        return int(self.exec(f"import os\n_s=os.statvfs({path!r})\nprint(_s[0]*_s[3])"))

    # --- the running program ----------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Soft reset into the raw REPL, see `Transport.restart`."""
        with self._operation("restarting", RESET_TIMEOUT):
            self._repl.enter_raw_repl(soft_reset=True)
            self._synchronise()
        self._repl.use_raw_paste = True
        self._has_agent = False

    def reset(self) -> None:
        """Hard reset, see `Transport.reset`. A native USB port vanishes with it and is opened anew."""
        self._enter()
        with self._operation("resetting", 10.0):
            self._repl.exec_raw_no_follow("import machine\nmachine.reset()")
        self._repl.in_raw_repl = self._has_agent = False
        self._line.forget()
        try:
            self._line.wait(_VANISH_TIMEOUT * self.time_scale)
        except LineDropped:
            self.reopen(RESET_TIMEOUT)

    def reopen(self, timeout: float) -> None:
        """Closes the port and opens it again, trying until `timeout` (s) has passed. Raises NotFound, Busy."""
        end = time.monotonic() + timeout * self.time_scale
        self._line.close()
        while True:
            try:
                return self._open()
            except NotFound:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.1)

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

    def close(self) -> None:
        """Frees the port, see `Transport.close`. Never raises: the line may be gone."""
        with contextlib.suppress(LineDropped, Timeout):
            self._leave()
        self._line.close()


def _by_line(on_output: Callable[[str], None]) -> Callable[[bytes], None]:
    """mpremote hands over single bytes, the closing 0x04 included; people want lines."""
    held = bytearray()

    def consume(byte: bytes) -> None:
        if byte != b"\x04":
            held.extend(byte)
        if held and byte in (b"\n", b"\x04"):
            on_output(held.decode(errors="replace").replace("\r\n", "\n"))
            held.clear()

    return consume
