"""`make bench`: every number that the README shows, measured on this machine, as Markdown tables."""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from midgehost import connect
from midgehost.models.convert import convert, load
from midgehost.models.plan import lower
from midgehost.models.planner import plan_memory

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(ROOT.parent / "shared" / "data")
MODELS = ("hello_world_int8", "tinymaix_mnist_valid_q", "mnist_cnn_int8", "ad01_int8", "kws_ref_model",
          "pretrainedResnet_quant", "vww_96_int8")  # fmt: skip
TFLM_ARENA = dict(zip(MODELS, (1504, 3776, 4544, 3984, 24272, 55984, 103680), strict=True))  # data/models/OPS.md
_TIME = """
import time
_n={n}
_t=time.ticks_us()
for _i in range(_n):_model.invoke()
print(time.ticks_diff(time.ticks_us(),_t)/_n)
"""
_DETECTORS = """
import sys,time
sys.path.insert(0,'/midge/bench/lib')
from array import array
from midge.anomaly import make
x=array('f',[20+(i*7919%101)/50 for i in range(2000)])
for kind in ('window','multiscale','context'):
 d=make(kind,{'probation':300} if kind=='context' else {})
 t=time.ticks_us()
 for v in x:d.update(v)
 print(kind,time.ticks_diff(time.ticks_us(),t)/len(x))
from midge.features import Features
from midge.fft import Spectrum
w=array('h',[(i*7919)%2000-1000 for i in range(256)])
f=Features(['mean','std','max','rms','ptp','crest','kurtosis','zero_crossings'],256,50)
t=time.ticks_us()
for _ in range(50):f.extract(w)
print('features',time.ticks_diff(time.ticks_us(),t)/50)
f=Features(['peak_hz'],256,50)
t=time.ticks_us()
for _ in range(50):f.extract(w)
print('fft',time.ticks_diff(time.ticks_us(),t)/50)
"""


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a Markdown table."""
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)


def inference(models: Path) -> Iterator[tuple[object, ...]]:
    """Milliseconds an inference on the virtual board."""
    from midgehost.deploy.runner import ModelOnBoard

    for name in MODELS:
        times = []
        for level in ("viper", "portable"):
            with connect("virtual", heap="640k") as board:
                ModelOnBoard(board.transport, board.info, models / f"{name}.tflite", level)
                board.exec("_model.invoke()", timeout=120)
                count = 20 if level == "viper" else 2
                times.append(f"{float(board.exec(_TIME.format(n=count), timeout=300)) / 1000:.2f}")
        yield name, *times


def arenas(models: Path) -> Iterator[tuple[object, ...]]:
    """Arena and scratch beside TFLM's arena."""
    for name in MODELS:
        graph = load(models / f"{name}.tflite")
        layout = plan_memory(graph, lower(graph))
        yield name, f"{layout.arena_bytes:,}", f"{layout.scratch_bytes:,}", f"{TFLM_ARENA[name]:,}"


def conversions(models: Path) -> Iterator[tuple[object, ...]]:
    """Seconds to read, check, plan and pack."""
    for name in MODELS:
        began = time.perf_counter()
        size = len(convert(models / f"{name}.tflite").encode())
        yield name, f"{time.perf_counter() - began:.2f}", f"{size:,}"


def detectors() -> Iterator[tuple[object, ...]]:
    """Microseconds a sample or a window on the virtual board."""
    from midgehost.deploy.modules import compile_modules

    names = ["anomaly.window", "anomaly.multiscale", "anomaly.context", "features"]
    titles = {"features": "8 time features, 256 samples", "fft": "FFT magnitude, 256 samples"}
    with connect("virtual") as board:
        for path, data in compile_modules(names, board.info.arch).items():
            board.transport.put(f"/midge/bench/lib/{path}", data)
        for line in board.exec(_DETECTORS, timeout=120).splitlines():
            name, us = line.split()
            yield titles.get(name, f"detector {name}, a sample"), f"{float(us):.1f}"


def transfers(nbytes: int = 256 * 1024, rounds: int = 5) -> Iterator[tuple[object, ...]]:
    """Seconds to send a file: mpremote cp and midge, the same board, in turn."""
    import random

    from midgehost.virtual.board import VirtualBoard

    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder, VirtualBoard() as board:
        source = Path(folder) / "blob.bin"
        for i in range(rounds):
            data = random.Random(i).randbytes(nbytes)
            source.write_bytes(data)
            began = time.perf_counter()
            with connect(board.path) as line:
                line.transport.put("/ours.bin", data)
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            mpremote = str(Path(sys.executable).with_name("mpremote"))
            command = [mpremote, "connect", board.path, "cp", str(source), ":theirs.bin"]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
            theirs.append(time.perf_counter() - began)
    a, b = statistics.median(theirs), statistics.median(ours)
    yield "mpremote cp", f"{a:.2f}", f"{nbytes / a / 1000:.0f}", "1.0"
    yield "midge (verified by SHA-256)", f"{b:.2f}", f"{nbytes / b / 1000:.0f}", f"{a / b:.1f}"


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=DATA)
    models = parser.parse_args().data / "models"
    print(f"{platform.machine()}, Python {platform.python_version()}; virtual board: MicroPython's unix port")
    if models.is_dir():
        table("Inference, ms", ["model", "viper", "portable"], list(inference(models)))
        table("Memory, bytes", ["model", "arena", "scratch", "TFLM's arena"], list(arenas(models)))
        table("Conversion", ["model", "s", "bundle bytes"], list(conversions(models)))
    else:
        print(f"The shared models are absent: give --data FOLDER ({models} is no folder).")
    table("Detectors and features", ["what", "us"], list(detectors()))
    table("A 256 KB file to the board, median of 5", ["tool", "s", "kB/s", "times"], list(transfers()))


if __name__ == "__main__":
    main()
