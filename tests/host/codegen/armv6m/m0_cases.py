"""Random nodes for the kernels of ARMv6-M, and machine calls run on the emulated core."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.machine import STATUS_OK, MachineCall
from midgehost.codegen.sim import Core
from midgehost.models.graph import Graph, Node, Operator, Quant, Tensor
from midgehost.models.ops import registry

Array = NDArray[Any]
Rng = np.random.Generator


def weighted_node(
    kind: str,
    shape: Sequence[int],
    output: Sequence[int],
    weights: Array,
    scales: Sequence[float],
    biases: Array,
    zero_points: tuple[int, int],
    options: Mapping[str, Any],
) -> Node:
    """A checked layer; `scales` are effective ones, input and output have the scale 1."""
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    single = tuple(float(np.float32(scale)) for scale in scales)
    tensors = (
        Tensor(0, "in", tuple(shape), "int8", Quant((1.0,), zero_points[:1])),
        Tensor(1, "weights", weights.shape, "int8", Quant(single, (0,) * len(single), axis), weights.tobytes()),
        Tensor(2, "bias", biases.shape, "int32", Quant(single, (0,) * len(single)), biases.astype(np.int32).tobytes()),
        Tensor(3, "out", tuple(output), "int8", Quant((1.0,), zero_points[1:])),
    )
    return _checked(Graph("test", tensors, (Operator(0, kind, 1, (0, 1, 2), (3,), options),), (0,), (3,)))


def add_node(kind: str, shape: Sequence[int], quants: Sequence[tuple[float, int]], fused: str) -> Node:
    """ADD or SUB; scale and zero point of both inputs and the output."""
    tensors = tuple(
        Tensor(i, f"t{i}", tuple(shape), "int8", Quant((float(np.float32(scale)),), (zero,)))
        for i, (scale, zero) in enumerate(quants)
    )
    operator = Operator(0, kind, 1, (0, 1), (2,), {"FusedActivationFunction": fused})
    return _checked(Graph("test", tensors, (operator,), (0, 1), (2,)))


def _checked(graph: Graph) -> Node:
    node = graph.nodes[0]
    registry()[node.kind].check(node)
    return node


def random_weights(rng: Rng, shape: Sequence[int], axis: int) -> Array:
    """Weights as training leaves them, or a corner: -128 everywhere, extremes, small ones, zeros, a single one."""
    match rng.integers(9):
        case 0:
            return np.full(shape, -128, np.int8)
        case 1:
            return rng.choice(np.array([-128, 127, -127], np.int8), tuple(shape))
        case 2:
            return rng.integers(-2, 3, shape).astype(np.int8)
        case 3:
            made = np.zeros(shape, np.int8)
            made.reshape(-1)[rng.integers(made.size)] = rng.choice([-128, 127])
            return made
        case 4:
            made = rng.integers(-128, 128, shape).astype(np.int8)
            np.moveaxis(made, axis, 0)[rng.random(shape[axis]) < 0.5] = 0
            return made
        case _:
            return np.clip(np.rint(rng.normal(0, rng.choice([5, 40, 80]), shape)), -128, 127).astype(np.int8)


def random_layer(rng: Rng, kind: str, shape: Sequence[int], weights: Array, options: dict[str, Any]) -> Node:
    """Scales that use some of the output's range, far too much of it or nothing; any biases and zero points."""
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    channels = weights.shape[axis]
    reach = abs(np.moveaxis(weights, axis, 0).reshape(channels, -1).astype(np.int64)).sum(axis=1) * 128 + 1
    scales = 10 ** rng.uniform(1.2, 3.5, channels) / reach
    if rng.random() < 0.3:
        odd = rng.random(channels) < 0.4
        scales[odd] = rng.choice([5.0, 1.5, 0.3, 2e-7, 2.0**-33, 2.0**-37], channels)[odd]
    if kind == "FULLY_CONNECTED" or rng.random() < 0.2:
        scales = scales[:1]
    biases = rng.uniform(-70, 70, channels) / np.resize(scales, channels)
    zero_points = tuple(int(rng.choice([-128, 0, rng.integers(-128, 128)])) for _ in "io")
    fused = str(rng.choice(["NONE", "RELU", "RELU", "RELU6", "RELU_N1_TO_1"]))
    return weighted_node(
        kind,
        shape,
        _output_shape(kind, shape, weights, options),
        weights,
        scales.tolist(),
        np.rint(biases).clip(-(1 << 30), 1 << 30),
        (zero_points[0], zero_points[1]),
        {**options, "FusedActivationFunction": fused},
    )


def _output_shape(kind: str, shape: Sequence[int], weights: Array, options: Mapping[str, Any]) -> list[int]:
    if kind == "FULLY_CONNECTED":
        return [shape[0], weights.shape[0]]
    filters = weights.shape[3 if kind == "DEPTHWISE_CONV_2D" else 0]
    sides = [
        -(-size // options[stride]) if options["Padding"] == "SAME" else (size - reach) // options[stride] + 1
        for size, reach, stride in zip(shape[1:3], weights.shape[1:3], ("StrideH", "StrideW"), strict=True)
    ]
    return [shape[0], *sides, filters]


def random_input(rng: Rng, node: Node) -> Array:
    """Random, extreme, or matched to the signs of a channel's weights, as far as shapes allow."""
    shape = node.input(0).shape
    match rng.integers(6):
        case 0:
            return np.full(shape, rng.choice([-128, 127]), np.int8)
        case 1 if node.input(1).is_constant:
            weights = node.input(1).array()
            one = np.moveaxis(weights, 3, 0) if node.kind == "DEPTHWISE_CONV_2D" else weights
            signs = np.resize(one[rng.integers(len(one))].reshape(-1) > 0, shape) ^ bool(rng.integers(2))
            return np.where(signs, 127, -128).astype(np.int8)
        case _:
            return rng.integers(-128, 128, shape).astype(np.int8)


def run(
    core: Core, node: Node, calls: Sequence[MachineCall], values: Sequence[Array], seed: int | None = None
) -> tuple[Array, int]:
    """The output and the cycles; with a seed each call is cut into slices of rows."""
    rng = random.Random(seed)
    mark = core.mark()
    places = {tensor.index: core.load(value.tobytes()) for tensor, value in zip(node.inputs, values, strict=False)}
    output = places[node.output.index] = core.alloc(node.output.nbytes)
    scratch = core.alloc(max(call.scratch_bytes for call in calls))
    total = 0
    for call in calls:
        code, tile = core.load(call.routine.code), core.load(call.weights)
        params = core.load(struct.pack(f"<{len(call.params)}i", *call.params), 4)
        cuts = {0, call.rows} | ({rng.randrange(call.rows + 1) for _ in range(3)} if seed is not None else set())
        in0, in1, out = (
            0 if place is None else places[place.tensor] + place.offset for place in (call.in0, call.in1, call.out)
        )
        for rows in pairwise(sorted(cuts)):
            status, cycles = core.call(code, core.block(in0, in1, out, tile, params, scratch, rows))
            assert status == STATUS_OK
            total += cycles
    found = np.frombuffer(core.read(output, node.output.nbytes), np.int8).reshape(node.output.shape)
    core.release(mark)
    return found, total


def reference(node: Node, values: Sequence[Array]) -> Array:
    """The numpy reference's output."""
    constants = [tensor.array() for tensor in node.inputs if tensor.is_constant]
    return registry()[node.kind].reference(node, [*values, *constants])[0]
