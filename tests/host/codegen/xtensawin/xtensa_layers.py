"""Random layers for the Xtensa kernels, and what runs them on a core."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.machine import MachineCall
from midgehost.codegen.sim import Core
from midgehost.models.graph import Graph, Node, Operator, Quant, Tensor
from midgehost.models.ops import registry

Array = NDArray[Any]
Rng = np.random.Generator


def dense(rng: Rng, depth: int, units: int, batch: int = 1, **how: Any) -> Node:
    """FULLY_CONNECTED."""
    return _layer("FULLY_CONNECTED", rng, (batch, depth), (units, depth), (batch, units), {}, **how)


def convolution(
    rng: Rng,
    size: tuple[int, int, int],
    filters: int,
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: str = "SAME",
    kind: str = "CONV_2D",
    **how: Any,
) -> Node:
    """CONV_2D, or DEPTHWISE_CONV_2D with `filters` channels, on an image of size (height, width, channels)."""
    sides = [
        -(-length // stride) if padding == "SAME" else (length - side) // stride + 1
        for length, side, stride in zip(size, kernel, strides, strict=False)
    ]
    options = {"Padding": padding, "StrideH": strides[0], "StrideW": strides[1]}
    shape = (filters, *kernel, size[2]) if kind == "CONV_2D" else (1, *kernel, filters)
    return _layer(kind, rng, (1, *size), shape, (1, *sides, filters), options, **how)


def _layer(
    kind: str,
    rng: Rng,
    in_shape: Sequence[int],
    weight_shape: Sequence[int],
    out_shape: Sequence[int],
    options: Mapping[str, Any],
    weights: Array | None = None,
    reals: Array | None = None,
    fused: str | None = None,
) -> Node:
    """An operator with random quantisation; `reals` are the channels' multipliers, else such that outputs spread."""
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    channels = weight_shape[axis]
    if weights is None:
        weights = _weights(rng, weight_shape, axis)
    if reals is None:
        by_channel = np.moveaxis(weights, axis, 0).reshape(channels, -1).astype(float)
        reals = rng.uniform(0.3, 3, channels) / np.sqrt((by_channel**2).sum(axis=1) + 1)
    zero_points = [int(z) for z in rng.choice([-128, 127, 0, *rng.integers(-128, 128, 3)], 2)]
    fused = fused or str(rng.choice(["NONE", "RELU", "RELU6", "RELU_N1_TO_1"], p=[0.4, 0.4, 0.1, 0.1]))
    out_scale = 1.0 if fused == "NONE" else float(rng.choice([1.0, 0.0625]))
    biases = rng.integers(-2000, 2000, channels)
    if rng.random() < 0.1:
        biases = rng.choice([-(1 << 30), 1 << 30, (1 << 31) - 1, -(1 << 31), 0], channels)
    scales = tuple(float(scale) for scale in np.float32(reals * out_scale))
    tensors = (
        Tensor(0, "in", tuple(in_shape), "int8", Quant((1.0,), (zero_points[0],))),
        _constant(1, weights.astype(np.int8), Quant(scales, (0,) * channels, axis)),
        _constant(2, biases.astype(np.int32), Quant(scales, (0,) * channels)),
        Tensor(3, "out", tuple(out_shape), "int8", Quant((out_scale,), (zero_points[1],))),
    )
    operator = Operator(0, kind, 1, (0, 1, 2), (3,), {"FusedActivationFunction": fused, **options})
    node = Graph("test", tensors, (operator,), (0,), (3,)).nodes[0]
    registry()[kind].check(node)
    return node


def _constant(index: int, values: Array, quant: Quant) -> Tensor:
    return Tensor(index, f"t{index}", values.shape, values.dtype.name, quant, values.tobytes())


def _weights(rng: Rng, shape: Sequence[int], axis: int) -> Array:
    """Channels of many sorts: dense, small, all -128, nothing, one large weight."""
    weights = rng.integers(-128, 128, shape).astype(np.int8)
    for channel in range(shape[axis]):
        part = np.moveaxis(weights, axis, 0)[channel]
        match rng.integers(0, 8):
            case 0:
                part[...] = rng.integers(-4, 5, part.shape)
            case 1:
                part[...] = -128
            case 2:
                part[...] = 0
            case 3:
                part[...] = 0
                part.reshape(-1)[rng.integers(part.size)] = rng.choice([-128, 127])
            case _:
                pass
    return weights


def extreme_multipliers(rng: Rng, channels: int) -> Array:
    """From far below 2^-31 to above 1: what shifts to the left, and what is always the zero point."""
    return 2.0 ** rng.uniform(-36, 4, channels)


def inputs(rng: Rng, node: Node) -> Iterable[Array]:
    """Random ones, the extremes, and such that match the signs of a filter's weights, both ways."""
    shape = node.input(0).shape
    yield rng.integers(-128, 128, shape).astype(np.int8)
    yield np.full(shape, -128, np.int8)
    yield np.full(shape, 127, np.int8)
    weights = node.input(1).array()
    channel = int(rng.integers(node.output.shape[-1]))
    chosen = weights[..., channel] if node.kind == "DEPTHWISE_CONV_2D" else weights[channel]
    pattern = np.resize(np.where(chosen < 0, -128, 127), shape).astype(np.int8)
    yield pattern
    yield ~pattern


def reference(node: Node, x: Array) -> Array:
    """What the outputs must be."""
    constants = [tensor.array() for tensor in node.inputs[1:]]
    return registry()[node.kind].reference(node, [x, *constants])[0]


def run(
    core: Core, node: Node, calls: Sequence[MachineCall], x: Array, rng: Rng | None = None, check: bool = True
) -> tuple[Array, list[int]]:
    """The outputs, and what each call cost; with `rng` calls are cut into slices. Unwritten outputs are poison."""
    mark = core.mark()
    source = core.put(x.tobytes())
    target = core.alloc(node.output.nbytes)
    costs: list[int] = []
    for call in calls:
        assert call.in0 is not None
        code, weights = core.load(call.routine.code), core.load(call.weights)
        params = core.load(struct.pack(f"<{len(call.params)}i", *call.params), 4)
        scratch = core.alloc(call.scratch_bytes)
        cuts = {0, call.rows} | (set() if rng is None else {int(c) for c in rng.integers(0, call.rows + 1, 3)})
        costs.append(0)
        for rows in itertools.pairwise(sorted(cuts)):
            block = core.block(source + call.in0.offset, 0, target + call.out.offset, weights, params, scratch, rows)
            status, cost = core.call(code, block, check)
            assert status == 0
            costs[-1] += cost
    found = np.frombuffer(core.read(target, node.output.nbytes), np.int8).reshape(node.output.shape)
    core.release(mark)
    return found, costs
