"""Seeded comparison of one operator with TFLM: the numpy reference, the portable and the viper kernels, same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np
from levels import Job, run_kernels
from numpy.typing import NDArray
from oracle import Oracle
from tflite_builder import OneOp, TensorSpec

from midgehost.errors import ModelError
from midgehost.models.ops import registry

Case = tuple[OneOp, list[NDArray[Any]]]  # a model and a value for every input, constants included
Maker = Callable[[Random, str], Case]


def values(rng: Random, shape: list[int]) -> NDArray[np.int8]:
    """Random int8, or one of the corners that saturate."""
    kind = rng.randrange(6)
    if kind < 2:
        return np.full(shape, (-128, 127)[kind], np.int8)
    return np.random.default_rng(rng.randrange(1 << 30)).integers(-128, 128, shape, np.int8)


def shape_of(rng: Random, ranks: tuple[int, int] = (1, 4), longest: int = 7) -> list[int]:
    return [rng.randint(1, longest) for _ in range(rng.randint(*ranks))]


def scale(rng: Random) -> float:
    """Any scale, or a power of two: then rounding meets exact ties, where implementations differ."""
    return 2.0 ** rng.randint(-3, 1) if rng.random() < 0.6 else float(np.float32(10 ** rng.uniform(-3, 1)))


def activation(rng: Random) -> str:
    return rng.choice(["NONE", "RELU", "RELU6", "RELU_N1_TO_1"])


def quantised(rng: Random, shape: list[int], near: float = 1.0, **extra: Any) -> TensorSpec:
    return TensorSpec(shape, scale=scale(rng) * near, zero_point=rng.choice([-128, 0, rng.randint(-128, 127)]), **extra)


def reference_jobs(
    makers: Mapping[str, Maker], kind: str, cases: int, seed: int
) -> tuple[list[tuple[Job, NDArray[Any]]], int]:
    """Seeded jobs with TFLM's output, which the reference equals; and how many cases midge refuses."""
    rng = Random(f"{kind} {seed}")
    jobs: list[tuple[Job, NDArray[Any]]] = []
    refused = 0
    for _ in range(cases):
        model, inputs = makers[kind](rng, kind.split()[0])
        node = model.node()
        op = registry()[node.kind]
        present = [spec for spec in model.inputs if spec is not None]
        fed = [value for value, spec in zip(inputs, present, strict=True) if spec.data is None]
        try:
            op.check(node)
        except ModelError:
            refused += 1
            continue
        expected = Oracle(model.tflite()).run(fed)[0]
        np.testing.assert_array_equal(op.reference(node, inputs)[0], expected, f"reference {model}")
        jobs.append((Job(node, op.lower(node), inputs, rng.randrange(1 << 30)), expected))
    return jobs, refused


def compare(makers: Mapping[str, Maker], kind: str, cases: int, seed: int) -> tuple[int, int, int]:
    """Runs seeded cases through the reference, both kernel levels and TFLM; (compared, refused, values)."""
    jobs, refused = reference_jobs(makers, kind, cases, seed)
    compared = [(job, want) for job, want in jobs if not job.lowering.alias]
    for level in ("portable", "viper"):
        got = run_kernels([job for job, _ in compared], level)
        for (job, want), outputs in zip(compared, got, strict=True):
            np.testing.assert_array_equal(outputs[0], want, f"{level} {job.node}")
    return len(jobs), refused, sum(want.size for _, want in jobs)


def print_table(makers: Mapping[str, Maker], cases: int) -> None:
    """The soak's table: many cases of every operator. Any mismatch raises before its line is printed."""
    print("\n| operator | cases | refused | values | mismatches |\n|---|---|---|---|---|")
    for kind in makers:
        compared, refused, count = compare(makers, kind, cases, 1)
        print(f"| {kind} | {compared} | {refused} | {count:,} | 0 |")
