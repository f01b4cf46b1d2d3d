"""May this user open the port, and does anybody else have it or look into it."""

from __future__ import annotations

from midgehost.deploy.doctor.finding import FIX, NOTE, OK, Finding
from midgehost.deploy.doctor.system import System
from midgehost.ports import Port

_RULES_FILE = "/etc/udev/rules.d/60-midge.rules"  # before 73-seat-late.rules, which acts on uaccess (systemd)
_RELOAD = "sudo udevadm control --reload && sudo udevadm trigger --subsystem-match=tty"
_GIVE = 'MODE="0660", TAG+="uaccess"'
_IGNORE = 'ENV{ID_MM_DEVICE_IGNORE}="1"'
_GROUP = "dialout"  # where the system does not tell; Arch has uucp
_CH340 = "1a86:7523"


def permission(system: System) -> list[Finding]:
    """Linux gives serial ports to a group, or by a udev rule to whoever sits at the computer."""
    barred = [port for port in system.boards if not system.may_open(port.path)]
    if not barred:
        return [Finding("permission", OK, "The ports may be opened.")] if system.boards else []
    found: list[Finding] = []
    for port in barred:
        group = system.group_of(port.path) or _GROUP
        if group in system.enrolled and group not in system.groups:
            do = f"You are in the group {group} since you logged in: log out and in again."
        else:
            do = (
                f"Join the group, then log out and in again:\n  sudo usermod -aG {group} {system.user}\n"
                f"or give the board to whoever sits here, by this line in {_RULES_FILE}:\n"
                f"  {_rule(port, _GIVE)}\n  {_RELOAD}"
            )
        found.append(Finding("permission", FIX, f"You may not open {port.path}.", do, port.path))
    return found


def held(system: System) -> list[Finding]:
    """A serial monitor, Thonny, another midge."""
    return [
        Finding("busy", FIX, f"{holder} has {port.path} open.", f"Close {holder}.", port.path)
        for port in system.ports
        if port.is_board and (holder := system.holder(port.path))
    ]


def modem_manager(system: System) -> list[Finding]:
    """ModemManager opens each new port and sends AT commands to it, for some seconds."""
    if system.platform != "linux" or "ModemManager" not in system.programs():
        return []
    ignored = [line for line in system.udev_rules().splitlines() if "ID_MM_DEVICE_IGNORE" in line]
    asked = [port for port in system.boards if not any(f'"{port.vid:04x}"' in line for line in ignored)]
    if not asked:
        return [Finding("ModemManager", OK, "ModemManager runs and leaves the boards alone.")]
    rules = "\n".join(f"  {rule}" for rule in sorted({_rule(port, _IGNORE) for port in asked}))
    return [
        Finding(
            "ModemManager",
            NOTE,
            "ModemManager runs, and talks to every board that is plugged in as if it were a modem.",
            f"Wait some seconds after plugging in, or put this into {_RULES_FILE}:\n{rules}\n  {_RELOAD}",
        )
    ]


def brltty(system: System) -> list[Finding]:
    """brltty takes the CH340's USB numbers for those of a Braille display, and unbinds its driver."""
    if system.platform != "linux":
        return []
    there = any(f"{device.vid:04x}:{device.pid:04x}" == _CH340 for device in system.usb())
    lost = there and not any(port.usb_id == _CH340 for port in system.ports)
    claimed = any("brltty" in line and _CH340[:4] in line for line in system.udev_rules().lower().splitlines())
    if not lost or not (claimed or "brltty" in system.programs()):
        return []
    return [
        Finding(
            "brltty",
            FIX,
            "brltty, for Braille displays, has taken the CH340's port away.",
            "Without such a display, remove it and plug the board in again:\n  sudo apt remove brltty\n"
            "or switch it off for USB:\n  sudo systemctl mask --now brltty-udev.service brltty.path",
        )
    ]


def macos_names(system: System) -> list[Finding]:
    """macOS: /dev/tty.* waits for a carrier."""
    if system.platform != "darwin" or not system.asked.startswith("/dev/tty."):
        return []
    other = system.asked.replace("/dev/tty.", "/dev/cu.", 1)
    return [
        Finding(
            "macOS names",
            NOTE,
            f"{system.asked} waits for a carrier that boards never give.",
            f"midge opens {other} instead; other tools do not: name that one.",
            system.asked,
        )
    ]


def _rule(port: Port, action: str) -> str:
    return f'SUBSYSTEM=="tty", ATTRS{{idVendor}}=="{port.vid:04x}", {action}'
