"""Board files: one TOML a board, schema-checked. Adding a board is adding a file.

midge ships `boards/`; a person's own lie in `$XDG_CONFIG_HOME/midge/boards`, and one there replaces the shipped one of
the same name. docs/boards.md explains every key.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from midgehost.errors import BoardError, NotFound
from midgehost.resources import boards_dir, config_dir

Bytes = Annotated[int, msgspec.Meta(gt=0)]
Pin = Annotated[int, msgspec.Meta(ge=0, le=54)]
UsbId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{4}:[0-9a-f]{4}$")]  # VID:PID
Pattern = Annotated[str, msgspec.Meta(min_length=1)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class FirmwareImage(_Table, frozen=True, kw_only=True):
    """`[[firmware]]`: one stock image. Its file on micropython.org is `<file>-<date>-v<version>.<format>`."""

    file: Annotated[str, msgspec.Meta(pattern="^[A-Z0-9_]+(-[A-Z0-9_]+)?$")]  # RPI_PICO2-RISCV: board id and variant
    arch: str  # the mpy arch that it reports
    family: int | None = None  # of its UF2 blocks

    @property
    def page(self) -> str:
        """The board id that names its page on micropython.org."""
        return self.file.partition("-")[0]


class Flash(_Table, frozen=True, kw_only=True):
    """`[flash]`: how an image gets onto the board."""

    method: Literal["esptool", "uf2"]
    chip: str = ""  # esptool's name of the chip
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0  # of the image in flash, for esptool
    drive: str = ""  # Board-ID in the BOOTSEL drive's INFO_UF2.TXT

    @property
    def format(self) -> str:
        """The ending of its images' names."""
        return "uf2" if self.method == "uf2" else "bin"


class Usb(_Table, frozen=True, kw_only=True):
    """`[usb]`: what it says of itself on USB, or what its serial bridge says."""

    running: tuple[UsbId, ...] = ()
    bootloader: tuple[UsbId, ...] = ()


class I2cPins(_Table, frozen=True, kw_only=True):
    """`[i2c.<bus>]`: the pins that its bus can use; empty: any of `pins.gpio`."""

    sda: tuple[Pin, ...] = ()
    scl: tuple[Pin, ...] = ()


class Pins(_Table, frozen=True, kw_only=True):
    """`[pins]`: GPIO numbers for sensors and actions; none that the radio, the flash or the console needs."""

    gpio: tuple[Pin, ...]  # inputs and outputs
    adc: tuple[Pin, ...]  # analogue inputs that always work
    adc_shared: tuple[Pin, ...] = ()  # analogue inputs of ADC2, which Wi-Fi takes away


class Problem(_Table, frozen=True, kw_only=True):
    """`[[problem]]`: what is known to be broken in stock firmware, and how midge or the person lives with it."""

    what: Annotated[str, msgspec.Meta(min_length=1)]
    issue: Annotated[str, msgspec.Meta(pattern=r"^[\w.-]+/[\w.-]+#\d+$")]  # micropython/micropython#8513
    do: str = ""

    @property
    def url(self) -> str:
        """The issue's page."""
        return f"https://github.com/{self.issue.replace('#', '/issues/')}"


class Board(_Table, frozen=True, kw_only=True):
    """One board. Sizes in bytes, clock in MHz. `judged` names the numbers that nobody has measured."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9-]*$")]
    title: str
    chip: str
    platform: str = ""  # sys.platform; empty: any
    machine: tuple[Pattern, ...] = ()  # regular expressions, one is found in sys.implementation._machine
    arches: tuple[str, ...]  # mpy arches its stock images report, see DESIGN.md; empty: bytecode and viper only
    clock_mhz: Bytes
    heap_bytes: Bytes  # free after boot on the stock image
    heap_online_bytes: Bytes | None = None  # free with Wi-Fi and a TLS connection
    flash_bytes: Bytes
    fs_bytes: Bytes  # the littlefs partition
    exec_bytes: Bytes | None = None  # for machine code; None: code lies on the heap
    viper_cycles_per_mac: Bytes = 70  # sizes the slices of a viper plan, see inference
    flash_cycles_per_byte: Annotated[float, msgspec.Meta(ge=0)] = 7.0  # of weights read from flash by a running model
    judged: tuple[str, ...] = ()
    radio: tuple[Literal["wifi", "ble"], ...] = ()
    tested_firmware: tuple[str, ...] = ()  # versions of the stock image that midge's tests have run on
    firmware: tuple[FirmwareImage, ...] = ()  # the first is the default
    flash: Flash | None = None
    usb: Usb = Usb()
    pins: Pins | None = None  # None: any pin
    i2c: dict[str, I2cPins] = {}  # by bus number; empty: any bus
    default_i2c: dict[Literal["i2c", "sda", "scl"], int] = msgspec.field(
        default_factory=lambda: {"i2c": 0, "sda": 4, "scl": 5}
    )
    default_adc: Pin = 26
    sensors: tuple[str, ...] = ()  # what is soldered onto it
    problem: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def answers(self, machine: str) -> bool:
        """Whether its stock firmware says that of itself (sys.implementation._machine)."""
        return any(re.search(pattern, machine) for pattern in self.machine)

    def image(self, arch: str | None = None) -> FirmwareImage:
        """The stock image for an arch, by default the first. Raises NotFound."""
        for image in self.firmware:
            if arch in (None, image.arch):
                return image
        known = ", ".join(image.arch for image in self.firmware) or "none"
        what = f"{self.title} has no stock image" + (f" for {arch}." if arch else ".")
        raise NotFound(what, f"Known: {known}.")


class BadBoardFile(BoardError):
    """A board file does not read: `key` is dotted, empty where the whole file is wrong."""

    code = "board.bad_file"

    def __init__(self, path: str, key: str, why: str) -> None:
        self.path, self.key, self.why = path, key, why
        where = f"{path}: {key}" if key else path
        super().__init__(f"{where}: {why}.", "Correct the file; docs/boards.md explains every key.")


def user_boards_dir() -> Path:
    """Where a person's own board files lie."""
    return config_dir() / "boards"


