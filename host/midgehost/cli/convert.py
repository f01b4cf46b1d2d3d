"""`midge convert`: a .tflite file becomes a bundle for a board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[Path, typer.Argument(help="A quantised .tflite file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write the bundle to.")] = Path(),
    board: Annotated[str | None, typer.Option(help="Check against this board; default: any.")] = None,
    labels: Annotated[str | None, typer.Option(help="Class names of the first output, comma-separated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Checks a model and writes its bundle (<name>.midge), or says why it cannot run."""
    from midgehost.boards import board as find_board
    from midgehost.errors import DataError
    from midgehost.models.convert import convert

    target = find_board(board) if board else None
    bundle = convert(model, target, labels=labels.split(",") if labels else None)
    data = bundle.encode()
    path = out / f"{model.stem}.midge"
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.", "Name another folder with -o.") from error
    meta = bundle.meta
    if as_json:
        print(json.dumps({"bundle": str(path), "bytes": len(data), "plan": bundle.plan_hash, "meta": meta}))
        return
    print(f"{path}: {len(data):,} bytes, plan {bundle.plan_hash}")
    print(
        f"arena {meta['arena_bytes']:,} + scratch {meta['scratch_bytes']:,}, heap {meta['heap_bytes']:,} bytes"
        f" on {target.title if target else 'any board'}"
    )
