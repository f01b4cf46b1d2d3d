"""Is a board on USB at all, and does the system make a port of it."""

from __future__ import annotations

from midgehost.deploy.doctor.finding import FIX, NOTE, OK, Finding
from midgehost.deploy.doctor.system import System, UsbDevice
from midgehost.ports import BRIDGES, NATIVE

_BOOTSEL = {(0x2E8A, 0x0003): "pico", (0x2E8A, 0x000F): "pico2"}  # the drives that RP2040 and RP2350 show
_MODULES = {0x10C4: "cp210x", 0x1A86: "ch341", 0x0403: "ftdi_sio", 0x067B: "pl2303"}  # Linux; the others: cdc_acm
_ESPRESSIF = 0x303A
_DRIVER_PAGES = (
    "Windows 10 and macOS 11 know most. Else:\n"
    "  CP210x: silabs.com, 'CP210x VCP drivers'\n"
    "  CH340, CH9102: wch-ic.com, 'CH341SER', 'CH34XSER_MAC'"
)
_LISTING = {
    "linux": "lsusb",
    "darwin": "system_profiler SPUSBDataType",
    "win32": "pnputil /enum-devices /connected",
}


def cable(system: System) -> list[Finding]:
    """A cable that only charges: the board lights up, and USB does not know it."""
    devices = [device for device in system.usb() if _is_board(device)]
    if devices or system.boards:
        return [Finding("cable", OK, f"Boards on USB: {len(devices) or len(system.boards)}.")]
    return [
        Finding(
            "cable",
            NOTE if any(port.virtual for port in system.ports) else FIX,
            "No board is on USB.",
            "Plug one in, and look what appears when you do:\n"
            f"  {_LISTING.get(system.platform, 'lsusb')}\n"
            "If nothing does, the cable only charges: take one that carries data. A board's light proves nothing.",
        )
    ]


def driver(system: System) -> list[Finding]:
    """On the bus, and no driver made a port of it."""
    if system.platform != "linux":
        if system.boards:
            return []
        return [Finding("driver", NOTE, "A bridge without a driver shows no port here.", _DRIVER_PAGES)]
    listed = {(port.vid, port.pid) for port in system.ports}
    found: list[Finding] = []
    for device in system.usb():
        number = (device.vid, device.pid)
        if number in listed or not (device.vid in _MODULES or (_is_board(device) and device.serial)):
            continue
        module = _MODULES.get(device.vid, "cdc_acm")
        found.append(
            Finding(
                "driver",
                FIX,
                f"{_title(device)} is on USB, but has no serial port.",
                f"Load its driver:\n  sudo modprobe {module}\n"
                "In a container or virtual machine, pass the USB device through to it.",
            )
        )
    return found


def bootloader(system: System) -> list[Finding]:
    """A Pico that waits for firmware."""
    return [
        Finding(
            "bootloader",
            FIX,
            f"A board ({name}) is in BOOTSEL: it has no firmware, or the button was held.",
            f"Give it firmware:\n  midge flash --board {name}\nor plug it in again without holding BOOTSEL.",
        )
        for device in system.usb()
        if (name := _BOOTSEL.get((device.vid, device.pid)))
    ]


def two_ports(system: System) -> list[Finding]:
    """ESP32-S3 boards have two sockets: a bridge (UART), and the chip's own USB."""
    own = [port for port in system.boards if port.vid == _ESPRESSIF]
    bridges = [port for port in system.boards if port.vid in BRIDGES]
    if not own or not bridges:
        return []
    return [
        Finding(
            "two ports",
            NOTE,
            f"{own[0].path} is an Espressif chip's own USB, {bridges[0].path} a bridge: an S3 board has both sockets.",
            f"If it is one board, use one of them. {bridges[0].path} stays when the board resets, {own[0].path} is "
            "faster. After flashing through the chip's own USB its port has another name.",
        )
    ]


def _is_board(device: UsbDevice) -> bool:
    return device.vid in BRIDGES or device.vid in NATIVE


def _title(device: UsbDevice) -> str:
    name = device.product or BRIDGES.get(device.vid, "a board")
    return f"{name} ({device.vid:04x}:{device.pid:04x})"