def all_boards() -> dict[str, Board]:
    """Every board by name, a person's own files included. Raises BadBoardFile."""
    return _read_folders(boards_dir(), user_boards_dir())


def board(name: str) -> Board:
    """The board of that name. Raises NotFound, naming the nearest, BadBoardFile."""
    boards = all_boards()
    if name in boards:
        return boards[name]
    near = difflib.get_close_matches(name, boards, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known boards: {', '.join(boards)}."
    raise NotFound(f"There is no board file named {name!r}.", hint)


def identify(platform: str, machine: str) -> Board | None:
    """The board that answers so (`sys.platform`, `sys.implementation._machine`); None if that fits none or several."""
    fitting = [board for board in all_boards().values() if board.platform in ("", platform) and board.answers(machine)]
    return fitting[0] if len(fitting) == 1 else None


@cache
def _read_folders(*folders: Path) -> dict[str, Board]:
    found: dict[str, Board] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem):
            found[path.stem] = read_board(path)
    return found


def read_board(path: Path) -> Board:
    """One board file. Raises BadBoardFile with the key that is wrong."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadBoardFile(str(path), "", f"it is no readable TOML ({error})") from None
    try:
        board = msgspec.convert(raw, Board)
    except msgspec.ValidationError as error:
        why, _, place = str(error).partition(" - at `$")
        raise BadBoardFile(str(path), place.rstrip("`").lstrip("."), why) from None
    key, why = _contradiction(board, path.stem)
    if why:
        raise BadBoardFile(str(path), key, why)
    return board


def _contradiction(board: Board, stem: str) -> tuple[str, str]:
    """The first key that does not fit the others, and why; two empty texts if all is well."""
    if board.name != stem:
        return "name", f"{board.name!r} is not the file's name"
    if board.fs_bytes > board.flash_bytes:
        return "fs_bytes", "the file system is larger than the flash"
    if board.heap_online_bytes is not None and board.heap_online_bytes > board.heap_bytes:
        return "heap_online_bytes", "it is more than heap_bytes"
    for pattern in board.machine:
        try:
            re.compile(pattern)
        except re.error as error:
            return "machine", f"{pattern!r} is no regular expression ({error})"
    for name in board.judged:
        if not isinstance(getattr(board, name, None), int | float):
            return "judged", f"{name!r} is no number of this file"
    return _flash_contradiction(board) or _pin_contradiction(board) or ("", "")


def _flash_contradiction(board: Board) -> tuple[str, str] | None:
    if board.firmware and board.flash is None:
        return "flash", "the table is missing: images need a way onto the board"
    for image in board.firmware:
        if image.arch not in board.arches:
            return "firmware.arch", f"{image.arch!r} is not among the board's arches"
        if board.flash is not None and (image.family is None) == (board.flash.method == "uf2"):
            return "firmware.family", "it belongs to method uf2, and is needed there"
    if board.flash is not None and bool(board.flash.chip) != (board.flash.method == "esptool"):
        return "flash.chip", "it belongs to method esptool, and is needed there"
    return None


def _pin_contradiction(board: Board) -> tuple[str, str] | None:
    for bus in board.i2c:
        if bus not in ("0", "1"):
            return f"i2c.{bus}", "boards have the buses 0 and 1"
    if set(board.default_i2c) != {"i2c", "sda", "scl"}:
        return "default_i2c", "it needs the keys i2c, sda and scl"
    number = board.default_i2c["i2c"]
    if board.i2c and str(number) not in board.i2c:
        return "default_i2c.i2c", f"the board has no bus {number}"
    for role in ("sda", "scl"):
        allowed = i2c_pins(board, number, role)
        if allowed and board.default_i2c[role] not in allowed:
            return f"default_i2c.{role}", f"bus {number} cannot use pin {board.default_i2c[role]}"
    if board.pins is not None and board.default_adc not in board.pins.adc:
        return "default_adc", f"pin {board.default_adc} is not in pins.adc"
    return None


def i2c_pins(board: Board, bus: int, role: Literal["sda", "scl"]) -> tuple[int, ...]:
    """The pins that may be SDA or SCL of a bus of the board; empty: any."""
    pins = board.i2c.get(str(bus), I2cPins())
    return (pins.sda if role == "sda" else pins.scl) or (board.pins.gpio if board.pins else ())
