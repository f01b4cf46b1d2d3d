"""`midge verify`: a model on a board against golden vectors, value by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from midgehost.cli.port import PortOrVirtual
from midgehost.errors import DataError, ModelError


def command(
    model: Annotated[Path | None, typer.Argument(help="A .tflite file.")] = None,
    golden: Annotated[Path | None, typer.Option(help="An .npz with in0.. and out0...")] = None,
    port: PortOrVirtual = "",
    kernels: Annotated[str | None, typer.Option(help="machine, viper or portable; default: the best.")] = None,
    heap: Annotated[str | None, typer.Option(help="Heap of a virtual board; default: a Pico's 192k.")] = None,
    taps: Annotated[Path | None, typer.Option(help="An .npz with every operator's output.")] = None,
    every: Annotated[Path | None, typer.Option("--all", help="A folder: every model with a golden file.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many inputs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a model.")] = False,
) -> int:
    """Runs every golden input on the board and counts the values that differ.

    Exit 1 if any does, 2 if a model of --all is refused; the others are checked all the same.
    """
    from midgehost import connect
    from midgehost.deploy.runner import ModelOnBoard
    from midgehost.deploy.verify import first_difference, verify

    pairs = _pairs(model, golden, every)
    options: dict[str, Any] = {"heap": heap} if heap else {}
    wrong = refused = 0
    for path, vectors in pairs:
        with connect(port, **options) as board:
            try:
                on_board = ModelOnBoard(board.transport, board.info, path, kernels, pruned=taps is None)
            except ModelError as error:
                if every is None:
                    raise
                refused += 1
                if as_json:
                    print(json.dumps({"model": path.stem, "error": error.as_dict()}), flush=True)
                typer.echo(f"{path.stem}: refused: {error} [{error.code}]", err=True)
                continue
            verdict = verify(on_board, path.stem, port, vectors, limit)
            wrong += verdict.mismatches
            if as_json:
                print(verdict.as_json(), flush=True)
            else:
                differ = f"{verdict.mismatches} of {verdict.values:,} values differ"
                print(f"{verdict.model}: {differ}, {verdict.inputs} inputs, {verdict.kernels} kernels on {port}")
            if taps is not None:
                found = first_difference(on_board, path, taps, vectors)
                typer.echo(found or "every operator agrees with the taps", err=as_json)
                wrong += found is not None
    return 1 if wrong else 2 if refused else 0


def _pairs(model: Path | None, golden: Path | None, every: Path | None) -> list[tuple[Path, Path]]:
    """(model, golden file) to check."""
    if every is not None:
        found = [(path, path.with_suffix(".golden.npz")) for path in sorted(every.glob("*.tflite"))]
        pairs = [pair for pair in found if pair[1].exists() and _is_int8(pair[0])]
        if not pairs:
            raise DataError(f"{every} holds no int8 model with a golden file.", "Name them x.tflite and x.golden.npz.")
        return pairs
    if model is None or golden is None:
        raise DataError("There is nothing to verify.", "Give MODEL and --golden FILE, or --all DIR.")
    return [(model, golden)]


def _is_int8(path: Path) -> bool:
    """Whether midge computes the model; says so where it does not."""
    from midgehost.models import checks
    from midgehost.models.convert import load

    refusals = checks.refusals(load(path))
    if refusals:
        typer.echo(f"{path.stem}: left out: {refusals[0]} [{refusals[0].code}]", err=True)
    return not refusals
