"""Random whole models at the corners of every operator, and a runner that leaves no memory as a kernel wants it.

`Model.graph(seed)` gives a checked graph of 1 to 6 operators; `run_hostile` runs a plan of it with noise in whatever an
operator may not rely on: scratch, the output before it is written, the bytes behind a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tflite_builder import ModelSpec, OperatorSpec, TensorSpec

from midgehost.codegen import sim
from midgehost.codegen.lowering import MachinePlan, backend, candidates, choose, machine_plan
from midgehost.codegen.sim.model import LoadedModel, Run
from midgehost.errors import ModelError
from midgehost.models import checks, reference
from midgehost.models.convert import macs
from midgehost.models.graph import Graph, Node
from midgehost.models.ops.convolution import kernel_window
from midgehost.models.planner import aligned
from midgehost.models.prune import prune

Array = NDArray[Any]
Rng = np.random.Generator
IMAGES = ("conv", "conv", "conv", "pointwise", "depthwise", "depthwise", "pool", "residual", "self_add", "pad")
ANYTHING = ("unary", "binary", "concatenate", "requantise", "reshape", "slice", "constant_add")
_MOST_MACS, _MOST_VALUES = 30_000, 3_000  # of an operator, of a tensor


class Model:
    """A random model, operator by operator."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.tensors: list[TensorSpec] = []
        self.operators: list[OperatorSpec] = []
        self.tame = bool(rng.random() < 0.6)  # layers as networks have them, for which there are fast kernels
        batch = 1 if self.tame else int(rng.choice([1, 1, 2, 3]))
        if rng.random() < 0.2:
            shape: list[int] = [batch, self.size(1, 2, 3, 7, 16, 31, 64, 97)]
        else:
            height, width = (self.size(1, 1, 2, 3, 4, 5, 7, 8, 11, 13) for _ in "hw")
            depth = self.size(1, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 20, 32)
            shape = [batch, height, width, depth]
        self.inputs = [self.activation(shape)]
        self.outputs: list[int] = []

    @classmethod
    def graph(cls, seed: int) -> Graph:
        """The checked graph of a seed."""
        rng = np.random.default_rng(seed)
        while True:
            try:
                model = cls(rng)
                model.fill(int(rng.integers(1, 7)))
                graph = ModelSpec(model.tensors, model.operators, model.inputs, model.outputs).graph()
                checks.check(graph)
            except (ModelError, Impossible):
                continue
            if macs(graph) <= 2 * _MOST_MACS:
                return replace(graph, name=f"seed{seed}", source_sha256=f"{seed:064x}")

    def fill(self, count: int) -> None:
        """Appends so many steps."""
        at = self.inputs[0]
        for number in range(count):
            image = len(self.shape(at)) == 4
            if image and self.rng.random() < 0.75:
                step = str(self.rng.choice(IMAGES))
            elif self.rng.random() < 0.4:
                step = str(self.rng.choice(["dense", "mean"] if image else ["dense"]))
            else:
                step = str(self.rng.choice(ANYTHING))
            before = at
            at = getattr(self, step)(at)
            if number and before not in self.outputs and self.rng.random() < 0.06:
                self.outputs.append(before)
        if len(self.shape(at)) == 2 and self.rng.random() < 0.3:
            target = self.append(TensorSpec(self.shape(at), scale=1 / 256, zero_point=-128))
            at = self.call("SOFTMAX", [at], target, Beta=1.0)
        if self.rng.random() < 0.1:
            at = self.call("DEQUANTIZE", [at], self.append(TensorSpec(self.shape(at), "float32")))
        self.outputs.append(at)

    # tensors

    def size(self, *sizes: int) -> int:
        return int(self.rng.choice(sizes))

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self.tensors[tensor].shape)

    def append(self, tensor: TensorSpec) -> int:
        if prod(tensor.shape) > 4 * _MOST_VALUES or min(tensor.shape, default=1) < 1:
            raise Impossible
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def activation(self, shape: Sequence[int], like: int | None = None) -> int:
        rng = self.rng
        if prod(shape) > _MOST_VALUES:
            raise Impossible
        if like is not None:
            return self.append(TensorSpec(shape, scale=self.scale(like), zero_point=self.zero(like)))
        corners = [-128, -128, 0] if self.tame else [-128, 127, 0]
        zero = int(rng.choice([*corners, int(rng.integers(-128, 128))]))
        scale = 2.0 ** rng.integers(-6, -3) if rng.random() < 0.5 else 2.0 ** rng.uniform(-6, -2)
        return self.append(TensorSpec(shape, scale=float(scale), zero_point=zero))

    def result(self, kind: str, one: int, other: int) -> int:
        """The output of ADD, SUB or MUL, of a scale that mostly fits both operands."""
        a, b = self.scale(one), self.scale(other)
        if self.rng.random() < 0.2:
            return self.activation(self.shape(one))
        scale = 150 * a * b if kind == "MUL" else max(a, b)
        above = kind == "ADD" and self.zero(one) == self.zero(other) == -128
        zero = -128 if above else int(self.rng.integers(-40, 40))
        return self.append(TensorSpec(self.shape(one), scale=scale * 2.0 ** self.rng.uniform(0, 2), zero_point=zero))

    def scale(self, tensor: int) -> float:
        return self.tensors[tensor].scales[0]

    def zero(self, tensor: int) -> int:
        return self.tensors[tensor].zero_points[0]

    def example(self, tensor: int) -> Array:
        """The tensor's value for an input of any values."""
        if tensor in self.inputs:
            return np.arange(-128, 128)
        graph = ModelSpec(self.tensors, self.operators, self.inputs, [tensor]).graph()
        checks.check(graph)
        image = np.random.default_rng(0).integers(-128, 128, self.shape(self.inputs[0]))
        return reference.taps(graph, [image])[tensor]

    def ints(self, values: Any) -> int:
        array = np.array(values, np.int32)
        return self.append(TensorSpec(array.shape, "int32", data=array))

    def call(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        self.operators.append(OperatorSpec(kind, inputs, [output], options))
        return output

    def fused(self) -> str:
        some = ["RELU", "RELU6", "RELU_N1_TO_1"]
        return str(self.rng.choice(some)) if self.rng.random() < 0.3 else "NONE"

    def values(self, shape: Sequence[int], axis: int) -> Array:
        """Weights: everywhere -128, 127 or 0, small, sparse, a single one, signs only, rows and columns of zeros."""
        rng = self.rng
        kind = int(rng.integers(20 if self.tame else 12))
        if kind < 3:
            return np.full(shape, (-128, 127, -128)[kind], np.int8)
        if kind == 3:
            return rng.choice(np.array([-128, 127, -127], np.int8), tuple(shape))
        if kind == 4:
            return rng.integers(-2, 3, tuple(shape)).astype(np.int8)
        data = rng.integers(-128, 128, tuple(shape)).astype(np.int8)
        if kind == 5:
            data[rng.random(tuple(shape)) < 0.9] = 0
        elif kind == 6:
            at = int(rng.integers(data.size))
            value = data.flat[at]
            data[:] = 0
            data.flat[at] = value or -128
        elif kind == 7 and rng.random() < 0.2:
            data[:] = 0
        elif kind < 10:
            np.moveaxis(data, axis, 0)[rng.random(shape[axis]) < rng.choice([0.3, 0.8])] = 0
            if axis == 0 and rng.random() < 0.5:
                data[..., rng.random(shape[-1]) < 0.4] = 0
        return data

    def weights(self, shape: Sequence[int], axis: int, source: int, target: int) -> list[int]:
        """[weights, bias or -1] of a layer; its scales may vanish, shift to the left, be exact powers of two."""
        rng, filters = self.rng, shape[axis]
        data = self.values(shape, axis)
        rows = np.moveaxis(data, axis, 0).reshape(filters, -1).astype(np.int64)
        # What the sums mostly are, by channel.
        value = self.example(source)
        spread = max(1.0, float(value.std())) * np.maximum(np.sqrt((rows**2).sum(axis=1)), 1)
        middle = rows.sum(axis=1) * (float(value.mean()) - self.zero(source))
        fitting = rng.uniform(15, 60) / (spread if rng.random() < 0.6 else np.array([np.median(spread)]))
        scale = fitting * self.scale(target) / self.scale(source)
        style = rng.uniform(0.1, 2.5) if self.tame else rng.random()
        if style < 0.2:
            scale = 2.0 ** np.rint(np.log2(scale))
        elif style < 0.4:
            scale = scale * 2.0 ** rng.choice([0, 0, 0, 0, -45, -40, -33, -22, 5, 9, 20], len(scale))
        if np.max(scale) * self.scale(source) / self.scale(target) >= 1 << 29:
            raise Impossible
        # Most biases leave outputs between their limits, whatever the zero points are.
        bias = (rng.uniform(-70, 70, filters) - self.zero(target)) / fitting - middle
        if rng.random() < (0.05 if self.tame else 0.3):
            bias = rng.normal(0, rng.choice([1.0, 1 << 20, 1 << 30]), filters)
        bias = np.rint(bias).clip(-(2**31), 2**31 - 1).astype(np.int64)
        huge = rng.random(filters) < rng.choice([0.0, 0.0, 0.1] if self.tame else [0.0, 0.3])
        edges = np.array([1 << 30, -(1 << 30), (1 << 31) - 1, (1 << 31) - 5, -(1 << 31), 5 - (1 << 31)])
        bias[huge] = rng.choice(edges, int(huge.sum()))
        number = self.append(TensorSpec(shape, scale=scale, axis=axis, data=data))
        if rng.random() < 0.06:
            return [number, -1]
        single = [float(np.float32(s) * np.float32(self.scale(source))) for s in self.tensors[number].scales]
        return [number, self.append(TensorSpec([filters], "int32", scale=single, data=bias))]

    # operators on images

    def window(self, source: int, sizes: Sequence[int]) -> tuple[list[int], list[int], dict[str, Any]]:
        """(window, output size, options): any stride, some dilated, some larger than the image."""
        rng, image = self.rng, self.shape(source)[1:3]
        same = bool(rng.random() < 0.5)
        if self.tame:
            window, stride = [self.size(*sizes)] * 2, [self.size(1, 1, 2)] * 2
            if same or min(image) >= window[0]:
                out = [(n + s - (1 if same else window[0])) // s for n, s in zip(image, stride, strict=True)]
                options = {"Padding": "SAME" if same else "VALID", "StrideH": stride[0], "StrideW": stride[0]}
                return window, out, options | {"FusedActivationFunction": self.fused()}
        window = [self.size(*sizes) for _ in "hw"] if rng.random() < 0.4 else [self.size(*sizes)] * 2
        stride = [self.size(1, 1, 2, 3, 4) for _ in "hw"] if rng.random() < 0.3 else [self.size(1, 1, 1, 2)] * 2
        dilation = [self.size(1, 2, 3) for _ in "hw"] if rng.random() < 0.15 else [1, 1]
        if not same:
            window = [min(w, n) for w, n in zip(window, image, strict=True)]
            dilation = [d if (w - 1) * d < n else 1 for d, w, n in zip(dilation, window, image, strict=True)]
        reach = [1 if same else (w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
        out = [(n + s - r) // s for n, s, r in zip(image, stride, reach, strict=True)]
        options = {"Padding": "SAME" if same else "VALID", "StrideH": stride[0], "StrideW": stride[1]}
        if dilation != [1, 1]:
            options |= {"DilationHFactor": dilation[0], "DilationWFactor": dilation[1]}
        return window, out, options | {"FusedActivationFunction": self.fused()}

    def conv(self, source: int, sizes: Sequence[int] = (1, 2, 3, 3, 3, 4, 5, 7)) -> int:
        rng, (batch, _, _, depth) = self.rng, self.shape(source)
        window, out, options = self.window(source, sizes)
        groups = (
            int(rng.choice([g for g in (1, 2, 3, 4) if depth % g == 0])) if rng.random() < 0.15 and not self.tame else 1
        )
        filters = groups * self.size(1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 24, 33)
        shape = [filters, *window, depth // groups]
        if batch * prod(out) * prod(shape) > _MOST_MACS:
            raise Impossible
        target = self.activation([batch, *out, filters])
        return self.call("CONV_2D", [source, *self.weights(shape, 0, source, target)], target, **options)

    def pointwise(self, source: int) -> int:
        return self.conv(source, (1,))

    def depthwise(self, source: int) -> int:
        batch, _, _, depth = self.shape(source)
        window, out, options = self.window(source, (3,) if self.tame else (3, 3, 3, 1, 2, 4, 5, 7))
        multiplier = 1 if self.tame else self.size(1, 1, 2, 3)
        shape = [1, *window, depth * multiplier]
        if batch * prod(out) * prod(shape) > _MOST_MACS:
            raise Impossible
        target = self.activation([batch, *out, depth * multiplier])
        operands = [source, *self.weights(shape, 3, source, target)]
        return self.call("DEPTHWISE_CONV_2D", operands, target, **options, DepthMultiplier=multiplier)

    def pool(self, source: int) -> int:
        batch, height, width, depth = self.shape(source)
        window, out, options = self.window(source, (1, 2, 2, 3, 5))
        if self.rng.random() < 0.2:
            window, out = [height, width], [1, 1]  # of the whole image
            options |= {"Padding": "VALID", "StrideH": 1, "StrideW": 1}
        options = {name: value for name, value in options.items() if not name.startswith("Dilation")}
        if prod(out) * prod(window) * depth > _MOST_MACS:
            raise Impossible
        target = self.activation([batch, *out, depth], like=source)
        kind = str(self.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
        return self.call(kind, [source], target, FilterHeight=window[0], FilterWidth=window[1], **options)

    def residual(self, source: int) -> int:
        """One or two 1 x 1 layers of a tensor, added to it or to each other."""
        batch, height, width, depth = self.shape(source)
        if 2 * batch * height * width * depth * depth > _MOST_MACS:
            raise Impossible
        branches = [source]
        for _ in range(int(self.rng.integers(1, 3))):
            target = self.activation(self.shape(source))
            operands = [source, *self.weights((depth, 1, 1, depth), 0, source, target)]
            options = {"Padding": "VALID", "StrideH": 1, "StrideW": 1, "FusedActivationFunction": self.fused()}
            branches.append(self.call("CONV_2D", operands, target, **options))
        kind = str(self.rng.choice(["ADD", "SUB", "MUL"]))
        operands = branches[-2:] if self.rng.random() < 0.5 else branches[-2:][::-1]
        return self.call(kind, operands, self.result(kind, *operands), **self.activated())

    def self_add(self, source: int) -> int:
        kind = str(self.rng.choice(["ADD", "MUL"]))
        return self.call(kind, [source] * 2, self.result(kind, source, source), **self.activated())

    def pad(self, source: int) -> int:
        edges = [[0, 0], *(self.rng.integers(0, 3, 2).tolist() for _ in "hw"), [0, 0]]
        shape = [n + sum(pair) for n, pair in zip(self.shape(source), edges, strict=True)]
        return self.call("PAD", [source, self.ints(edges)], self.activation(shape, like=source))

    def mean(self, source: int) -> int:
        axes = [[1, 2], [1, 2], [1], [2], [3], [1, 2, 3]][int(self.rng.integers(6))]
        keep = bool(self.rng.random() < 0.5)
        shape = [1 if i in axes else n for i, n in enumerate(self.shape(source)) if keep or i not in axes]
        return self.call("MEAN", [source, self.ints(axes)], self.activation(shape), KeepDims=keep)

    # operators on tensors of any rank

    def dense(self, source: int) -> int:
        batch, depth = self.shape(source)[0], prod(self.shape(source)[1:])
        units = self.size(1, 2, 3, 4, 5, 7, 10, 13, 16, 33, 64)
        if batch * units * depth > _MOST_MACS:
            raise Impossible
        if self.rng.random() < 0.5:
            flat = self.activation((batch, depth), like=source)
            source = self.call("RESHAPE", [source, self.ints([batch, depth])], flat)
        target = self.activation((batch, units))
        operands = [source, *self.weights((units, depth), 0, source, target)]
        return self.call("FULLY_CONNECTED", operands, target, **self.activated())

    def unary(self, source: int) -> int:
        kind = str(self.rng.choice(["LOGISTIC", "TANH", "RELU", "LEAKY_RELU", "HARD_SWISH", "RELU6"]))
        options = {"Alpha": 0.1} if kind == "LEAKY_RELU" else {}
        fixed = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
        if kind in fixed:
            scale, zero = fixed[kind]
            target = self.append(TensorSpec(self.shape(source), scale=scale, zero_point=zero))
        else:
            target = self.activation(self.shape(source), like=source if kind == "RELU6" else None)
        return self.call(kind, [source], target, **options)

    def binary(self, source: int) -> int:
        """Of two earlier tensors of a shape, or of a tensor and a constant that is repeated along some axes."""
        shape = self.shape(source)
        kind = str(self.rng.choice(["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"]))
        like = source if kind in ("MAXIMUM", "MINIMUM") else None
        others = [i for i, t in enumerate(self.tensors) if t.data is None and self.is_like(i, source, like is not None)]
        other = int(self.rng.choice(others)) if others else source
        target = self.activation(shape, like=like) if like is not None else self.result(kind, source, other)
        options = self.activated() if like is None else {}
        return self.call(kind, [source, other] if self.rng.random() < 0.5 else [other, source], target, **options)

    def constant_add(self, source: int) -> int:
        shape = [n if self.rng.random() < 0.6 else 1 for n in self.shape(source)]
        kind = str(self.rng.choice(["ADD", "SUB", "MUL"]))
        scale = self.scale(source) * 2.0 ** self.rng.uniform(-2, 2)
        data = self.rng.integers(-128, 128, shape)
        other = self.append(TensorSpec(shape, scale=scale, zero_point=int(self.rng.integers(-128, 128)), data=data))
        target = self.result(kind, source, other)
        operands = [source, other] if self.rng.random() < 0.5 else [other, source]
        return self.call(kind, operands, target, **self.activated())

    def is_like(self, one: int, other: int, quantised: bool) -> bool:
        a, b = self.tensors[one], self.tensors[other]
        alike = (a.scales, a.zero_points) == (b.scales, b.zero_points)
        return a.dtype == "int8" and tuple(a.shape) == tuple(b.shape) and (alike or not quantised)

    def activated(self) -> dict[str, Any]:
        return {"FusedActivationFunction": self.fused()}

    def concatenate(self, source: int) -> int:
        shape = list(self.shape(source))
        axis = int(self.rng.integers(min(1, len(shape) - 1), len(shape)))
        count = int(self.rng.integers(2, 4))
        shape[axis] *= count
        return self.call("CONCATENATION", [source] * count, self.activation(shape, like=source), Axis=axis)

    def requantise(self, source: int) -> int:
        scale, zero = self.scale(source) * 2.0 ** self.rng.uniform(-1, 2), self.zero(source) // 2
        return self.call(
            "QUANTIZE", [source], self.append(TensorSpec(self.shape(source), scale=scale, zero_point=zero))
        )

    def reshape(self, source: int) -> int:
        """Cuts channels apart, or moves them into another axis."""
        shape = self.shape(source)
        rest = prod(shape[1:])
        factors = [n for n in range(1, rest + 1) if rest % n == 0]
        depth = int(self.rng.choice(factors))
        height = int(self.rng.choice([n for n in factors if (rest // depth) % n == 0]))
        new = [shape[0], height, rest // depth // height, depth]
        return self.call("RESHAPE", [source, self.ints(new)], self.activation(new, like=source))

    def slice(self, source: int) -> int:
        shape = self.shape(source)
        begin = [0, *(int(self.rng.integers(0, n)) for n in shape[1:])]
        end = [shape[0], *(int(self.rng.integers(b + 1, n + 1)) for b, n in zip(begin[1:], shape[1:], strict=True))]
        step = [1, *(self.size(1, 1, 2) for _ in shape[1:])]
        new = [-(-(e - b) // s) for b, e, s in zip(begin, end, step, strict=True)]
        operands = [source, *(self.ints(v) for v in (begin, end, step))]
        return self.call("STRIDED_SLICE", operands, self.activation(new, like=source))


class Impossible(Exception):
    """A step that does not fit; the model is drawn again."""


def images(graph: Graph, rng: Rng, count: int) -> Iterator[list[Array]]:
    """Inputs: all -128, all 127, the first layer's signs and their opposite, narrow ones; the last has any values."""
    shapes = [graph.tensors[index].shape for index in graph.inputs]
    for value in (-128, 127):
        yield [np.full(shape, value, np.int8) for shape in shapes]
    matched = sign_matched(graph, rng)
    if matched is not None:
        yield [matched]
        yield [~matched]
    for _ in range(count):
        low, high = ((-128, -100), (100, 128))[int(rng.integers(2))]
        yield [rng.integers(low, high, shape).astype(np.int8) for shape in shapes]
    yield [rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes]


def sign_matched(graph: Graph, rng: Rng) -> Array | None:
    """An input that makes a sum of the first operator, a layer, as large as can be; None where it is no layer."""
    node = graph.nodes[0]
    if node.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return None
    shape = node.input(0).shape
    weights = node.input(1).array()
    if node.kind == "FULLY_CONNECTED":
        chosen = weights[rng.integers(len(weights))]
        return np.resize(np.where(chosen >= 0, 127, -128), shape).astype(np.int8)
    window = kernel_window(node)
    _, height, width, depth = shape
    image = np.full(shape, -128, np.int8)
    if node.kind == "DEPTHWISE_CONV_2D":
        chosen = weights[0, :, :, :: weights.shape[3] // depth]
    else:
        chosen = np.tile(weights[rng.integers(len(weights))], depth // weights.shape[3])
    top = int(rng.integers(window.out_height)) * window.stride_height - window.pad_height
    left = int(rng.integers(window.out_width)) * window.stride_width - window.pad_width
    for y in range(height):
        for x in range(width):
            # Beside the window the pattern goes on: neighbours that read the same bytes see their signs too.
            at = (y - top) // window.dilation_height % window.height, (x - left) // window.dilation_width % window.width
            image[:, y, x] = np.where(chosen[at] >= 0, 127, -128)
    return image


class HostileModel(LoadedModel):
    """Before each operator everything that it may touch but its inputs is noise."""

    def __init__(self, core: sim.Core, machine: MachinePlan, seed: int) -> None:
        super().__init__(core, machine)
        self.noise = np.random.default_rng(seed)

    def _fill(self, offset: int, size: int) -> None:
        kind = int(self.noise.integers(4))
        data = self.noise.bytes(size) if kind == 0 else bytes([(0x00, 0x7F, 0x80, 0xFF)[kind]]) * size
        self._core.write(self._arena + offset, data)

    def _grant(self, node: Node, position: int) -> None:
        super()._grant(node, position)
        offsets = self._layout.tensors
        kept = {offsets[tensor.index]: tensor.nbytes for tensor in node.inputs if not tensor.is_constant}
        for offset, size in kept.items():
            self._fill(offset + size, aligned(size) - size)
        for tensor in node.outputs:
            if offsets[tensor.index] not in kept:
                self._fill(offsets[tensor.index], aligned(tensor.nbytes))
        scratch = max((c.scratch_bytes for c in self._machine.chosen[position].calls), default=0)
        self._fill(self._layout.scratch[position], aligned(scratch))


def run_hostile(core: sim.Core, plan: MachinePlan, inputs: Sequence[Array], seed: int) -> Run:
    """One inference. Raises Fault."""
    mark = core.mark()
    try:
        return HostileModel(core, plan, seed).run(inputs)
    finally:
        core.release(mark)


def random_plan(graph: Graph, arch: str, rng: Rng) -> tuple[str, MachinePlan]:
    """A plan with some form, tile and slice, and what they are."""
    form = str(rng.choice(["speed", "size"]))
    tile = [None, None, 4032, 1024, 256][int(rng.integers(5))]
    cycles = float(rng.choice([1.0, 2_000.0, 600_000.0]))
    budget = int(rng.integers(0, 4000)) if rng.random() < 0.2 else None
    how = f"{form}, tile {tile}, {cycles:.0f} cycles, budget {budget}"
    kernels = backend(arch)
    options = [candidates(node, kernels, tile) for node in graph.nodes]
    if rng.random() < 0.4:  # slow candidates are kernels too
        chosen = [some[int(rng.integers(len(some)))] for some in options]
        return how + ", any", machine_plan(graph, arch, chosen, cycles)
    return how, machine_plan(graph, arch, choose(options, form, budget), cycles)


def check_model(core: sim.Core, seed: int, plans: int = 2) -> int:
    """Runs some plans of a seed's model, pruned and not; every value of every operator must agree. How many ran."""
    rng = np.random.default_rng([seed, 1])
    graph = Model.graph(seed)
    inputs = list(images(graph, rng, 1))
    ran = 0
    for _ in range(plans):
        form = prune(graph) if rng.random() < 0.4 else graph
        checks.check(form)
        how, plan = random_plan(form, core.arch, rng)
        for image in (inputs[int(rng.integers(len(inputs) - 1))], inputs[-1]):
            what = f"{core.arch}, seed {seed}, {'pruned' if form is not graph else 'whole'}, {how}"
            try:
                run = run_hostile(core, plan, image, seed)
            except sim.Fault as fault:
                raise AssertionError(f"{what}: {fault}") from fault
            assert not run.mismatches, f"{what}: {[(layer.op, layer.mismatches) for layer in run.layers]}"
            for found, wanted in zip(run.outputs, reference.run(graph, image), strict=True):
                np.testing.assert_array_equal(found, wanted, what)
            ran += 1
    return ran
