"""Runs a graph on the host, operator by operator, by the exact numpy references, and shows every tensor's value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Graph
from midgehost.models.ops import registry

Array = NDArray[Any]


def run(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The outputs for these inputs (shapes and types as the graph's). The graph must have passed `checks.check`."""
    values = taps(graph, inputs)
    return [values[index] for index in graph.outputs]


def taps(graph: Graph, inputs: Sequence[Array]) -> dict[int, Array]:
    """The value of every tensor that is no constant, by its index. Raises ValueError for inputs of another shape."""
    ops = registry()
    values: dict[int, Array] = {}
    for index, value in zip(graph.inputs, inputs, strict=True):
        tensor = graph.tensors[index]
        values[index] = np.asarray(value, dtype=tensor.dtype).reshape(tensor.shape)
    for node in graph.nodes:
        operands = [tensor.array() if tensor.is_constant else values[tensor.index] for tensor in node.inputs]
        results = ops[node.kind].reference(node, operands)
        for tensor, result in zip(node.outputs, results, strict=True):
            assert result.shape == tensor.shape and result.dtype == tensor.dtype, (node.index, tensor.name)
            values[tensor.index] = result
    return values
