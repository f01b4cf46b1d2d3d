"""Operators with one thing changed (shape, type, scale, option, operand): computed or refused, never a crash.

What the checks let pass must lower, plan and run in the reference: a model that is accepted works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from random import Random
from typing import Any

import numpy as np
import pytest
from fuzz import Maker
from test_heavy_ops import MAKERS as HEAVY
from test_small_ops import MAKERS as SMALL

from midgehost.errors import ModelError
from midgehost.models import checks, reference
from midgehost.models.graph import ITEM_BYTES, Graph, Operator, Quant, Tensor
from midgehost.models.plan import make_plan

MAKERS: dict[str, Maker] = {**SMALL, **HEAVY}


def shape(rng: Random, tensor: Tensor) -> Tensor:
    sizes = list(tensor.shape)
    change = rng.randrange(5)
    if change == 0:
        sizes.insert(rng.randint(0, len(sizes)), 1)
    elif change == 1 and 1 in sizes:
        sizes.remove(1)
    elif change == 2:
        rng.shuffle(sizes)
    elif change == 3:
        sizes = [prod(sizes)]
    elif sizes and not tensor.is_constant:
        sizes[rng.randrange(len(sizes))] = rng.choice([0, -1, 1, 2, 9, 1 << 31])
    return replace(tensor, shape=tuple(sizes))


def number_format(rng: Random, tensor: Tensor) -> Tensor:
    same_size = [name for name, size in ITEM_BYTES.items() if size == ITEM_BYTES.get(tensor.dtype)]
    return replace(
        tensor, dtype=rng.choice(same_size or [tensor.dtype] if tensor.is_constant else [*ITEM_BYTES, "int4", "string"])
    )


def quantisation(rng: Random, tensor: Tensor) -> Tensor:
    if tensor.quant is None or rng.random() < 0.2:
        return replace(tensor, quant=rng.choice([None, Quant((0.5,), (0,))]))
    if tensor.shape and rng.random() < 0.3:
        axis = rng.randrange(len(tensor.shape))
        count = max(1, min(tensor.shape[axis], 64))
        return replace(tensor, quant=Quant((0.25,) * count, (rng.choice([0, 3]),) * count, axis))
    scale = float(np.float32(rng.choice([1e-38, 1e-9, 1.0, 1e9, 3e38])))
    return replace(tensor, quant=Quant((scale,), (rng.choice([-128, 0, 127]),)))


def constant(rng: Random, tensor: Tensor) -> Tensor:
    if tensor.data is None or tensor.dtype not in ("int32", "int64"):
        return tensor
    values = tensor.array().copy()
    if values.size:
        values.reshape(-1)[rng.randrange(values.size)] = rng.choice([-(1 << 31), -7, -1, 0, 1, 5, (1 << 31) - 1])
    return replace(tensor, data=values.tobytes())


def option(rng: Random, operator: Operator) -> Operator:
    options: dict[str, Any] = dict(operator.options)
    if options:
        name = rng.choice(list(options))
        texts = ["NONE", "TANH", "SIGN_BIT", "SAME", "VALID"]
        numbers = [-(1 << 31), -1, 0, 1, 2, 3, 50, (1 << 31) - 1]
        options[name] = rng.choice(texts) if isinstance(options[name], str) else rng.choice(numbers)
    return replace(operator, options=options)


def operands(rng: Random, operator: Operator) -> Operator:
    inputs = list(operator.inputs) or [-1]
    position = rng.randrange(len(inputs))
    change = rng.randrange(4)
    if change == 0:
        del inputs[position]
    elif change == 1:
        inputs[position] = -1
    elif change == 2:
        inputs[position] = rng.choice(inputs)
    else:
        rng.shuffle(inputs)
    return replace(operator, inputs=tuple(inputs))


def mutated(rng: Random, graph: Graph) -> Graph:
    tensors, operator = list(graph.tensors), graph.operators[0]
    for _ in range(rng.choice([1, 1, 2])):
        change: Callable[[Random, Any], Any] = rng.choice(
            [shape, number_format, quantisation, constant, option, operands]
        )
        if change in (option, operands):
            operator = change(rng, operator)
        else:
            index = rng.randrange(len(tensors))
            tensors[index] = change(rng, tensors[index])
    return replace(graph, tensors=tuple(tensors), operators=(operator,))


def survive(kind: str, cases: int, seed: int) -> tuple[int, int]:
    """(computed, refused) of so many mutations of an operator."""
    rng = Random(f"{kind} {seed}")
    refused = 0
    for number in range(cases):
        model, _ = MAKERS[kind](rng, kind.split()[0])
        graph = mutated(rng, model.spec.graph())
        try:
            checks.check(graph)
        except ModelError as error:
            assert error.what and error.do and "\n" not in str(error)
            refused += 1
            continue
        try:
            make_plan(graph, 1000)
            fed = [np.zeros(graph.tensors[i].shape, graph.tensors[i].dtype) for i in graph.inputs]
            reference.run(graph, fed)
        except Exception as error:
            raise AssertionError(f"{kind} {seed}, case {number}: {graph.nodes[0]}") from error
    return cases - refused, refused


@pytest.mark.parametrize("kind", MAKERS)
def test_computed_or_refused(kind: str) -> None:
    computed, refused = survive(kind, 60, 0)
    assert computed and refused


@pytest.mark.soak
def test_computed_or_refused_soak() -> None:
    print("\n| operator | mutations | computed | refused |\n|---|---|---|---|")
    for kind in MAKERS:
        computed, refused = survive(kind, 2000, 1)
        print(f"| {kind} | {computed + refused} | {computed} | {refused} |")
