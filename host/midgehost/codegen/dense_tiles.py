"""FULLY_CONNECTED in calls of a few units each, so that the weights of one fit a tile: for the general kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midgehost.models.graph import Node
from midgehost.models.ops import weighted
from midgehost.models.ops.base import Call, Place


def split(node: Node, call: Call, tile_bytes: int) -> list[Call]:
    """The call's units in as many calls as it takes; the call itself where it cannot be split: a batch of inputs."""
    weights = node.input(1).array()
    units, depth = weights.shape
    if len(call.weights) <= tile_bytes or call.rows != units or depth > tile_bytes:
        return [call]
    most = tile_bytes // depth
    biases = weighted.folded_biases(node, weights.sum(axis=1, dtype=np.int64))
    stage = weighted.stage(node)
    calls: list[Call] = []
    for first in range(0, units, most):
        some = slice(first, min(first + most, units))
        scales = stage
        if len(stage.mantissas) > 1:
            scales = replace(stage, mantissas=stage.mantissas[some], shifts=stage.shifts[some])
        rows = some.stop - some.start
        calls.append(
            replace(
                call,
                out=Place(call.out.tensor, call.out.offset + first),
                weights=weighted.tile(weights[some]),
                params=[depth, rows, *scales.words(biases[some])],
                rows=rows,
                macs=rows * depth,
            )
        )
    return calls
