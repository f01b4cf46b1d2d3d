"""Fits the cost model of the general kernels: prints the table of `midgehost/codegen/cost.py`, and how far off it is.

Every kernel runs on each emulated core with the shapes that the tests draw, and those of shared models; the four
coefficients of a kernel minimise the relative errors, those of large calls first: only they are cut into slices.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "host" / folder) for folder in ("models", "codegen/kernels")]

from levels import Job  # noqa: E402
from machine_jobs import run_call  # noqa: E402
from test_heavy_ops import MAKERS as HEAVY  # noqa: E402
from test_small_ops import MAKERS as SMALL  # noqa: E402

from midgehost.codegen import cost, sim  # noqa: E402
from midgehost.codegen.cost import work  # noqa: E402
from midgehost.errors import ModelError  # noqa: E402
from midgehost.models import reference  # noqa: E402
from midgehost.models.convert import load  # noqa: E402
from midgehost.models.kernels import Kernel  # noqa: E402
from midgehost.models.ops import registry  # noqa: E402

MODELS = ("mnist_cnn_int8", "kws_ref_model", "pretrainedResnet_quant")
LEAST = 300  # counts of a call that is looked at
MOST_MACS = 1_200_000
LARGE = 50_000  # counts of a call whose error weighs in full


def jobs(cases: int, models: Path) -> Iterator[Job]:
    """Seeded operators, and those of real models that take no minutes."""
    for kind, make in {**SMALL, **HEAVY}.items():
        rng = Random(f"cost {kind}")
        for _ in range(cases):
            model, inputs = make(rng, kind.split()[0])
            node = model.node()
            try:
                registry()[node.kind].check(node)
            except ModelError:
                continue
            yield Job(node, registry()[node.kind].lower(node), inputs, None)
    for name in MODELS if models.is_dir() else ():
        graph = load(models / f"{name}.tflite")
        rng_inputs = np.random.default_rng(1)
        drawn = [rng_inputs.integers(-128, 128, graph.tensors[i].shape, np.int8) for i in graph.inputs]
        values = reference.taps(graph, drawn)
        for node in graph.nodes:
            operator = registry()[node.kind]
            if operator.macs(node) <= MOST_MACS:
                fed = [t.array() if t.is_constant else values[t.index] for t in node.inputs]
                yield Job(node, operator.lower(node), fed, None)


def measure(arch: str, cases: int, models: Path) -> dict[Kernel, list[tuple[int, int, int, int]]]:
    """(outputs, terms, loops, count) of every call, by kernel."""
    found: dict[Kernel, list[tuple[int, int, int, int]]] = {}
    with sim.core(arch) as core:
        for job in jobs(cases, models):
            mark = core.mark()
            arena = core.put(bytes(job.arena()))
            for call in job.lowering.calls:
                count = run_call(core, job, call, arena, Random(0))
                done = work(call)
                if count >= LEAST:
                    found.setdefault(Kernel(call.kernel), []).append((done.outputs, done.terms, done.loops, count))
            core.release(mark)
    return found


def fit(rows: list[tuple[int, int, int, int]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Coefficients that are not negative, (a call, an output, a term, a loop), and the relative errors."""
    data = np.array(rows, float)
    terms = np.column_stack([np.ones(len(data)), data[:, :3]]) / data[:, 3:]
    weight = np.clip(data[:, 3] / LARGE, 0.1, 1)
    used = [column for column in range(4) if terms[:, column].any()]
    while True:
        found = np.linalg.lstsq(terms[:, used] * weight[:, None], weight, rcond=None)[0]
        if found.min() >= 0 or len(used) == 1:
            break
        used.pop(int(found.argmin()))
    coefficients = np.zeros(4)
    coefficients[used] = found
    return coefficients, terms @ coefficients - 1


def table(arch: str, cases: int, models: Path) -> Iterator[str]:
    """The lines of an arch's table, with its errors as comments."""
    yield f'    "{arch}": {{'
    for kernel, rows in sorted(measure(arch, cases, models).items()):
        (call, output, term, loop), errors = fit(rows)
        worst = f"{len(rows)} calls, mean error {np.abs(errors).mean():.0%}, worst {np.abs(errors).max():.0%}"
        yield f"        Kernel.{kernel.name}: ({call:.0f}, {output:.1f}, {term:.2f}, {loop:.1f}),  # {worst}"
    yield "    },"


def main() -> None:
    """Fits the arches of the options, or all of them into the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", action="append", choices=list(sim.ARCHES))
    parser.add_argument("--cases", type=int, default=25)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--write", action="store_true", help="Put the table of all arches into cost.py.")
    options = parser.parse_args()
    lines: list[str] = []
    for arch in sim.ARCHES if options.write else options.arch or sim.ARCHES:
        for line in table(arch, options.cases, options.data / "models"):
            print(line, flush=True)
            lines.append(line.split("  #")[0])
    if options.write:
        source = Path(cost.__file__)
        head, name, rest = source.read_text().partition("_COSTS: Final")
        first = rest.partition("\n")[0]
        source.write_text("\n".join([head + name + first, *lines, "}", ""]))


if __name__ == "__main__":
    main()
