"""`make bench-kernels`: the generated kernels on emulated cores, beside the C kernels that others have measured there.

Ours are whole inferences, every operator; the recorded peers are sums over convolutions and fully connected layers
only. All code, weights and data lie in memory that never waits. The packer has taken out of vww what cannot reach its
output, and the bytes a weight count what is left. Exits 1 where a whole model misses its target, or a value differs
from the reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from midgehost.codegen import sim
from midgehost.codegen.convert import plan_for
from midgehost.codegen.lowering import MachinePlan
from midgehost.codegen.sim.model import LoadedModel, Run
from midgehost.deploy.verify import read_golden
from midgehost.models.convert import load, operator_macs
from midgehost.models.graph import Graph

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(ROOT.parent / "shared" / "data")
AD01, KWS, RESNET, VWW, MNIST = "ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8", "mnist_cnn_int8"

# Whole models: millions of cycles (RV32, Xtensa: instructions) that ours may take.
TARGETS: Final[Mapping[str, Mapping[str, float]]] = {
    "armv6m": {AD01: 0.66, KWS: 9.8, RESNET: 36, VWW: 17.5},
    "armv7emsp": {AD01: 0.45, KWS: 5.5, RESNET: 20, VWW: 10},
    "rv32imc": {AD01: 0.60, KWS: 8.5, RESNET: 32, VWW: 18},
    "xtensawin": {AD01: 0.45, KWS: 6, RESNET: 24, VWW: 13},
}

# What others take on the same emulated cores, from shared/research/kernels_peers.md: millions a model.
PEER_MODELS: Final[Mapping[str, Mapping[str, tuple[str, float]]]] = {
    "armv6m": {
        AD01: ("CMSIS-NN -O3", 2.35),
        KWS: ("CMSIS-NN -O3", 39.2),
        RESNET: ("CMSIS-NN -O3", 127.3),
        VWW: ("CMSIS-NN -O3", 118.2),
        MNIST: ("CMSIS-NN -O3", 0.94),
    },
    "armv7emsp": {
        AD01: ("CMSIS-NN -O3", 0.73),
        KWS: ("CMSIS-NN -O3", 9.54),
        RESNET: ("CMSIS-NN -O3", 34.7),
        VWW: ("CMSIS-NN -O3", 30.7),
        MNIST: ("CMSIS-NN -O3", 0.39),
    },
    "rv32imc": {KWS: ("esp-nn -O2", 25.8)},
    "xtensawin": {},
}

# One layer of each class: (name, model, operator), and what CMSIS-NN -O3 takes a MAC (RV32: its portable C).
LAYERS: Final = (
    ("FC 640x128", AD01, 0),
    ("FC 128x128", AD01, 7),
    ("FC 128x8", AD01, 4),
    ("1x1 64->64", KWS, 2),
    ("dw 3x3", KWS, 1),
    ("conv 10x4", KWS, 0),
    ("conv 3x3 16->16", RESNET, 1),
)
PEER_LAYERS: Final[Mapping[str, tuple[str, tuple[float, ...]]]] = {
    "armv6m": ("CMSIS-NN -O3", (8.3, 9.1, 10.3, 9.9, 51.5, 13.1, 10.6)),
    "armv7emsp": ("CMSIS-NN -O3", (2.42, 2.86, 3.13, 2.53, 10.1, 4.52, 2.96)),
    "rv32imc": ("CMSIS-NN portable C -O3", (5.4, 5.6, 6.5, 4.8, 27.1, 5.8, 5.2)),
}
MODELS: Final = (AD01, KWS, RESNET, VWW, MNIST)
MEMORY: Final = "RAM, no wait"


@dataclass(frozen=True)
class Measured:
    """A model's inference on a core."""

    graph: Graph
    plan: MachinePlan
    run: Run

    def bytes_a_weight(self, operator: int | None = None) -> float:
        """Packed bytes for each weight that pruning has left, of all operators or one."""
        layers = list(zip(self.plan.graph.nodes, self.plan.chosen, strict=True))
        heavy = [layer for layer in (layers if operator is None else [layers[operator]]) if operator_macs(layer[0])]
        packed = sum(candidate.weight_bytes for _, candidate in heavy)
        return packed / sum(node.inputs[1].elements for node, _ in heavy)


