"""`midge board`: start a virtual board and keep it running.

Every kind of board is a row of KINDS: what starts it, and the options that it takes. An option that it does not take is
refused.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midgehost.errors import NotFound
from midgehost.ports import announce

if TYPE_CHECKING:
    from midgehost.virtual.board import Sensor

app = typer.Typer(help="Virtual boards that any serial tool can open.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Virtual boards that any serial tool can open."""


_KIND_HELP = "`virtual`: MicroPython on a pty. `emulated:pico` or `emulated:pico-w`, `@VERSION` if not the newest: the \
stock image in an emulator."


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was given on the command line. The default of every option means: not given."""

    flash: Path | None = None
    heap: str | None = None
    profile: str | None = None
    accel: Path | None = None
    columns: str | None = None
    adc: tuple[str, ...] = ()
    rate: float | None = None
    end: str | None = None
    link: Path | None = None
    bootsel: Path | None = None


@dataclass(frozen=True)
class Kind:
    """One kind of board. `start(argument, options)` gives the line to print, and runs until its context ends;
    the argument is what follows the colon."""

    start: Callable[[str, Options], AbstractContextManager[str]]
    takes: frozenset[str]


SENSOR_OPTIONS = frozenset({"accel", "columns", "adc", "rate", "end"})


@contextmanager
def _virtual(argument: str, options: Options) -> Generator[str]:
    """`virtual`: MicroPython on a pty."""
    from midgehost.virtual.board import VirtualBoard

    if argument:
        raise _no_such_kind(f"virtual:{argument}")
    if options.bootsel is not None:
        with _flashable(options.bootsel, options) as path:
            yield path
        return
    profile, sensors = options.profile or "pico", wired(options)
    with (
        VirtualBoard(options.flash, heap=options.heap, profile=profile, sensors=sensors, link=options.link) as board,
        announce(board.port),
    ):
        yield board.path


@contextmanager
def _flashable(drive: Path, options: Options) -> Generator[str]:
    """`virtual --bootsel DIR`: a Pico that leaves its line for a drive when asked to, and takes firmware there."""
    from midgehost.ports import Port
    from midgehost.virtual.virtual_pico import VirtualPico

    if options.link is None or options.profile not in (None, "pico"):
        raise NotFound("A board with --bootsel is a Pico whose port comes and goes.", "Name the port: --link PATH.")
    board = VirtualPico(drive, flash=options.flash, heap=options.heap, sensors=wired(options), link=options.link)
    with board as pico, announce(Port(str(options.link), pico.board.port.serial_number, virtual="virtual pico")):
        yield pico.path


@contextmanager
def _emulated(argument: str, options: Options) -> Generator[str]:
    """`emulated:pico`, `emulated:pico-w`: the stock image in an emulator of its chip."""
    from midgehost.virtual.emulated import kind_and_argument
    from midgehost.virtual.pico.board import EmulatedBoard

    kind, version, flash = kind_and_argument(argument)
    with (
        EmulatedBoard(
            kind, version=version, flash=options.flash or flash, sensors=wired(options), link=options.link
        ) as board,
        announce(board.port),
    ):
        yield board.path


@contextmanager
def _esp(chip: str, options: Options) -> Generator[str]:
    """`esp32`: a board with an Espressif chip, at a URL that esptool and mpremote know by the environment that is
    printed with it."""
    from midgehost.virtual.esp.board import EspBoard
    from midgehost.virtual.esp.environment import environment

    with EspBoard.first_free(chip, options.flash, sensors=wired(options)) as board, announce(board.port):
        for name, value in environment().items():
            print(f"esptool and mpremote know it with: export {name}={value}", file=sys.stderr)
        yield board.url


def _esp_kind(chip: str) -> Kind:
    def start(argument: str, options: Options) -> AbstractContextManager[str]:
        if argument:
            raise _no_such_kind(f"{chip}:{argument}")
        return _esp(chip, options)

    return Kind(start, SENSOR_OPTIONS | {"flash"})


KINDS: dict[str, Kind] = {
    "virtual": Kind(_virtual, SENSOR_OPTIONS | {"flash", "heap", "profile", "link", "bootsel"}),
    "emulated": Kind(_emulated, SENSOR_OPTIONS | {"flash", "link"}),
    **{chip: _esp_kind(chip) for chip in ("esp32", "esp32-s3", "esp32-c3", "esp32-c6")},
}


@app.command()
def start(
    kind: Annotated[str, typer.Argument(help=_KIND_HELP)] = "virtual",
    flash: Annotated[Path | None, typer.Option(help="Keep the board's flash in this file.")] = None,
    heap: Annotated[str | None, typer.Option(help="Heap limit, e.g. 192k; the profile's by default.")] = None,
    profile: Annotated[str | None, typer.Option(help="What it pretends to be: esp32 or pico (default).")] = None,
    accel: Annotated[Path | None, typer.Option(help="A CSV recording for an MPU-6050 at 0x68, in g.")] = None,
    columns: Annotated[str | None, typer.Option(help="The recording's three columns; default: x,y,z.")] = None,
    adc: Annotated[list[str] | None, typer.Option(help="PIN=FILE:COLUMN, values 0 to 1; repeatable.")] = None,
    rate: Annotated[float | None, typer.Option(help="Play at this many Hz; default: one sample a reading.")] = None,
    end: Annotated[str | None, typer.Option(help="After the last sample: hold, loop (default) or stop.")] = None,
    link: Annotated[Path | None, typer.Option(help="A symbolic link that always names the board's port.")] = None,
    bootsel: Annotated[Path | None, typer.Option(help="A Pico's drive appears here in BOOTSEL mode.")] = None,
) -> None:
    """Starts a board, prints the path of its serial port and stays until Ctrl-C."""
    options = Options(
        flash=flash,
        heap=heap,
        profile=profile,
        accel=accel,
        columns=columns,
        adc=tuple(adc or ()),
        rate=rate,
        end=end,
        link=link,
        bootsel=bootsel,
    )
    name, _, argument = kind.partition(":")
    if name not in KINDS:
        raise _no_such_kind(kind)
    for field in fields(options):
        if getattr(options, field.name) != field.default and field.name not in KINDS[name].takes:
            raise NotFound(f"A board of kind {kind} has no --{field.name}.", "Leave it out.")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: ended.set())
    with KINDS[name].start(argument, options) as line:
        print(line, flush=True)
        while not ended.wait(0.5):
            pass


def wired(options: Options) -> list[Sensor]:
    """The sensors that --accel and --adc ask for. Raises NotFound, DataError."""
    from midgehost.virtual.sensors import AnalogueInput, Mpu6050, Recording

    end = options.end or "loop"
    if end not in ("hold", "loop", "stop"):
        raise NotFound(f"A recording cannot end with {end!r}.", "Choose hold, loop or stop.")
    sensors: list[Sensor] = []
    if options.accel is not None:
        columns = options.columns or "x,y,z"
        if len(columns.split(",")) != 3:
            raise NotFound(f"--columns {columns!r} does not name three axes.", "Write them as x,y,z.")
        sensors.append(Mpu6050(Recording.read(options.accel, columns.split(","), options.rate, end)))
    for wiring in options.adc:
        pin, _, source = wiring.partition("=")
        path, _, column = source.rpartition(":")
        if not (pin.isascii() and pin.isdigit()) or not path:
            raise NotFound(f"--adc {wiring!r} does not read.", "Write PIN=FILE:COLUMN, e.g. 26=room.csv:co2.")
        sensors.append(AnalogueInput(int(pin), Recording.read(path, [column], options.rate, end)))
    return sensors


def _no_such_kind(kind: str) -> NotFound:
    return NotFound(f"There is no board to start called {kind!r}.", f"Kinds: {', '.join(KINDS)}.")
