"""Machine code on the stock MicroPython image in the emulated Pico: milliseconds, heap, values that differ.

Part of `make bench-kernels`. Exits 1 where a target is missed or a value differs from the golden outputs; says so and
exits 0 where there is no image in midge's firmware cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from bench_kernels import AD01, DATA, KWS, MNIST, table
from midgehost.boards import board
from midgehost.codegen.convert import convert
from midgehost.deploy.modules import compile_modules
from midgehost.deploy.probe import probe
from midgehost.deploy.runner import ModelOnBoard
from midgehost.deploy.verify import read_golden
from midgehost.errors import NotFound
from midgehost.virtual.emulated import EmulatedPico, find_image

# Model: (milliseconds, heap bytes of the model itself) that it may take; emlearn's TinyMaix takes 15.0 ms for mnist.
TARGETS: Final = {MNIST: (4.0, None), KWS: (85.0, None), AD01: (None, 24_000)}
_MODULES: Final = """
import gc
import midge.inference, midge.kernels.machine
gc.collect()
print(gc.mem_alloc())
"""
_HEAP: Final = "import gc\ngc.collect()\nprint(gc.mem_alloc())"
_TIME: Final = """
import time
for _ in range(3):
 _t=time.ticks_us()
 _model.invoke()
 print(time.ticks_diff(time.ticks_us(),_t))
"""


def measure(models: Path, name: str) -> tuple[float, int, int, str]:
    """(milliseconds, heap bytes beside midge's modules, values that differ, where the weights lie)."""
    bundle = convert(models / f"{name}.tflite", board("pico"), "armv6m")
    files = {f"/midge/run/lib/{path}": data for path, data in compile_modules({"inference"}, "armv6m").items()}
    files["/midge/run/model.midge"] = bundle.encode()
    with EmulatedPico(files=files) as pico:
        pico.exec("import sys\nsys.path.insert(0,'/midge/run/lib')")
        before = int(pico.exec(_MODULES, 60))
        on_board = ModelOnBoard(pico, probe(pico), bundle, "machine")
        heap = int(pico.exec(_HEAP)) - before
        where = pico.exec("print(_model.residence)").strip()
        inputs, outputs = read_golden(models / f"{name}.golden.npz")
        got = on_board.invoke([array[0].reshape(t.shape) for array, t in zip(inputs, bundle.inputs, strict=True)])
        differ = sum(int((g.reshape(-1) != w[0].reshape(-1)).sum()) for g, w in zip(got, outputs, strict=True))
        return min(int(us) for us in pico.exec(_TIME, 600).split()) / 1000, heap, differ, where


def main() -> int:
    """Runs all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=DATA)
    models = parser.parse_args().data / "models"
    try:
        image = find_image("pico")
    except NotFound as error:
        print(f"\nThe emulated Pico is left out: {error}")
        return 0
    good = True
    lines: list[list[str]] = []
    for name, (most_ms, most_heap) in TARGETS.items():
        ms, heap, differ, where = measure(models, name)
        met = not differ and (most_ms is None or ms <= most_ms) and (most_heap is None or heap <= most_heap)
        good &= met
        target = f"{most_ms} ms" if most_ms else f"{most_heap:,} bytes of heap"
        lines.append([name, f"{ms:.2f}", f"{heap:,}", where, str(differ), target, "yes" if met else "**no**"])
    print(f"\n### {image.name}, emulated at 125 MHz")
    table(["model", "ms", "heap of the model", "weights", "values that differ", "target", "met"], lines)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
