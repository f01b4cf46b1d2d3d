"""A serial line with a deadline, in the shape that mpremote expects of pyserial."""

from __future__ import annotations

import contextlib
import errno
import time
from typing import Any

from midgehost.errors import Busy, LineDropped, NotFound, Timeout

_POLL = 0.05  # s: how late a passed deadline is noticed while the board is silent
_WRITE_TIMEOUT = 5.0  # s, for a board that does not read
_BUSY_TIMEOUT = 1.0  # s, for another program to let go of the port
_NO_END = float("inf")


class Line:
    """Reads and writes until a deadline that spans a whole operation, not one character.

    Everything raises Timeout after the deadline, even while bytes keep coming; LineDropped when the device is gone.
    Operations take `time_scale` times as long as `begin` says.
    """

    def __init__(self, serial: Any, name: str, time_scale: float = 1.0) -> None:
        self._serial = serial
        self._name = name
        self._time_scale = time_scale
        self._buffer = bytearray()
        self.begin("opening", 0)

    def begin(self, doing: str, timeout: float | None) -> None:
        """Starts an operation: `doing` is what messages call it, `timeout` (s) how long all of it may take."""
        self._doing = doing
        self._timeout = timeout or 0.0
        self._end = _NO_END if timeout is None else time.monotonic() + timeout * self._time_scale

    def read(self, size: int = 1) -> bytes:
        """Exactly `size` bytes."""
        while True:
            self._check()
            if len(self._buffer) >= size:
                found = bytes(self._buffer[:size])
                del self._buffer[:size]
                return found
            self._fill()

    def read_available(self, timeout: float) -> bytes:
        """At least one byte, or b"" after `timeout` seconds."""
        self.wait(timeout)
        found = bytes(self._buffer)
        self._buffer.clear()
        return found

    def wait(self, timeout: float) -> None:
        """Returns when there is something to read, or after `timeout` seconds."""
        self.begin("listening", timeout / self._time_scale)
        while not self._buffer and time.monotonic() < self._end:
            self._fill()

    def forget(self) -> None:
        """Throws away what was read ahead."""
        self._buffer.clear()

    def inWaiting(self) -> int:
        """Bytes that a read returns at once."""
        self._check()
        with self._device():
            return len(self._buffer) + self._serial.in_waiting

    def write(self, data: bytes) -> int:
        """All of `data`; a board that does not read makes it time out."""
        self._check()
        with self._device():
            return self._serial.write(data)

    def close(self) -> None:
        """Frees the port; a device that is gone is closed all the same."""
        with contextlib.suppress(OSError):
            self._serial.close()

    def _fill(self) -> None:
        with self._device():
            self._buffer += self._serial.read(max(1, self._serial.in_waiting))

    def _check(self) -> None:
        if time.monotonic() > self._end:
            raise Timeout(self._name, self._doing, self._timeout)

    @contextlib.contextmanager
    def _device(self) -> Any:
        from serial import PortNotOpenError, SerialTimeoutException

        try:
            yield
        except SerialTimeoutException:
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

    try:
        device = serial.serial_for_url(
            path, baudrate=115200, timeout=_POLL, write_timeout=_WRITE_TIMEOUT * time_scale, exclusive=True
        )
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        if "lock" in str(error) or number in (errno.EBUSY, errno.EAGAIN):
            raise Busy(name) from None
        if number == errno.EACCES:
            do = "Join its group (dialout or uucp), or run as its owner."
            raise NotFound(f"{name} may not be opened by you.", do) from None
        raise NotFound(f"There is no board at {name}.", "Plug it in, or name another port.") from None
    return Line(device, name, time_scale)
