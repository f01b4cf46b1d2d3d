"""`midge convert`: a .tflite file becomes a bundle for a board."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def command(
    model: Annotated[Path, typer.Argument(help="A quantised .tflite file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write the bundle to.")] = Path(),
    board: Annotated[str | None, typer.Option(help="Convert for this board; default: any, no machine code.")] = None,
    arch: Annotated[str | None, typer.Option(help="Machine code for this arch; default: the board's first.")] = None,
    optimize: Annotated[
        Literal["speed", "size"], typer.Option(help="The fastest kernels, or small weights.")
    ] = "speed",
    weights: Annotated[
        Literal["auto", "ram", "flash"], typer.Option(help="Where they lie while the model runs.")
    ] = "auto",
    fallback: Annotated[bool, typer.Option(help="Keep the plan for boards that cannot run machine code.")] = True,
    labels: Annotated[str | None, typer.Option(help="Class names of the first output, comma-separated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Checks a model and writes its bundle (<name>.midge), or says why it cannot run."""
    from midgehost.boards import board as find_board
    from midgehost.codegen.convert import convert
    from midgehost.codegen.lowering import machine_arch, require_arch
    from midgehost.errors import DataError, WrongArch

    target = find_board(board) if board else None
    if arch is not None:
        arch = require_arch(arch)
        if target is not None and arch not in map(machine_arch, target.arches):
            raise WrongArch(target.title, ", ".join(target.arches), arch)
    elif target is not None:
        arch = next(iter(target.arches), None)
    if machine_arch(arch) is None and (optimize, weights, fallback) != ("speed", "auto", True):
        raise DataError(
            "--optimize, --weights and --no-fallback are about machine code.", "Name a board that has it, or an --arch."
        )
    bundle = convert(
        model,
        target,
        arch,
        labels=labels.split(",") if labels else None,
        optimize=optimize,
        weights=weights,
        fallback=fallback,
    )
    data = bundle.encode()
    path = out / f"{model.stem}.midge"
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.", "Name another folder with -o.") from error
    meta = bundle.meta
    plan = bundle.plan_hash if bundle.calls or bundle.machine is None else bundle.machine_hash
    if as_json:
        print(json.dumps({"bundle": str(path), "bytes": len(data), "plan": plan, "meta": meta}))
        return
    print(f"{path}: {len(data):,} bytes, plan {plan}")
    on = f"on {target.title}" if target else "on any board"
    if bundle.calls:
        print(f"viper, portable: {_memory(meta)} {on}")
    if bundle.machine is not None:
        machine = meta["machine"]
        where = "in flash" if machine["residence"] == "flash" else "in RAM"
        print(f"machine code for {machine['arch']}: {_memory(machine)}, weights {where}")
    elif target is not None and machine_arch(arch) is not None:
        print(f"no machine code: {target.title} cannot execute that much of it")


def _memory(need: Mapping[str, Any]) -> str:
    return f"arena {need['arena_bytes']:,} + scratch {need['scratch_bytes']:,}, heap {need['heap_bytes']:,} bytes"
