"""Random layers with weights, and what their machine calls compute on the emulated RV32 core."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Layer:
    """A layer with weights on an input of `shape`, batch first."""

    kind: str
    shape: tuple[int, ...]
    weights: Array
    scales: Sequence[float]  # effective ones, per channel or one
    biases: Array
    zero_points: tuple[int, int]
    options: dict[str, Any] = field(default_factory=dict)

    def node(self) -> Node:
        """The layer as a graph of one operator, checked as a converted model is."""
        axis = 3 if self.kind == "DEPTHWISE_CONV_2D" else 0
        scales = tuple(float(np.float32(scale)) for scale in self.scales)
        quant = Quant(scales, (0,) * len(scales), axis)
        biases = self.biases.astype(np.int32)
        tensors = (
            Tensor(0, "input", self.shape, "int8", Quant((1.0,), self.zero_points[:1])),
            Tensor(1, "weights", self.weights.shape, "int8", quant, self.weights.tobytes()),
            Tensor(2, "bias", biases.shape, "int32", Quant(scales, (0,) * len(scales)), biases.tobytes()),
            Tensor(3, "output", self._output(axis), "int8", Quant((1.0,), self.zero_points[1:])),
        )
        node = Graph("layer", tensors, (Operator(0, self.kind, 1, (0, 1, 2), (3,), self.options),), (0,), (3,)).nodes[0]
        registry()[self.kind].check(node)
        return node

    def _output(self, axis: int) -> tuple[int, ...]:
        if self.kind == "FULLY_CONNECTED":
            return (self.shape[0], self.weights.shape[0])
        sides: list[int] = []
        for size, reach, name in zip(self.shape[1:3], self.weights.shape[1:3], "HW", strict=True):
            stride = self.options[f"Stride{name}"]
            sides.append(-(-size // stride) if self.options["Padding"] == "SAME" else (size - reach) // stride + 1)
        return (self.shape[0], *sides, self.weights.shape[axis])


def weights(rng: Rng, shape: Sequence[int], axis: int) -> Array:
    """Weights as training leaves them, or a corner: -128s, large ones, small ones, dead channels, a single one."""
    made = rng.integers(-127, 128, shape).astype(np.int8)
    match rng.integers(8):
        case 0:
            made[rng.random(shape) < 0.5] = -128
        case 1:
            made = np.where(rng.random(shape) < 0.5, -127, 127).astype(np.int8)
        case 2:
            made = rng.integers(-3, 4, shape).astype(np.int8)
        case 3:
            made = np.zeros(shape, np.int8)
            made.reshape(-1)[rng.integers(made.size)] = rng.choice([-128, 127])
        case 4:
            channels = np.moveaxis(made, axis, 0)
            channels[rng.random(len(channels)) < 0.5] = 0
        case _:
            made = np.clip(np.rint(rng.normal(0, rng.choice([8, 40]), shape)), -127, 127).astype(np.int8)
    return made


def finished(rng: Rng, kind: str, shape: Sequence[int], made: Array, options: dict[str, Any] | None = None) -> Layer:
    """A layer with scales that use some of the output's range (or far too much of it, or nothing), biases, zero points
    and an activation."""
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    rows = np.moveaxis(made, axis, 0).reshape(made.shape[axis], -1).astype(np.int64)
    scales = 10 ** rng.uniform(1.3, 3.3, len(rows)) / (abs(rows).sum(axis=1) * 128 + 1)
    odd = rng.random(len(rows)) < (0.3 if rng.random() < 0.2 else 0)
    scales[odd] = rng.choice([3.7, 0.9, 1e-6, 2.0**-33, 2.0**-36], len(rows))[odd]
    if kind == "FULLY_CONNECTED" or rng.random() < 0.2:
        scales = scales[:1]
    biases = np.rint(rng.uniform(-60, 60, len(rows)) / np.resize(scales, len(rows))).clip(-(1 << 30), 1 << 30)
    activation = str(rng.choice(["NONE", "RELU", "RELU", "RELU6", "RELU_N1_TO_1"]))
    zero_points = int(rng.choice([-128, rng.integers(-128, 128)])), int(rng.choice([-128, rng.integers(-128, 128)]))
    options = {**(options or {}), "FusedActivationFunction": activation}
    return Layer(kind, tuple(shape), made, scales.tolist(), biases, zero_points, options)


def inputs(rng: Rng, layer: Layer) -> Array:
    """Random values, a corner, or values that match the signs of the weights in some order."""
    match rng.integers(6):
        case 0:
            return np.full(layer.shape, rng.choice([-128, 127]), np.int8)
        case 1:
            channel = np.moveaxis(layer.weights, 3, 0)[0] if layer.kind == "DEPTHWISE_CONV_2D" else layer.weights[0]
            signs = np.resize(channel.reshape(-1) > 0, layer.shape) ^ bool(rng.integers(2))
            return np.where(signs, 127, -128).astype(np.int8)
        case _:
            return rng.integers(-128, 128, layer.shape).astype(np.int8)


def run(core: Core, node: Node, calls: Sequence[MachineCall], value: Array, rng: Rng | None) -> tuple[Array, int]:
    """The output, and the instructions; calls are cut into random slices of rows unless `rng` is None."""
    mark = core.mark()
    output = core.alloc(node.output.nbytes)
    tensors = {node.input(0).index: core.load(value.tobytes()), node.output.index: output}
    scratch = core.alloc(max(call.scratch_bytes for call in calls))
    total = 0
    for call in calls:
        assert call.in0 is not None
        code, tile = core.load(call.routine.code), core.load(call.weights)
        params = core.load(struct.pack(f"<{len(call.params)}i", *call.params), 4)
        cuts = {0, call.rows} | (set(rng.integers(call.rows + 1, size=3).tolist()) if rng else set())
        for rows in pairwise(sorted(cuts)):
            source, target = (tensors[place.tensor] + place.offset for place in (call.in0, call.out))
            status, count = core.call(code, core.block(source, 0, target, tile, params, scratch, rows))
            assert status == STATUS_OK
            total += count
    found = np.frombuffer(core.read(output, node.output.nbytes), np.int8).reshape(node.output.shape)
    core.release(mark)
    return found, total


def expected(node: Node, value: Array) -> Array:
    """The numpy reference's output."""
    return registry()[node.kind].reference(node, [value, *(tensor.array() for tensor in node.inputs[1:])])[0]
