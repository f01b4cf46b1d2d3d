"""Ports: how a board is reached, by one string.

`virtual`, `emulated:pico`, `/dev/ttyACM0`, `serial:<USB serial number>`. Kinds that need more than pyserial register an
opener here (the CLI and the bench do so for virtual boards), so nothing below the CLI imports what it may not.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from midgehost.errors import Ambiguous, NotFound


@dataclass
class Device:
    """A reachable board: `path` is what pyserial opens, unless the opener brings a transport of its own.

    `close()` ends a board that was started for this port. `time_scale` is how many times as long as a board this one
    takes (an emulator).
    """

    name: str
    path: str
    close: Callable[[], None] = field(default=lambda: None)
    transport: Any = None  # a deploy.transport.Transport, for boards without a serial line
    time_scale: float = 1.0


Opener = Callable[[str, dict[str, Any]], Device]
_openers: dict[str, Opener] = {}


def register(kind: str, opener: Opener) -> None:
    """Makes `kind` and `kind:<argument>` open through `opener(argument, options)`."""
    _openers[kind] = opener


@contextmanager
def open_port(port: str, **options: Any) -> Generator[Device]:
    """Resolves a port string to a device, and closes it afterwards. Raises NotFound, Ambiguous."""
    kind, _, argument = port.partition(":")
    if kind in _openers:
        device = _openers[kind](argument, options)
    elif kind == "serial":
        device = Device(port, _by_serial_number(argument))
    else:
        device = Device(port, port)
    try:
        yield device
    finally:
        device.close()


def _by_serial_number(wanted: str) -> str:
    from serial.tools import list_ports

    ports = list(list_ports.comports())
    found = [p.device for p in ports if p.serial_number and p.serial_number.lower() == wanted.lower()]
    if len(found) > 1:
        raise Ambiguous(f"serial:{wanted}", found)
    if not found:
        known = ", ".join(p.serial_number for p in ports if p.serial_number) or "none"
        raise NotFound(f"No USB device has the serial number {wanted!r}.", f"Plugged in: {known}.")
    return found[0]
