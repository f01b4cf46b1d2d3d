"""`midge inspect`: what a model asks of a board, before anything is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from midgehost.boards import Board
    from midgehost.codegen.inspect import Report as MachineReport
    from midgehost.errors import MidgeError
    from midgehost.models.convert import HeapNeed
    from midgehost.models.inspect import Report


def command(
    model: Annotated[Path, typer.Argument(help="A .tflite file.")],
    board: Annotated[str | None, typer.Option(help="On this board: heap, kernels and milliseconds.")] = None,
    optimize: Annotated[
        Literal["speed", "size"], typer.Option(help="The fastest kernels, or small weights.")
    ] = "speed",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Shows operators, multiply-accumulates and memory, and every reason why midge refuses the model (exit 2)."""
    from midgehost.boards import board as find_board
    from midgehost.codegen.inspect import inspect as inspect_machine
    from midgehost.errors import TooBig
    from midgehost.models.convert import load
    from midgehost.models.inspect import inspect

    target = find_board(board) if board else None
    graph = load(model)
    report = inspect(graph, target)
    refusals = report.refusals
    machine = None
    if target is not None and all(isinstance(refusal, TooBig) for refusal in refusals):
        machine = inspect_machine(graph, target, optimize)
        if machine is not None and machine.fits:
            refusals = []
    if as_json:
        found = report.as_dict() | {"refusals": [refusal.as_dict() for refusal in refusals]}
        print(json.dumps(found | ({"machine": machine.as_dict()} if machine else {})))
    else:
        _show(report, machine, model.name, target)
        for refusal in refusals:
            _say_refusal(refusal)
    return 2 if refusals else 0


def _say_refusal(refusal: MidgeError) -> None:
    from rich.console import Console
    from rich.markup import escape

    Console(highlight=False).print(f"[bold red]refused[/] {escape(str(refusal))} [dim]({refusal.code})[/]")


def _show(report: Report, machine: MachineReport | None, name: str, board: Board | None) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    operators = Table(
        title=name, title_justify="left", box=SIMPLE, pad_edge=False, title_style="bold", show_footer=True
    )
    operators.add_column("#", justify="right", style="dim")
    operators.add_column("operator", footer=f"{len(report.ops)} operators")
    operators.add_column("output")
    operators.add_column("MACs", justify="right", footer=f"{report.macs:,}")
    operators.add_column("weights B", justify="right", footer=f"{report.weight_bytes:,}")
    for op in report.ops:
        output = f"{op.dtype} {'x'.join(str(size) for size in op.output)}"
        operators.add_row(str(op.index), op.op, output, f"{op.macs:,}", f"{op.weight_bytes:,}")
    console.print(operators)
    if machine is not None:
        console.print(_machine_table(machine, [op.op for op in report.ops]))
    if report.heap is not None:
        console.print(_heap_table(report.heap, machine.heap if machine else None, board))
    if machine is not None:
        console.print(
            f"{machine.ms:,.1f} ms an inference by the cost model, weights in "
            f"{'RAM' if machine.residence == 'ram' else 'flash'}; longest call {machine.longest_call_ms:.1f} ms; "
            f"{machine.code_bytes:,} bytes of code"
        )
        if board is not None and not machine.code_fits:
            room = f"{board.name} can execute {board.exec_bytes:,} bytes of machine code"
            console.print(f"[yellow]{room}: viper or portable kernels run instead[/]")


def _machine_table(machine: MachineReport, kinds: Sequence[str]) -> Table:
    """What machine code makes of each operator."""
    from rich.box import SIMPLE
    from rich.table import Table

    title = f"machine code for {machine.arch}"
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, title_style="bold", show_footer=True)
    table.add_column("#", justify="right", style="dim")
    table.add_column("operator")
    table.add_column("kernels")
    table.add_column("pruned", justify="right")
    table.add_column("packed B", justify="right", footer=f"{machine.weight_bytes:,}")
    table.add_column("ms in RAM", justify="right", footer=f"{sum(op.ms_ram for op in machine.ops):,.2f}")
    table.add_column("in flash", justify="right", footer=f"{sum(op.ms_flash for op in machine.ops):,.2f}")
    for op, kind in zip(machine.ops, kinds, strict=True):
        pruned = str(op.removed) if op.removed else ""
        times = f"{op.ms_ram:.2f}", f"{op.ms_flash:.2f}"
        table.add_row(str(op.index), kind, op.kernels, pruned, f"{op.weight_bytes:,}", *times)
    return table


def _heap_table(need: HeapNeed, machine: HeapNeed | None, board: Board | None) -> Table:
    """Where the heap goes, for the plan of every board and for machine code; with a board, how much of its own."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, show_footer=True)
    table.add_column("heap", footer=f"of {board.heap_bytes:,} on {board.title}" if board else "")
    table.add_column("viper, portable" if machine else "bytes", justify="right", footer=f"{need.total:,}")
    if machine is not None:
        table.add_column("machine code", justify="right", footer=f"{machine.total:,}")
    for name, nbytes in asdict(need).items():
        table.add_row(name, f"{nbytes:,}", *([f"{getattr(machine, name):,}"] if machine else []))
    return table
