"""`midge boards`: what midge knows of each board."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from midgehost.boards import Board


def command(
    name: Annotated[str | None, typer.Argument(help="Everything about this board.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Lists the boards; with a name, all that its file says. `~` marks numbers that nobody has measured."""
    import msgspec

    from midgehost.boards import all_boards
    from midgehost.boards import board as find_board

    shown = [find_board(name)] if name else list(all_boards().values())
    if as_json:
        tables = [msgspec.to_builtins(board) for board in shown]
        print(json.dumps(tables[0] if name else tables))
    elif name:
        _show(shown[0])
    else:
        _list(shown)


def _list(boards: list[Board]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from midgehost.boards import user_boards_dir

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("name", "arches", "radio"):
        table.add_column(heading, no_wrap=True)
    for heading in ("MHz", "heap KB", "flash MB", "files MB"):
        table.add_column(heading, justify="right")
    table.add_column("stock image", no_wrap=True)
    for board in boards:
        megabytes = [f"{nbytes / 2**20:.1f}" for nbytes in (board.flash_bytes, board.fs_bytes)]
        numbers = [_number(board, "clock_mhz"), _number(board, "heap_bytes", 1000), *megabytes]
        stock = board.firmware[0].file if board.firmware else "-"
        radio = " ".join(board.radio) or "-"
        table.add_row(board.name, "\n".join(board.arches), radio, *numbers, stock)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"`midge boards NAME` says more. Your own board files: {user_boards_dir()}", soft_wrap=True)


def _show(board: Board) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in _facts(board):
        table.add_row(key, escape(value))
    console = Console(highlight=False)
    console.print(f"[bold]{board.name}[/]  {escape(board.title)}")
    console.print(table)


def _facts(board: Board) -> list[tuple[str, str]]:
    """The board file in words, a row a fact."""
    from midgehost.boards import i2c_pins

    rows = [
        ("chip", f"{board.chip}, {_number(board, 'clock_mhz')} MHz, {' or '.join(board.arches) or 'bytecode only'}"),
        ("heap", f"{_number(board, 'heap_bytes')} bytes" + _online(board)),
        ("flash", f"{_number(board, 'flash_bytes')} bytes, {_number(board, 'fs_bytes')} of them for files"),
        ("machine code", _code(board)),
        ("radio", ", ".join(board.radio) or "none"),
    ]
    rows += [("firmware", f"{image.file} ({image.arch})") for image in board.firmware]
    rows.append(("tested on", ", ".join(board.tested_firmware) or "no stock image yet"))
    if board.flash is not None:
        rows.append(("flashed", _flash(board)))
    if board.usb.running:
        rows.append(("USB", f"{', '.join(board.usb.running)}; to be flashed {', '.join(board.usb.bootloader)}"))
    if board.pins is not None:
        rows.append(("GPIO", _numbers(board.pins.gpio)))
        rows.append(("analogue", f"{_numbers(board.pins.adc)}; default {board.default_adc}"))
        if board.pins.adc_shared:
            rows.append(("", f"{_numbers(board.pins.adc_shared)} only without Wi-Fi: refused"))
    for bus in map(int, board.i2c):
        sda, scl = _numbers(i2c_pins(board, bus, "sda")), _numbers(i2c_pins(board, bus, "scl"))
        rows.append((f"I2C {bus}", "any two of GPIO" if sda == scl else f"SDA {sda}; SCL {scl}"))
    rows.append(("default I2C", "bus {i2c}, SDA {sda}, SCL {scl}".format(**board.default_i2c)))
    rows += [("on board", sensor) for sensor in board.sensors]
    rows += [("broken", f"{problem.what}: {problem.do} ({problem.url})") for problem in board.problem]
    rows += [("note", note) for note in board.notes]
    return rows


def _number(board: Board, key: str, unit: int = 1) -> str:
    """A number of the file in units of so many, `~` before a judged one."""
    value: Any = getattr(board, key)
    return f"{'~' if key in board.judged else ''}{value // unit:,}"


def _online(board: Board) -> str:
    if board.heap_online_bytes is None:
        return ""
    return f" after boot, {_number(board, 'heap_online_bytes')} with Wi-Fi and TLS"


def _code(board: Board) -> str:
    return "on the heap" if board.exec_bytes is None else f"at most {_number(board, 'exec_bytes')} bytes"


def _flash(board: Board) -> str:
    if board.flash is None:
        return ""
    if board.flash.method == "esptool":
        return f"esptool, chip {board.flash.chip}, at {board.flash.offset:#x}"
    families = ", ".join(f"{image.family:08x}" for image in board.firmware if image.family is not None)
    return f"UF2 on the drive {board.flash.drive}, family {families}"


def _numbers(pins: tuple[int, ...]) -> str:
    """Pin numbers with runs joined: `0-22, 26-28`."""
    runs: list[list[int]] = []
    for pin in sorted(pins):
        if runs and pin == runs[-1][1] + 1:
            runs[-1][1] = pin
        else:
            runs.append([pin, pin])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
