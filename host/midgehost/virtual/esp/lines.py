"""How a client reaches a virtual ESP32: a Unix socket for `vboard://`, with DTR, RTS and baud, or a plain pty.

Both hand out events and take bytes, and never block: what a client does not read is kept up to a limit, then lost.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import struct
import time
import tty
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from midgehost.errors import BoardError, Busy
from midgehost.virtual.esp.environment.midge_vboard import socket_path

_BACKLOG_BYTES = 1 << 18
_LARGEST_FRAME = 1 << 16


@dataclass(frozen=True)
class Data:
    content: bytes


@dataclass(frozen=True)
class Lines:
    """DTR and RTS, True where asserted, at a time of time.monotonic()."""

    at: float
    dtr: bool
    rts: bool


@dataclass(frozen=True)
class Baud:
    rate: int


class NameTaken(Busy):
    """Another virtual board of this user has the name."""


Event = Data | Lines | Baud


class Line(Protocol):
    """One board's line."""

    url: str  # what a client opens

    def waits_for(self) -> list[tuple[int, int]]:
        """What to poll: descriptors, and events of select.poll."""
        ...

    def receive(self) -> list[Event]:
        """What the client has done."""
        ...

    def send(self, data: bytes) -> None:
        """Sends to the client; what it does not take now is tried again by `receive`."""
        ...

    @property
    def full(self) -> bool:
        """The board should print no more."""
        ...

    def plug(self) -> None:
        """Makes the line. Raises NameTaken, BoardError."""
        ...

    def unplug(self) -> None:
        """Takes the line away from its client."""
        ...


class PtyLine:
    """A pty. It has no DTR and RTS, and its speed means nothing."""

    url = ""

    def __init__(self) -> None:
        self._master = self._slave = -1
        self._backlog = bytearray()

    def plug(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.url = os.ttyname(self._slave)

    def unplug(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
            self._backlog.clear()

    def waits_for(self) -> list[tuple[int, int]]:
        return [] if self._master < 0 else [(self._master, select.POLLIN | (select.POLLOUT if self._backlog else 0))]

    def receive(self) -> list[Event]:
        self._flush()
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return []
        return [Data(data)] if data else []

    def send(self, data: bytes) -> None:
        self._backlog += data
        self._flush()

    @property
    def full(self) -> bool:
        return len(self._backlog) > _BACKLOG_BYTES

    def _flush(self) -> None:
        with contextlib.suppress(OSError):
            while self._backlog:
                del self._backlog[: os.write(self._master, self._backlog[:4096])]


class SocketLine:
    """The socket of `vboard://NAME`, one client at a time."""

    def __init__(self, name: str) -> None:
        self.url = f"vboard://{name}"
        self._path = socket_path(name)
        self._server: socket.socket | None = None
        self._client: socket.socket | None = None
        self._received = bytearray()
        self._backlog = bytearray()

    def plug(self) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _answers(self._path):
                raise NameTaken(self.url, "End the virtual board that has this name, or choose another one.")
            self._path.unlink(missing_ok=True)  # left over from a board that was killed
            server.bind(str(self._path))
            server.listen()
        except OSError as error:
            server.close()
            raise BoardError(
                f"{self.url} cannot be made: {error.strerror or error}.", "Choose another name, or set MIDGE_VBOARDS."
            ) from None
        except Busy:
            server.close()
            raise
        server.setblocking(False)
        self._server = server

    def unplug(self) -> None:
        self._drop()
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)

    def waits_for(self) -> list[tuple[int, int]]:
        if self._server is None:
            return []
        waits = [(self._server.fileno(), select.POLLIN)]
        if self._client is not None:
            waits.append((self._client.fileno(), select.POLLIN | (select.POLLOUT if self._backlog else 0)))
        return waits

    def receive(self) -> list[Event]:
        self._flush()
        events = self._from_client()  # first: it may make room for another one
        if self._server is not None:
            with contextlib.suppress(BlockingIOError):
                self._welcome(self._server.accept()[0])
        return events

    def _from_client(self) -> list[Event]:
        if self._client is None:
            return []
        try:
            data = self._client.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            return [self._hang_up()]
        self._received += data
        events: list[Event] = []
        while len(self._received) >= 5:
            kind, length = struct.unpack_from("<cI", self._received)
            if length > _LARGEST_FRAME:
                return [*events, self._hang_up()]
            if len(self._received) < 5 + length:
                break
            content = bytes(self._received[5 : 5 + length])
            del self._received[: 5 + length]
            event = _event(kind, content)
            if event is None:
                return [*events, self._hang_up()]
            events.append(event)
        return events

    def _welcome(self, client: socket.socket) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):
                client.send(b"B")
            client.close()
            return
        client.setblocking(False)
        self._client = client
        self._received.clear()
        self._backlog.clear()
        self.send(b"K")

    def _hang_up(self) -> Lines:
        """The client is gone; as a kernel does, the line lets go of DTR and RTS."""
        self._drop()
        return Lines(time.monotonic(), False, False)

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
            self._backlog.clear()

    def send(self, data: bytes) -> None:
        if self._client is not None:  # else nobody hears it
            self._backlog += data
            self._flush()

    @property
    def full(self) -> bool:
        return len(self._backlog) > _BACKLOG_BYTES

    def _flush(self) -> None:
        with contextlib.suppress(OSError):
            while self._backlog and self._client is not None:
                del self._backlog[: self._client.send(self._backlog[:65536])]


def _answers(path: Path) -> bool:
    """Whether a board listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _event(kind: bytes, content: bytes) -> Event | None:
    """The event of a client's frame, None for one that no client sends (midge_vboard/protocol_vboard.py)."""
    try:
        if kind == b"D":
            return Data(content)
        if kind == b"L":
            nanoseconds, levels = struct.unpack("<QB", content)
            return Lines(nanoseconds / 1e9, bool(levels & 1), bool(levels & 2))
        if kind == b"B":
            return Baud(*struct.unpack("<I", content))
    except struct.error:
        pass
    return None
