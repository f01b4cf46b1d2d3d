"""Ports: how a board is reached, by one string.

`/dev/ttyACM0`, `serial:<USB serial number>` or the number alone, `node:<name>` or the node's name alone, `virtual`,
`emulated:pico`. Kinds that need more than pyserial register an opener here (the CLI and the API do so for virtual
boards and for nodes), so nothing below the CLI imports what it may not. A virtual board that runs in a process of its
own is announced, and then listed and found like one that is plugged in.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from midgehost.errors import Ambiguous, NotFound
from midgehost.resources import cache_dir

BRIDGES = {0x10C4: "CP210x", 0x1A86: "CH340", 0x0403: "FTDI", 0x067B: "PL2303"}  # USB vendors of serial bridges
# Vendors whose own USB a board's firmware speaks: Espressif, Raspberry Pi, Adafruit, Arduino, MicroPython, pid.codes.
NATIVE = (0x303A, 0x2E8A, 0x239A, 0x2341, 0xF055, 0x1209)
_ESP_JTAG = (0x303A, 0x1001)  # the S3's, C3's and C6's USB-Serial-JTAG: resets by DTR and RTS like a bridge's circuit
_URL_WITH_LINES = ("vboard://", "rfc2217://")


@dataclass(frozen=True)
class Port:
    """A port that is there, as USB describes it. `virtual` is what a virtual board is; empty for hardware."""

    path: str
    serial_number: str = ""
    vid: int | None = None
    pid: int | None = None
    product: str = ""
    location: str = ""  # 1-2:1.0: the socket, and the interface after the colon
    virtual: str = ""
    time_scale: float = 1.0
    owner: int = 0  # the process that is the virtual board

    @property
    def usb_id(self) -> str:
        """`2e8a:0005`; empty where it is no USB device."""
        return "" if self.vid is None or self.pid is None else f"{self.vid:04x}:{self.pid:04x}"

    @property
    def is_board(self) -> bool:
        """Whether it may be a board: not a PC's own serial port, nor a device of another kind."""
        return bool(self.virtual) or self.vid in BRIDGES or self.vid in NATIVE

    @property
    def vanishes(self) -> bool:
        """Whether it goes away while the board resets: the firmware itself is the USB device."""
        native = self.vid is not None and self.vid not in BRIDGES and (self.vid, self.pid) != _ESP_JTAG
        return native and not self.virtual

    def same_board(self, other: Port) -> bool:
        """Whether it is the same interface of the same board, under whatever name."""
        ours, theirs = (port.location.partition(":")[2] for port in (self, other))
        return self.serial_number == other.serial_number and (ours == theirs or not (ours and theirs))


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
    device = _resolve(port, options)
    try:
        yield device
    finally:
        device.close()


def _resolve(port: str, options: dict[str, Any]) -> Device:
    kind, _, argument = port.partition(":")
    if kind in _openers:
        return _openers[kind](argument, options)
    if kind == "serial":
        return _as_device(port, by_serial_number(argument, plugged_in()))
    if re.search(r"[/\\]|^COM\d+$", port) or Path(port).exists():
        path = callout(port, sys.platform)
        found = find(path, plugged_in())
        return Device(port, path, time_scale=found.time_scale if found else 1.0)
    ports = plugged_in()
    if any(p.serial_number.lower() == port.lower() for p in ports):
        return _as_device(port, by_serial_number(port, ports))
    if "node" in _openers:
        return _openers["node"](port, options)
    raise NotFound(f"There is no port, USB serial number or node {port!r}.", f"Plugged in: {describe(ports)}.")


def _as_device(name: str, port: Port) -> Device:
    return Device(name, port.path, time_scale=port.time_scale)


# --- what is there --------------------------------------------------------------------------------------------------


def plugged_in() -> list[Port]:
    """Every serial port of this computer, and every virtual board that runs, in the order of their names."""
    from serial.tools import list_ports

    return sorted([*(from_pyserial(port) for port in list_ports.comports()), *announced()], key=lambda p: p.path)


def from_pyserial(info: Any) -> Port:
    """A port as pyserial lists it (`ListPortInfo`)."""
    return Port(
        path=info.device,
        serial_number=info.serial_number or "",
        vid=info.vid,
        pid=info.pid,
        product=info.product or "",
        location=info.location or "",
    )


def find(path: str, ports: Iterable[Port]) -> Port | None:
    """The port that a path leads to, links followed."""
    if "://" in path:
        return next((port for port in ports if port.path == path), None)
    wanted = os.path.realpath(path)
    return next((port for port in ports if os.path.realpath(port.path) == wanted), None)


def by_serial_number(wanted: str, ports: list[Port]) -> Port:
    """The port of the board with that USB serial number; the first, where one board has several. Raises NotFound,
    Ambiguous."""
    found = [port for port in ports if port.serial_number and port.serial_number.lower() == wanted.lower()]
    boards = {port.location.partition(":")[0] for port in found}
    if len(found) > 1 and len(boards) > 1:
        raise Ambiguous(f"serial:{wanted}", [port.path for port in found])
    if not found:
        known = ", ".join(port.serial_number for port in ports if port.serial_number) or "none"
        raise NotFound(f"No USB device has the serial number {wanted!r}.", f"Plugged in: {known}.")
    return found[0]


def describe(ports: Iterable[Port]) -> str:
    """The ports that may be boards, for messages."""
    return (
        ", ".join(p.path + (f" ({p.serial_number})" if p.serial_number else "") for p in ports if p.is_board) or "none"
    )


def has_reset_lines(path: str, port: Port | None) -> bool:
    """Whether DTR and RTS of that port may lead to a board's reset circuit: bridges on Espressif's boards have it."""
    if "://" in path:
        return path.startswith(_URL_WITH_LINES)
    return port is not None and not port.virtual and (port.vid in BRIDGES or (port.vid, port.pid) == _ESP_JTAG)


def callout(path: str, platform: str) -> str:
    """macOS has two names for a port; to open `tty.` waits for a carrier that boards never give, `cu.` does not."""
    return path.replace("/dev/tty.", "/dev/cu.", 1) if platform == "darwin" else path


# --- virtual boards that run ------------------------------------------------------------------------------------------


@contextmanager
def announce(port: Port) -> Generator[None]:
    """While inside, every midge of this user lists the port, which belongs to this process."""
    folder = _running_boards()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = port.path if "://" in port.path else os.path.abspath(port.path)  # noqa: PTH100 - a link stays a link
    absolute = replace(port, path=path, owner=os.getpid())
    entry = folder / f"{os.getpid()}-{abs(hash(absolute)):x}.json"
    fresh = entry.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(absolute)))
    fresh.replace(entry)
    try:
        yield
    finally:
        entry.unlink(missing_ok=True)


def announced() -> list[Port]:
    """The virtual boards that run; the entries of processes that ended without a word are dropped."""
    found: list[Port] = []
    for entry in sorted(_running_boards().glob("*.json")):
        try:
            port = Port(**json.loads(entry.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if _alive(port.owner) and ("://" in port.path or os.path.lexists(port.path)):
            found.append(port)
        elif not _alive(port.owner):
            with contextlib.suppress(OSError):
                entry.unlink()
    return found


def _running_boards() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(runtime) / "midge" if runtime else cache_dir()) / "boards"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
