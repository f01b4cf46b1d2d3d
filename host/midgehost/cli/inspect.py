"""`midge inspect`: what a model asks of a board, before anything is written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from midgehost.boards import Board
    from midgehost.models.convert import HeapNeed
    from midgehost.models.inspect import Report


def command(
    model: Annotated[Path, typer.Argument(help="A .tflite file.")],
    board: Annotated[str | None, typer.Option(help="Compare with this board's heap.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Shows operators, multiply-accumulates and memory, and every reason why midge refuses the model (exit 2)."""
    from midgehost.boards import board as find_board
    from midgehost.models.convert import load
    from midgehost.models.inspect import inspect

    target = find_board(board) if board else None
    report = inspect(load(model), target)
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        _show(report, model.name, target)
    return 2 if report.refusals else 0


def _show(report: Report, name: str, board: Board | None) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
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
    if report.heap is not None:
        console.print(_heap_table(report.heap, board))
    for refusal in report.refusals:
        console.print(f"[bold red]refused[/] {escape(str(refusal))} [dim]({refusal.code})[/]")


def _heap_table(need: HeapNeed, board: Board | None) -> Table:
    """Where the heap goes; with a board, how much of its own that is."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, show_footer=True)
    table.add_column("heap", footer=f"of {board.heap_bytes:,} on {board.title}" if board else "")
    table.add_column("bytes", justify="right", footer=f"{need.total:,}")
    for name, nbytes in asdict(need).items():
        table.add_row(name, f"{nbytes:,}")
    return table
