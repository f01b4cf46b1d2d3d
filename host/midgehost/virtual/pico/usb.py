# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false
"""The host's end of the chip's USB serial.

rp2040py's own answers every question for data, also with none: the firmware asks again at once, 25 000 times a second,
and spends two thirds of its time so, never asleep. A USB host with nothing to say lets the device wait (NAK).
"""

from __future__ import annotations

from collections.abc import Callable

from rp2040py.peripherals.usb import RPUSBController
from rp2040py.usb.cdc import USBCDC


class UsbSerial:
    """The serial port. `on_output` gets what the board sends; `on_connect(True)` says that the port exists,
    `on_connect(False)` that it is gone."""

    def __init__(
        self, usb: RPUSBController, on_output: Callable[[bytes], None], on_connect: Callable[[bool], None]
    ) -> None:
        self._usb = usb
        self._cdc = USBCDC(usb)
        self._on_connect = on_connect
        self._waiting = bytearray()
        self._asked = 0  # bytes that the board has room for
        self._cdc.on_serial_data = lambda data: on_output(bytes(data))
        self._cdc.on_device_connected = lambda: on_connect(True)
        self._answer = usb.on_endpoint_read
        self._forget = usb.on_reset
        usb.on_endpoint_read = self._on_read
        usb.on_reset = self._on_reset

    @property
    def waiting(self) -> int:
        """Bytes that the board has not taken yet."""
        return len(self._waiting)

    def send(self, data: bytes) -> None:
        """Bytes for the board."""
        self._waiting += data
        self._deliver()

    def _deliver(self) -> None:
        if self._asked and self._waiting:
            packet = bytes(self._waiting[: self._asked])
            del self._waiting[: self._asked]
            self._asked = 0
            self._usb.endpoint_read_done(self._cdc._out_endpoint, packet)

    def _on_read(self, endpoint: int, size: int) -> None:
        if endpoint == self._cdc._out_endpoint:
            self._asked = size
            self._deliver()
        elif self._answer is not None:
            self._answer(endpoint, size)

    def _on_reset(self) -> None:
        self._waiting.clear()
        self._asked = 0
        if self._forget is not None:
            self._forget()
        self._on_connect(False)
