"""`midge inspect`: what a model asks of a board, before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


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
        return 2 if report.refusals else 0

    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{model.name}", title_justify="left", caption_justify="left")
    for name in ("#", "MACs", "weights B"):
        table.add_column(name, justify="right")
    table.add_column("operator")
    table.add_column("output")
    for op in report.ops:
        shape = "x".join(str(n) for n in op.output)
        table.add_row(str(op.index), f"{op.macs:,}", f"{op.weight_bytes:,}", op.op, f"{op.dtype} {shape}")
    table.caption = f"{report.macs:,} MACs, {report.weight_bytes:,} bytes of weights"
    console.print(table)
    if report.heap is not None:
        heap = report.heap
        have = f" of {target.heap_bytes:,} on {target.title}" if target else ""
        console.print(
            f"heap {heap.total:,}{have}: arena {heap.arena:,}, scratch {heap.scratch:,}, weights {heap.weights:,},"
            f" parameters {heap.params:,}, plan {heap.plan:,}, code {heap.overhead:,} bytes",
            highlight=False,
        )
    for refusal in report.refusals:
        console.print(f"refused: {refusal} [{refusal.code}]", style="red", markup=False, highlight=False)
    return 2 if report.refusals else 0
