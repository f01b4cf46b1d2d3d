"""Random layers with weights, and what their machine calls compute on the emulated Cortex-M33."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.machine import STATUS_OK, MachineCall
from midgehost.codegen.sim import Core
from midgehost.models.graph import Graph, Node, Operator, Quant, Tensor
from midgehost.models.ops import registry
from midgehost.models.ops.base import Place

Array = NDArray[Any]


@dataclass
class Layer:
    """A layer with weights: `size` is that of the image, () for FULLY_CONNECTED; seeded, so a failure names itself."""

    kind: str
    weights: Array
    size: tuple[int, ...] = ()
    batch: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    zero_points: tuple[int, int] = (-128, -128)
    scales: Sequence[float] = (0.01,)  # effective ones, per channel or one
    biases: Array | None = None

    def node(self) -> Node:
        """The layer as a graph of one operator."""
        axis = 3 if self.kind == "DEPTHWISE_CONV_2D" else 0
        depth = self.weights.shape[-1]
        source = (self.batch, depth) if self.kind == "FULLY_CONNECTED" else (self.batch, *self.size)
        channels = self.weights.shape[axis]
        biases = np.zeros(channels, np.int32) if self.biases is None else self.biases.astype(np.int32)
        weight_scales = tuple(float(np.float32(scale)) for scale in self.scales)
        tensors = [
            Tensor(0, "input", source, "int8", Quant((1.0,), (self.zero_points[0],))),
            Tensor(1, "weights", self.weights.shape, "int8", _quant(weight_scales, axis), self.weights.tobytes()),
            Tensor(2, "bias", (channels,), "int32", _quant(weight_scales, 0), biases.tobytes()),
            Tensor(3, "output", self._output_shape(source), "int8", Quant((1.0,), (self.zero_points[1],))),
        ]
        operator = Operator(0, self.kind, 1, (0, 1, 2), (3,), self.options)
        node = Graph("layer", tuple(tensors), (operator,), (0,), (3,)).nodes[0]
        registry()[self.kind].check(node)
        return node

    def _output_shape(self, source: tuple[int, ...]) -> tuple[int, ...]:
        if self.kind == "FULLY_CONNECTED":
            return (self.batch, self.weights.shape[0])
        sides: list[int] = []
        for size, kernel, name in zip(source[1:3], self.weights.shape[1:3], "HW", strict=True):
            stride = self.options.get(f"Stride{name}", 1)
            reach = (kernel - 1) * self.options.get(f"Dilation{name}Factor", 1) + 1
            sides.append(-(-size // stride) if self.options["Padding"] == "SAME" else (size - reach) // stride + 1)
        channels = self.weights.shape[3 if self.kind == "DEPTHWISE_CONV_2D" else 0]
        return (self.batch, *sides, channels)


def _quant(scales: tuple[float, ...], axis: int) -> Quant:
    return Quant(scales, (0,) * len(scales), axis)


def weights(rng: Random, shape: Sequence[int], channel_axis: int) -> Array:
    """Weights as training leaves them, or a corner: with -128, all of one size, rows of zeros, a single large one."""
    random = np.random.default_rng(rng.randrange(1 << 30))
    kind = rng.choice(["wide", "wide", "lowest", "small", "large", "single", "dead"])
    made = random.integers(-127, 128, shape, np.int8)
    if kind == "lowest":
        made[random.random(shape) < 0.2] = -128
    elif kind == "small":
        made = random.integers(-9, 10, shape, np.int8)
    elif kind == "large":
        made = np.where(random.random(shape) < 0.5, np.int8(-127), np.int8(127))
    elif kind == "single":
        made = np.zeros(shape, np.int8)
        made.reshape(-1)[random.integers(made.size)] = 127
    elif kind == "dead":
        rows = np.moveaxis(made, channel_axis, 0)
        rows[random.random(len(rows)) < 0.5] = 0
    return made


def scales(rng: Random, node_weights: Array, channel_axis: int, per_channel: bool) -> list[float]:
    """Effective scales: each channel's largest sum is 20 to 2000 steps of the output, or anything from 2^-40 to 2^4."""
    rows = np.moveaxis(node_weights, channel_axis, 0).reshape(node_weights.shape[channel_axis], -1)
    largest = np.abs(rows.astype(np.int64)).sum(axis=1) * 128 + 1
    largest = [int(size) for size in largest] if per_channel else [int(largest.max())]
    if rng.random() < 0.1:
        return [2.0 ** rng.uniform(*rng.choice([(-40, -20), (-2, 4)])) for _ in largest]
    return [10 ** rng.uniform(1.3, 3.3) / size for size in largest]


def inputs(rng: Random, shape: Sequence[int], node_weights: Array) -> Array:
    """Random values, a corner, or values that match the signs of the weights in some order."""
    kind = rng.randrange(6)
    if kind < 2:
        return np.full(shape, (-128, 127)[kind], np.int8)
    if kind == 2:
        signs = np.resize(node_weights.reshape(-1), shape) > 0
        return np.where(signs, np.int8(127), np.int8(-128)) if rng.random() < 0.5 else np.where(signs, -128, 127)
    return np.random.default_rng(rng.randrange(1 << 30)).integers(-128, 128, shape, np.int8)


def run(core: Core, node: Node, calls: Sequence[MachineCall], value: Array, rng: Random | None) -> tuple[Array, int]:
    """The output, and the cycles; calls are cut into random slices of rows unless `rng` is None."""
    mark = core.mark()
    output = node.output
    tensors = {0: core.put(np.ascontiguousarray(value, np.int8).tobytes()), output.index: core.alloc(output.nbytes)}
    scratch = core.alloc(max(call.scratch_bytes for call in calls))

    def at(place: Place | None) -> int:
        return 0 if place is None else tensors[place.tensor] + place.offset

    total = 0
    for call in calls:
        code, tile = core.load(call.routine.code), core.load(call.weights)
        params = core.load(struct.pack(f"<{len(call.params)}i", *call.params), 4)
        cuts = {0, call.rows} | ({rng.randrange(call.rows + 1) for _ in range(rng.randrange(3))} if rng else set())
        for rows in itertools.pairwise(sorted(cuts)):
            block = core.block(at(call.in0), 0, at(call.out), tile, params, scratch, rows)
            status, count = core.call(code, block)
            assert status == STATUS_OK
            total += count
    found = np.frombuffer(core.read(tensors[output.index], output.nbytes), np.int8).reshape(output.shape)
    core.release(mark)
    return found, total


def expected(node: Node, value: Array) -> Array:
    """The numpy reference's output."""
    constants = [tensor.array() for tensor in node.inputs[1:]]
    return registry()[node.kind].reference(node, [np.asarray(value, np.int8), *constants])[0]
