"""A serial line with a deadline, in the shape that mpremote expects of pyserial."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Generator
from typing import Any

from midgehost import urls
from midgehost.deploy.holders import holder_of
from midgehost.errors import Busy, LineDropped, NotFound, Timeout

_POLL = 0.05  # s: how late a passed deadline is noticed while the board is silent
_WRITE_TIMEOUTS = (5.0, 2.0, 1.0, 0.5, 0.2, 0.1)  # s, for a board that does not read; setting one may cost 50 ms
_BUSY_TIMEOUT = 1.0  # s, for another program to let go of the port
_NAP = 0.002  # s: how exactly a short pause is kept
_PULSE = 0.1  # s that a reset line is held
_NO_END = float("inf")


class Line:
    """Reads and writes until a deadline that spans a whole operation, not one character.

    Everything raises Timeout after the deadline, even while bytes keep coming; LineDropped when the device is gone.
    Operations take `time_scale` times as long as `begin` says. `received` counts the bytes that came.
    """

    def __init__(self, serial: Any, name: str, time_scale: float = 1.0) -> None:
        self._serial = serial
        self._name = name
        self._time_scale = time_scale
        self._buffer = bytearray()
        self._limit = _NO_END
        self._write_timeout = _WRITE_TIMEOUTS[0]
        self._stalled = False  # the board did not take what was written
        self.received = 0
        self.begin("opening", 0)

    def begin(self, doing: str, timeout: float | None, *, last: bool = False) -> None:
        """Starts an operation: `doing` is what messages call it, `timeout` (s) how long all of it may take. `last` is
        what must be done even after the end of `within`."""
        self._doing = doing
        self._timeout = timeout or 0.0
        end = _NO_END if timeout is None else time.monotonic() + timeout * self._time_scale
        self._end = end if last else min(end, self._limit)

    @contextlib.contextmanager
    def within(self, timeout: float) -> Generator[None]:
        """No operation that begins inside outlives `timeout` (s), whatever it asks for."""
        outer = self._limit
        self._limit = min(outer, time.monotonic() + timeout * self._time_scale)
        try:
            yield
        finally:
            self._limit = outer

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, size: int = 1) -> bytes:
        """Exactly `size` bytes."""
        while True:
            self._check()
            if len(self._buffer) >= size:
                return self._take(size)
            self._fill()

    def read_until(self, ending: bytes) -> bytes:
        """Everything up to and with `ending`."""
        looked_at = 0
        while True:
            self._check()
            at = self._buffer.find(ending, looked_at)
            if at >= 0:
                return self._take(at + len(ending))
            looked_at = max(0, len(self._buffer) - len(ending) + 1)
            self._fill()

    def read_part(self, ending: bytes) -> bytes:
        """What is there of the text before and with the byte `ending`: at least one byte."""
        self._check()
        while not self._buffer:
            self._fill()
            self._check()
        at = self._buffer.find(ending)
        return self._take(len(self._buffer) if at < 0 else at + 1)

    def skip_to(self, ending: bytes) -> None:
        """Throws away everything up to and with `ending`."""
        while True:
            self._check()
            at = self._buffer.find(ending)
            if at >= 0:
                del self._buffer[: at + len(ending)]
                return
            del self._buffer[: max(0, len(self._buffer) - len(ending) + 1)]
            self._fill()

    def drain(self, seconds: float) -> int:
        """Throws away what comes during `seconds`, and returns how much that was."""
        end, before = time.monotonic() + seconds, self.received - len(self._buffer)
        while (now := time.monotonic()) < min(end, self._end):
            if self._waiting():
                self._fill()
                self._buffer.clear()
            else:
                time.sleep(min(_NAP, end - now))
        return self.received - before

    def read_available(self, timeout: float) -> bytes:
        """At least one byte, or b"" after `timeout` seconds."""
        self.wait(timeout)
        return self._take(len(self._buffer))

    def wait(self, timeout: float) -> None:
        """Returns when there is something to read, or after `timeout` seconds."""
        self.begin("listening", timeout / self._time_scale)
        while not self._buffer and time.monotonic() < self._end:
            self._fill()

    def gather(self, seconds: float) -> int:
        """Reads ahead for so long; returns how many bytes wait then."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if self._waiting():
                self._fill()
            else:
                time.sleep(min(_NAP, end - now))
        return len(self._buffer)

    def forget(self) -> None:
        """Throws away what was read ahead."""
        self._buffer.clear()

    def inWaiting(self) -> int:
        """Bytes that a read returns at once."""
        self._check()
        return len(self._buffer) + self._waiting()

    # --- writing ------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> int:
        """All of `data`; a board that does not read makes it time out."""
        self._check()
        left = self._end - time.monotonic()
        wanted = next((t for t in _WRITE_TIMEOUTS if t <= left), _WRITE_TIMEOUTS[-1])
        with self._device():
            if wanted != self._write_timeout:
                self._serial.write_timeout = self._write_timeout = wanted
            return self._serial.write(data)

    def pulse_reset(self) -> bool:
        """Resets the board by its reset line: RTS pulls EN low while DTR, the boot-mode pin, is released (the circuit
        of Espressif's boards). False where the port has no such lines."""
        try:
            self._serial.dtr = False
            self._serial.rts = True
            time.sleep(_PULSE)
            self._serial.rts = False  # and DTR stays: asserted now it would choose download mode
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                return False
            raise LineDropped(self._name, "resetting") from None
        self.forget()
        return True

    def close(self) -> None:
        """Frees the port; a device that is gone is closed all the same."""
        if self._stalled:
            with contextlib.suppress(OSError):
                self._serial.reset_output_buffer()  # the system would wait for a board that does not read
        with contextlib.suppress(OSError):
            self._serial.rts = False  # before DTR: the other order resets boards with a reset circuit
            self._serial.dtr = False
        with contextlib.suppress(OSError):
            self._serial.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take(self, size: int) -> bytes:
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _waiting(self) -> int:
        with self._device():
            return self._serial.in_waiting

    def _fill(self) -> None:
        with self._device():
            data = self._serial.read(max(1, self._serial.in_waiting))
        self.received += len(data)
        self._buffer += data

    def _check(self) -> None:
        if time.monotonic() > self._end:
            raise Timeout(self._name, self._doing, self._timeout)

    @contextlib.contextmanager
    def _device(self) -> Generator[None]:
        from serial import PortNotOpenError, SerialTimeoutException

        try:
            yield
        except SerialTimeoutException:
            self._stalled = True
            raise Timeout(self._name, self._doing, self._timeout) from None
        except (OSError, PortNotOpenError, TypeError):  # pyserial: TypeError when another thread closes the port
            raise LineDropped(self._name, self._doing) from None


def open_line(path: str, name: str, time_scale: float = 1.0) -> Line:
    """Opens a device or pyserial URL for this process alone. Raises NotFound, Busy."""
    patience = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            return _open_now(path, name, time_scale)
        except Busy:  # for good, or ModemManager looks at every new port for a moment
            if time.monotonic() > patience:
                raise
        time.sleep(_POLL)


def _open_now(path: str, name: str, time_scale: float) -> Line:
    import serial

    urls.install(path)
    try:
        device = serial.serial_for_url(
            path, baudrate=115200, timeout=_POLL, write_timeout=_WRITE_TIMEOUTS[0], exclusive=True
        )
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        if "lock" in str(error) or number in (errno.EBUSY, errno.EAGAIN):
            holder = holder_of(path)
            raise (Busy(name, f"Close {holder} and try again.") if holder else Busy(name)) from None
        if number == errno.EACCES:
            raise NotFound(
                f"{name} may not be opened by you.", "`midge doctor` says what gives you the right."
            ) from None
        raise NotFound(f"There is no board at {name}.", "Plug it in, or name another port.") from None
    return Line(device, name, time_scale)
