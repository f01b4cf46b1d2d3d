"""The serial line that a client opens: the outer pty, and what can go wrong on it.

The board's end never blocks: a client that does not read loses output after half a second, as on USB serial.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import struct
import termios
import time
import tty
from pathlib import Path

from midgehost.errors import Busy

_STALL_S = 0.5
_BACKLOG_BYTES = 4096  # small: what a client has not read yet it must read before it sees Ctrl-C work
_SETTLE_POLL_S = 0.002
_BURST_S = 0.02  # what a paced line may send at once


class Pace:
    """A line's speed: how many bytes may pass now. `bps` None is as fast as it goes; 10 bits a byte."""

    def __init__(self, bps: int | None) -> None:
        self._rate = bps / 10 if bps else None
        self._allowance = 0.0
        self._then = time.monotonic()

    def allowed(self) -> int:
        if self._rate is None:
            return 65536
        now = time.monotonic()
        self._allowance = min(self._allowance + (now - self._then) * self._rate, max(1.0, self._rate * _BURST_S))
        self._then = now
        return int(self._allowance)

    def spend(self, count: int) -> None:
        self._allowance -= count


class Line:
    """A pty that can be plugged and unplugged. `link` is a path that always points to the present one.

    `bps` paces both directions; `noise` is the chance that a byte to the client is preceded by a random one.
    """

    def __init__(self, link: Path | None, bps: int | None, noise: float, seed: int) -> None:
        self.bps = bps
        self.noise = noise
        self.lost = 0  # bytes that no client took
        self._link = link
        self._random = random.Random(seed)
        self._master = self._slave = -1
        self._name = ""  # other threads ask for it at any moment
        self._backlog = bytearray()
        self._stalled = False

    @property
    def plugged(self) -> bool:
        return self._master >= 0

    @property
    def path(self) -> str:
        """What a client opens: the link if there is one. Empty while unplugged."""
        if not self.plugged:
            return ""
        return str(self._link) if self._link else self._name

    def plug(self) -> None:
        """Makes a new pty. Our own handle of the client's side keeps it alive between clients.

        Raises Busy where the link leads to another board, or is a file of somebody's.
        """
        if self._link and self._link.exists():
            raise Busy(str(self._link), "End the board that has this link; if none has it, remove the file.")
        self._master, self._slave = pty.openpty()
        self._name = os.ttyname(self._slave)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._stalled = False
        self._progress = time.monotonic()
        self._in, self._out = Pace(self.bps), Pace(self.bps)
        if self._link:
            fresh = self._link.with_name(self._link.name + ".new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self._name)
            fresh.replace(self._link)

    @property
    def touched(self) -> bool:
        """Whether a client has set the line to 1200 baud, which asks boards for their bootloader."""
        return termios.tcgetattr(self._slave)[4] == termios.B1200

    def settle(self, timeout: float) -> None:
        """Waits until the client has read what was sent, `timeout` seconds at most: a pty that goes away takes that
        with it, a computer's USB driver does not."""
        end = time.monotonic() + timeout
        while self.plugged and time.monotonic() < end:
            self.flush()
            (unread,) = struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4)))
            if not unread and not self._backlog:
                return
            time.sleep(_SETTLE_POLL_S)

    def unplug(self) -> None:
        """Hangs up on the client and takes the pty away."""
        if self.plugged:
            if self._link and self._link.is_symlink() and str(self._link.readlink()) == self._name:
                self._link.unlink()
            os.close(self._slave)
            os.close(self._master)
            self._master = self._slave = -1
            self._backlog.clear()

    def fileno(self) -> int:
        return self._master

    @property
    def may_read(self) -> bool:
        return self._in.allowed() > 0

    @property
    def wants_write(self) -> bool:
        return self._stalled or (bool(self._backlog) and self._out.allowed() > 0)

    @property
    def takes_output(self) -> bool:
        """False while the board has to wait for the client."""
        return len(self._backlog) < _BACKLOG_BYTES

    def read(self) -> bytes:
        """What the client sent; empty if nothing."""
        try:
            data = os.read(self._master, min(4096, self._in.allowed()))
        except OSError:
            return b""
        self._in.spend(len(data))
        return data

    def send(self, data: bytes) -> None:
        """Queues bytes for the client; they are lost while unplugged or while nobody reads."""
        if not self.plugged or self._stalled:
            self.lost += len(data)
            return
        if not self._backlog:
            self._progress = time.monotonic()
        self._backlog += self._with_noise(data) if self.noise else data
        self.flush()

    def flush(self) -> None:
        """Writes what the client's buffer takes now."""
        self._stalled = False
        with contextlib.suppress(BlockingIOError):
            while self._backlog and (allowed := self._out.allowed()) > 0:
                sent = os.write(self._master, self._backlog[:allowed])
                del self._backlog[:sent]
                self._out.spend(sent)
                self._progress = time.monotonic()

    def drop_stalled(self) -> None:
        """Gives up on a client that takes nothing."""
        if self._backlog and time.monotonic() - self._progress > _STALL_S:
            self.lost += len(self._backlog)
            self._backlog.clear()
            self._stalled = True

    def _with_noise(self, data: bytes) -> bytes:
        noisy = bytearray()
        for byte in data:
            if self._random.random() < self.noise:
                noisy.append(self._random.randrange(256))
            noisy.append(byte)
        return bytes(noisy)