def measure(path: Path, arch: str, form: str) -> Measured:
    """One inference of the first golden vector."""
    graph = load(path)
    inputs, _ = read_golden(path.with_suffix(".golden.npz"))
    plan = plan_for(graph, None, arch, "size" if form == "size" else "speed", "ram")
    with sim.core(arch) as core:
        return Measured(graph, plan, LoadedModel(core, plan).run([array[0] for array in inputs], check="first"))


def rows(arch: str, measured: Mapping[str, Measured]) -> Iterator[tuple[list[str], bool]]:
    """The rows of an arch's table, and whether each is as it should be."""
    for name, one in measured.items():
        total = one.run.total / 1e6
        who, peer = PEER_MODELS[arch].get(name, ("", 0.0))
        target = TARGETS[arch].get(name)
        wrong = one.run.mismatches
        met = "" if target is None else "yes" if total <= target else "MISSED"
        if wrong:
            met = f"{wrong:,} VALUES DIFFER"
        yield (
            [name, "all, M", f"{total:.3f}", *_peer(who, peer, total), MEMORY, f"{one.bytes_a_weight():.2f}",
             "" if target is None else f"{target:g}", met],
            not wrong and met != "MISSED",
        )  # fmt: skip
    who, peers = PEER_LAYERS.get(arch, ("", (0.0,) * len(LAYERS)))
    for (label, name, operator), peer in zip(LAYERS, peers, strict=True):
        if name in measured:
            one = measured[name]
            each = one.run.layers[operator].count / operator_macs(one.graph.nodes[operator])
            weight = f"{one.bytes_a_weight(operator):.2f}"
            yield [name, f"{label}, a MAC", f"{each:.2f}", *_peer(who, peer, each), MEMORY, weight, "", ""], True


def costs(measured: Mapping[str, Measured]) -> Iterator[list[str]]:
    """How far each routine's estimated cost is off, all its calls together: (routine, calls, counted, estimated)."""
    sums: dict[str, list[float]] = {}
    for one in measured.values():
        for call, estimate, count in zip(one.plan.plan.calls, one.plan.costs, one.run.counts, strict=True):
            found = sums.setdefault(one.plan.routines[call.kernel].name, [0, 0, 0])
            for i, value in enumerate((1, count, estimate)):
                found[i] += value
    for name, (calls, count, estimate) in sorted(sums.items()):
        yield [name, f"{calls:.0f}", f"{count:,.0f}", f"{estimate / count:.2f}"]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Prints a Markdown table."""
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for cells in lines:
        print(f"| {' | '.join(cells)} |", flush=True)


def _peer(who: str, peer: float, ours: float) -> tuple[str, str, str]:
    """Name, number and how many times ours goes into it."""
    return (who, f"{peer:g}", f"{peer / ours:.1f}") if peer and ours else ("not measured", "", "")


def main() -> int:
    """Runs all of it, or what the options leave."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--arch", action="append", choices=list(TARGETS))
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--form", choices=("speed", "size"), default="speed")
    options = parser.parse_args()
    models = options.data / "models"
    if not models.is_dir():
        print(f"The shared models are absent: give --data FOLDER ({models} is no folder).")
        return 2
    good = True
    for arch in options.arch or TARGETS:
        measured = {name: measure(models / f"{name}.tflite", arch, options.form) for name in options.model or MODELS}
        with sim.core(arch) as core:
            unit = f"{core.unit}{' (estimate)' if core.estimate else ''}"
        print(f"\n### {arch}, {unit}, weights packed for {options.form}")
        head = ["model", "layers", "ours", "peer", "peer's", "times", "memory", "bytes a weight", "target", "met"]
        found = list(rows(arch, measured))
        table(head, [cells for cells, _ in found])
        good &= all(fine for _, fine in found)
        table(["routine", "calls", "counted", "the cost model says"], costs(measured))
        longest = {name: one.run.longest_call for name, one in measured.items()}
        print(f"\nLongest kernel call: {', '.join(f'{name} {count:,}' for name, count in longest.items())}.")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
