"""pyserial's handler of `vboard://NAME`: a virtual board's serial line over a Unix socket, with DTR, RTS and baud.

To the board go frames: a letter, the length as u32, the content. D: data. L: u64 of the monotonic clock in ns, u8 with
DTR in bit 0 and RTS in bit 1. B: u32 baud. From the board comes one byte, `K` or, where another client has the line,
`B`, and then data.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from typing import Any

from serial.serialutil import PortNotOpenError, SerialBase, SerialException, SerialTimeoutException

from . import socket_path

_GREETING_S = 5.0


class Serial(SerialBase):
    """A client of one virtual board."""

    BAUDRATES = SerialBase.BAUDRATES

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._told_baud = 0
        super().__init__(*args, **kwargs)

    # --- opening and closing

    def open(self) -> None:
        if self.port is None:
            raise SerialException("Port must be configured before it can be used.")
        if self.is_open:
            raise SerialException("Port is already open.")
        path = socket_path(self.port.partition("://")[2])
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(_GREETING_S)
        try:
            line.connect(str(path))
            greeting = line.recv(1)
        except OSError as error:
            line.close()
            number = errno.ENOENT if error.errno == errno.ECONNREFUSED else error.errno
            raise SerialException(number, f"could not open port {self.port}: [Errno {number}] no such board") from None
        if greeting != b"K":
            line.close()
            raise SerialException(
                errno.EAGAIN, f"Could not exclusively lock port {self.port}: [Errno {errno.EAGAIN}] it is in use"
            )
        line.settimeout(None)
        self._socket = line
        self._received.clear()
        self._told_baud = 0
        self.is_open = True
        # esptool sets DTR and RTS through the file descriptor, unless the name says that there are none behind it.
        self.name = f"rfc2217:{self.port}"
        self._reconfigure_port()
        self._send_lines()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.is_open = False

    def _reconfigure_port(self, *_: Any, **__: Any) -> None:
        if self._socket is not None and self.baudrate != self._told_baud:
            self._told_baud = self.baudrate
            self._send(b"B", struct.pack("<I", self.baudrate))

    # --- data

    @property
    def in_waiting(self) -> int:
        self._receive(0)
        return len(self._received)

    def read(self, size: int = 1) -> bytes:
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while len(self._received) < size:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not self._receive(left) and left is not None and time.monotonic() >= (deadline or 0):
                break
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def write(self, data: Any, /) -> int:
        content = bytes(data)
        for at in range(0, len(content), 4096):
            self._send(b"D", content[at : at + 4096])
        return len(content)

    def reset_input_buffer(self) -> None:
        while self._receive(0):
            self._received.clear()
        self._received.clear()

    def reset_output_buffer(self) -> None:
        pass

    def flush(self) -> None:
        pass

    @property
    def out_waiting(self) -> int:
        return 0

    def fileno(self) -> int:
        return self._line().fileno()

    def _line(self) -> socket.socket:
        if self._socket is None:
            raise PortNotOpenError()
        return self._socket

    def _receive(self, timeout: float | None) -> bool:
        """Takes what has come within that time."""
        line = self._line()
        if not select.select([line], [], [], timeout)[0]:
            return False
        try:
            data = line.recv(65536)
        except OSError:
            data = b""
        if not data:
            raise SerialException(errno.EIO, "device reports readiness to read but returned no data: it is gone")
        self._received += data
        return True

    def _send(self, kind: bytes, content: bytes) -> None:
        line = self._line()
        line.settimeout(self.write_timeout)
        try:
            line.sendall(kind + struct.pack("<I", len(content)) + content)
        except TimeoutError:
            raise SerialTimeoutException("Write timeout") from None
        except OSError as error:
            raise SerialException(errno.EIO, f"write failed: {error}") from None
        finally:
            line.settimeout(None)

    # --- lines

    def _send_lines(self) -> None:
        self._send(b"L", struct.pack("<QB", time.monotonic_ns(), bool(self.dtr) | bool(self.rts) << 1))

    def _update_dtr_state(self) -> None:
        self._send_lines()

    def _update_rts_state(self) -> None:
        self._send_lines()

    def _update_break_state(self) -> None:
        pass

    cts = dsr = cd = True
    ri = False
