"""Runs lowered operators on the device's kernels, many at a time: in CPython, or in one MicroPython process.

`run_kernels(jobs, level)` lays every tensor out in an arena of its own, cuts the calls into random slices of rows and
gives the outputs back. Memory that a kernel must not write is checked.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import ITEM_BYTES, Node
from midgehost.models.ops.base import Lowering, Place

FIRMWARE = Path(__file__).resolve().parents[3] / "firmware"
RUNNER = Path(__file__).with_name("run_kernels.py")
ABI, GAP, FILLER = 1, 16, 0xA5

Level = Literal["portable", "viper"]
Array = NDArray[Any]


@dataclass(frozen=True)
class Job:
    """One operator with values for `node.inputs` (constants included), to be cut with this seed (None: uncut)."""

    node: Node
    lowering: Lowering
    inputs: Sequence[Array]
    cut_seed: int | None = 0

    @cached_property
    def offsets(self) -> dict[int, int]:
        """Arena offset of each tensor that a kernel may touch, with a gap between neighbours; scratch is key -1."""
        places = [place for call in self.lowering.calls for place in (call.in0, call.in1) if place is not None]
        touched = {place.tensor for place in places}
        tensors = {t.index: t.nbytes for t in self.node.inputs if t.index in touched}
        tensors |= {t.index: t.nbytes for t in self.node.outputs}
        if self.lowering.inplace:
            del tensors[self.node.output.index]
        found: dict[int, int] = {}
        end = GAP
        for index, size in (*tensors.items(), (-1, max((c.scratch_bytes for c in self.lowering.calls), default=0))):
            found[index] = end
            end += (size + GAP + 15) // 16 * 16
        if self.lowering.inplace:
            found[self.node.output.index] = found[self.node.inputs[self.lowering.inplace[0]].index]
        found[-2] = end
        return found

    def arena(self) -> bytearray:
        """The memory before the calls: the inputs in their places, everything else filled."""
        memory = bytearray([FILLER]) * self.offsets[-2]
        for tensor, value in zip(self.node.inputs, self.inputs, strict=True):
            if tensor.index not in self.offsets:
                continue
            raw = np.ascontiguousarray(value).tobytes()
            memory[self.offsets[tensor.index] : self.offsets[tensor.index] + len(raw)] = raw
        return memory

    def blocks(self) -> list[list[array[int]]]:
        """For each call the kernel call blocks of its slices."""
        rng = random.Random(self.cut_seed)
        found: list[list[array[int]]] = []
        for call in self.lowering.calls:
            cuts = {0, call.rows}
            if self.cut_seed is not None:
                cuts |= {rng.randrange(call.rows + 1) for _ in range(rng.randrange(4))}
            rows = sorted(cuts)
            head = [ABI, self._at(call.in0), self._at(call.in1), self._at(call.out), 0, 0, self.offsets[-1]]
            found.append([array("i", [*head, a, b]) for a, b in itertools.pairwise(rows)])
        return found

    def outputs(self, memory: bytes) -> list[Array]:
        """The output tensors in the arena after the calls; asserts that nothing else was written but scratch."""
        touched = [(self.offsets[t.index], t.nbytes) for t in self.node.outputs]
        scratch = max((c.scratch_bytes for c in self.lowering.calls), default=0)
        before, after = self.arena(), bytearray(memory)
        for start, size in (*touched, (self.offsets[-1], scratch)):
            before[start : start + size] = after[start : start + size] = bytes(size)
        assert before == after, f"{self.node.kind}: a kernel wrote outside its output and scratch"
        found: list[Array] = []
        for tensor in self.node.outputs:
            start = self.offsets[tensor.index]
            raw = memory[start : start + tensor.elements * ITEM_BYTES[tensor.dtype]]
            found.append(np.frombuffer(raw, tensor.dtype).reshape(tensor.shape))
        return found

    def _at(self, place: Place | None) -> int:
        return -1 if place is None else self.offsets[place.tensor] + place.offset


def run_kernels(jobs: Sequence[Job], level: Level, micropython: bool | None = None) -> list[list[Array]]:
    """The outputs of each job at a kernel level, in this process or (viper always) on MicroPython's unix port."""
    on_micropython = level == "viper" if micropython is None else micropython
    results = _on_micropython(jobs, level) if on_micropython else b"".join(_in_process(job, level) for job in jobs)
    return unpacked(jobs, results)


def _in_process(job: Job, level: Level) -> bytes:
    memory = job.arena()
    for call, slices in zip(job.lowering.calls, job.blocks(), strict=True):
        kernel = kernel_function(level, call.kernel)
        for block in slices:
            assert kernel(block, memory, call.weights, array("i", call.params)) == 0
    return bytes(memory)


def kernel_function(level: Level, number: int) -> Any:
    """A portable kernel as CPython runs it."""
    families = {1: "dense", 2: "conv", 3: "pool", 4: "elementwise", 5: "move", 6: "table", 7: "softmax"}
    if str(FIRMWARE) not in sys.path:
        sys.path.insert(0, str(FIRMWARE))
    return import_module(f"midge.kernels.{level}.{families[number >> 4]}").KERNELS[int(number)]


def packed(jobs: Sequence[Job]) -> bytes:
    """The jobs as run_kernels.py reads them."""
    words = array("i", [len(jobs)])
    for job in jobs:
        memory = job.arena()
        words.extend([len(memory), len(job.lowering.calls)])
        words.frombytes(bytes(memory))
        for call, slices in zip(job.lowering.calls, job.blocks(), strict=True):
            words.extend([int(call.kernel), len(slices), len(call.weights), len(call.params)])
            words.frombytes(call.weights + bytes(-len(call.weights) % 4))
            words.extend(call.params)
            for block in slices:
                words.extend(block)
    return words.tobytes()


def unpacked(jobs: Sequence[Job], results: bytes) -> list[list[Array]]:
    """The outputs of each job from what run_kernels.py writes."""
    ends = [0, *itertools.accumulate(job.offsets[-2] for job in jobs)]
    return [job.outputs(results[a:b]) for job, (a, b) in zip(jobs, itertools.pairwise(ends), strict=True)]


def _on_micropython(jobs: Sequence[Job], level: Level) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        cases, results = Path(folder, "cases"), Path(folder, "results")
        cases.write_bytes(packed(jobs))
        command = [str(Path(sys.executable).with_name("micropython")), "-X", "heapsize=64m", str(RUNNER)]
        done = subprocess.run(
            [*command, str(FIRMWARE), level, str(cases), str(results)], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return results.read_bytes()
