"""The computer as checks see it: an operating system, its ports, and files below a root that tests can make up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from midgehost import ports
from midgehost.deploy.holders import holder_of
from midgehost.ports import Port

_CDC = "02"  # the interface class of a serial port (USB class codes)


@dataclass(frozen=True)
class UsbDevice:
    """A device on the bus, whether or not it has a driver. `serial`: it says that it is a serial port (CDC)."""

    vid: int
    pid: int
    product: str
    serial: bool


@dataclass(frozen=True)
class System:
    """`asked` is the port that the user named; `root` holds /proc, /sys and /etc (Linux)."""

    platform: str  # sys.platform
    ports: list[Port]
    asked: str = ""
    root: Path = Path("/")
    user: str = ""
    may_open: Callable[[str], bool] = lambda _: True
    group_of: Callable[[str], str] = lambda _: ""  # the group that may open a port
    groups: frozenset[str] = frozenset()  # this process's
    enrolled: frozenset[str] = frozenset()  # the user's, from the next login on
    holder: Callable[[str], str] = field(default=lambda _: "")

    @classmethod
    def here(cls, asked: str = "") -> System:
        """This computer, now."""
        unix = os.name == "posix"
        return cls(
            platform=sys.platform,
            ports=ports.plugged_in(),
            asked=asked,
            user=_user(),
            may_open=lambda path: os.access(path, os.R_OK | os.W_OK),
            group_of=_group_of if unix else lambda _: "",
            groups=_groups() if unix else frozenset(),
            enrolled=_enrolled(_user()) if unix else frozenset(),
            holder=holder_of,
        )

    @property
    def boards(self) -> list[Port]:
        """The ports of hardware that may be boards."""
        return [port for port in self.ports if port.is_board and not port.virtual]

    def usb(self) -> list[UsbDevice]:
        """What is on the bus, as Linux tells (sysfs, `/sys/bus/usb/devices`); elsewhere what has a port."""
        if self.platform != "linux":
            return [UsbDevice(p.vid, p.pid or 0, p.product, True) for p in self.ports if p.vid is not None]
        found: list[UsbDevice] = []
        for device in sorted((self.root / "sys/bus/usb/devices").glob("*")):
            vid, pid = _read(device / "idVendor"), _read(device / "idProduct")
            if vid and pid and ":" not in device.name:
                classes = [_read(path) for path in device.parent.glob(f"{device.name}:*/bInterfaceClass")]
                found.append(UsbDevice(int(vid, 16), int(pid, 16), _read(device / "product"), _CDC in classes))
        return found

    def programs(self) -> set[str]:
        """The names of the programs that run (proc(5), `comm`)."""
        return {_read(path) for path in (self.root / "proc").glob("[0-9]*/comm")}

    def udev_rules(self) -> str:
        """The text of all udev rules."""
        folders = ("etc/udev/rules.d", "run/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")
        return "\n".join(_read(path) for folder in folders for path in sorted((self.root / folder).glob("*.rules")))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _user() -> str:
    return os.environ.get("USER") or os.environ.get("USERNAME") or "you"


def _group_of(path: str) -> str:
    try:
        return Path(path).group()
    except (OSError, KeyError):
        return ""


def _groups() -> frozenset[str]:
    import grp

    names: set[str] = set()
    for number in os.getgroups():
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return frozenset(names)


def _enrolled(user: str) -> frozenset[str]:
    import grp

    return frozenset(group.gr_name for group in grp.getgrall() if user in group.gr_mem)
