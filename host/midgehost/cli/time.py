"""`midge time`: a model's machine code on an emulated core: what each operator costs, and whether values are right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midgehost.errors import DataError

if TYPE_CHECKING:
    from midgehost.codegen.sim import Core
    from midgehost.codegen.sim.model import Run
    from midgehost.models.graph import Graph


def command(
    model: Annotated[Path, typer.Argument(help="A .tflite file.")],
    arch: Annotated[str, typer.Option(help="armv6m, armv7emsp, rv32imc or xtensawin.")],
    golden: Annotated[Path | None, typer.Option("--input", help="An .npz with in0.. and out0..: its first.")] = None,
    form: Annotated[str, typer.Option(help="Of weights: speed or size.")] = "speed",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Runs one inference on the emulated core and compares every operator's output with the reference.

    The input is the first golden vector, of --input or of MODEL's .golden.npz beside it, else a seeded one. Weights
    and data lie in memory that never waits. Exit 1 if a value differs or a routine does what it must not.
    """
    from midgehost.codegen import sim
    from midgehost.codegen.convert import plan_for
    from midgehost.codegen.sim.model import LoadedModel
    from midgehost.models import checks
    from midgehost.models.convert import load, operator_macs

    if form not in ("speed", "size"):
        raise DataError(f"There is no form {form!r}.", "Choose speed or size.")
    graph = load(model)
    checks.check(graph)
    inputs, outputs = _vector(graph, model, golden)
    with sim.core(arch) as core:
        plan = plan_for(graph, None, arch, "speed" if form == "speed" else "size", "ram")
        try:
            run = LoadedModel(core, plan).run(inputs, check="first")
        except sim.Fault as fault:
            typer.echo(f"midge: {fault}", err=True)
            return 1
        mismatches = run.mismatches + sum(
            int((got != want).sum()) for got, want in zip(run.outputs, outputs, strict=False)
        )
        run = _with_nominal_macs(run, [operator_macs(node) for node in graph.nodes])
        if as_json:
            print(json.dumps(_as_dict(run, core, mismatches)))
        else:
            _show(run, core, model.name, mismatches)
    return 1 if mismatches else 0


def _vector(graph: Graph, model: Path, golden: Path | None) -> tuple[list[Any], list[Any]]:
    """Inputs of one inference, and the outputs that are known for them (none for seeded inputs). Raises DataError."""
    import numpy as np

    from midgehost.deploy.verify import read_golden

    beside = model.with_suffix(".golden.npz")
    if golden is None and not beside.exists():
        rng = np.random.default_rng(1)
        tensors = [graph.tensors[index] for index in graph.inputs]
        return [rng.integers(-128, 128, tensor.shape).astype(tensor.dtype) for tensor in tensors], []
    path = golden or beside
    sides: list[list[Any]] = []
    for arrays, indices in zip(read_golden(path), (graph.inputs, graph.outputs), strict=True):
        tensors = [graph.tensors[index] for index in indices]
        if [(array.dtype.name, array[0].size) for array in arrays] != [(t.dtype, t.elements) for t in tensors]:
            raise DataError(f"{path} holds vectors of another model.", "Give its own golden file.")
        sides.append([array[0].reshape(tensor.shape) for array, tensor in zip(arrays, tensors, strict=True)])
    return sides[0], sides[1]


def _with_nominal_macs(run: Run, macs: Sequence[int]) -> Run:
    """The run with the MACs of the model as it was: a pruned operator does fewer."""
    if len(macs) != len(run.layers):
        return run
    return replace(run, layers=tuple(replace(layer, macs=n) for layer, n in zip(run.layers, macs, strict=True)))


def _as_dict(run: Run, core: Core, mismatches: int) -> dict[str, Any]:
    return {
        "arch": core.arch,
        "unit": core.unit,
        "estimate": core.estimate,
        "layers": [{"op": layer.op, "macs": layer.macs, "count": layer.count} for layer in run.layers],
        "total": run.total,
        "longest_call": run.longest_call,
        "mismatches": mismatches,
    }


def _show(run: Run, core: Core, name: str, mismatches: int) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from midgehost.codegen.cost import CLOCK_MHZ

    clock = CLOCK_MHZ[core.arch]
    macs = sum(layer.macs for layer in run.layers)
    table = Table(title=f"{name} on {core.arch}", title_justify="left", box=SIMPLE, pad_edge=False, show_footer=True)
    table.add_column("#", justify="right", style="dim")
    table.add_column("operator", footer=f"{len(run.layers)} operators")
    table.add_column("MACs", justify="right", footer=f"{macs:,}")
    table.add_column(core.unit, justify="right", footer=f"{run.total:,}")
    table.add_column("a MAC", justify="right", footer=f"{run.total / macs:.2f}" if macs else "")
    table.add_column(f"ms at {clock} MHz", justify="right", footer=f"{run.total / clock / 1000:.2f}")
    table.add_column("wrong", justify="right", footer=f"{mismatches:,}")
    for index, layer in enumerate(run.layers):
        each = f"{layer.count / layer.macs:.2f}" if layer.macs else ""
        ms = f"{layer.count / clock / 1000:.3f}"
        table.add_row(str(index), layer.op, f"{layer.macs:,}", f"{layer.count:,}", each, ms, f"{layer.mismatches:,}")
    console = Console(highlight=False)
    console.print(table)
    kind = "an estimate of cycles" if core.estimate else f"{core.unit} of the emulated core"
    console.print(
        f"{kind}, memory never waits; the longest kernel call takes {run.longest_call:,} "
        f"({run.longest_call / clock / 1000:.2f} ms)"
    )
