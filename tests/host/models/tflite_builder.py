"""Small .tflite models made in the test: one operator (or a few) with any shapes, scales and options.

`OneOp(...).tflite()` gives the file for the oracle and the reader, `.node()` the same operator for an op file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

from midgehost.models.graph import Graph, Node, Operator, Quant, Tensor

# Kinds whose options table is not called like the kind. None: the kind has no options.
_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions", "MAX_POOL_2D": "Pool2DOptions", "MEAN": "ReducerOptions",
    "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions", "PADV2": "PadV2Options",
    "LOGISTIC": None, "TANH": None, "RELU": None, "RELU6": None, "RELU_N1_TO_1": None,
}  # fmt: skip
_ENUMS = {
    "FusedActivationFunction": tflite.ActivationFunctionType,
    "Padding": tflite.Padding,
    "WeightsFormat": tflite.FullyConnectedOptionsWeightsFormat,
}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor: scale and zero point are a number or one per channel along `axis`; `data` makes it a constant."""

    shape: Sequence[int]
    dtype: str = "int8"
    scale: float | Sequence[float] | None = None
    zero_point: int | Sequence[int] = 0
    axis: int = 0
    data: NDArray[Any] | None = None
    name: str = ""

    @cached_property
    def scales(self) -> tuple[float, ...]:
        values = () if self.scale is None else np.atleast_1d(np.asarray(self.scale, np.float32))
        return tuple(float(value) for value in values)

    @cached_property
    def zero_points(self) -> tuple[int, ...]:
        values = tuple(int(value) for value in np.atleast_1d(self.zero_point))
        return values if len(values) == len(self.scales) else values * len(self.scales)

    @cached_property
    def raw(self) -> bytes | None:
        return None if self.data is None else np.asarray(self.data, self.dtype).reshape(self.shape).tobytes()


@dataclass(frozen=True)
class OperatorSpec:
    """An operator on tensors by their numbers; an absent optional input is -1. Enum options are given by name."""

    kind: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True)
class ModelSpec:
    """A whole model. Inputs and outputs are the tensors' numbers."""

    tensors: Sequence[TensorSpec]
    operators: Sequence[OperatorSpec]
    inputs: Sequence[int]
    outputs: Sequence[int]

    def tflite(self) -> bytes:
        """The model as a file."""
        return _Writer().model(self)

    def graph(self) -> Graph:
        """The model as the reader would give it."""
        tensors = tuple(
            Tensor(
                i,
                t.name or f"t{i}",
                tuple(t.shape),
                t.dtype,
                Quant(t.scales, t.zero_points, t.axis) if t.scales else None,
                t.raw,
            )
            for i, t in enumerate(self.tensors)
        )
        operators = tuple(
            Operator(i, o.kind, o.version, tuple(o.inputs), tuple(o.outputs), dict(o.options))
            for i, o in enumerate(self.operators)
        )
        return Graph("test", tensors, operators, tuple(self.inputs), tuple(self.outputs))


@dataclass(frozen=True)
class OneOp:
    """A model of one operator. An absent optional input is None; tensors with data are constants, not model inputs."""

    kind: str
    inputs: Sequence[TensorSpec | None]
    outputs: Sequence[TensorSpec]
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1

    @cached_property
    def spec(self) -> ModelSpec:
        present = [t for t in self.inputs if t is not None]
        numbers = iter(range(len(present)))
        inputs = [-1 if t is None else next(numbers) for t in self.inputs]
        outputs = [len(present) + i for i in range(len(self.outputs))]
        return ModelSpec(
            [*present, *self.outputs],
            [OperatorSpec(self.kind, inputs, outputs, self.options, self.version)],
            [i for i, t in enumerate(present) if t.data is None],
            outputs,
        )

    def tflite(self) -> bytes:
        return self.spec.tflite()

    def node(self) -> Node:
        return self.spec.graph().nodes[0]


def build(
    kind: str,
    inputs: Sequence[TensorSpec | None],
    outputs: Sequence[TensorSpec],
    options: Mapping[str, Any] | None = None,
    version: int = 1,
) -> bytes:
    """A .tflite file with one operator."""
    return OneOp(kind, inputs, outputs, options or {}, version).tflite()


class _Writer:
    """Writes a ModelSpec with flatbuffers' builder: strings and vectors first, then the tables that hold them."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def model(self, spec: ModelSpec) -> bytes:
        builder = self._builder
        buffers = [self._table("Buffer")]  # buffer 0 is empty by convention: activations refer to it
        tensors: list[int] = []
        for i, tensor in enumerate(spec.tensors):
            tensors.append(self._tensor(tensor, len(buffers) if tensor.raw is not None else 0, i))
            if tensor.raw is not None:
                buffers.append(self._table("Buffer", Data=builder.CreateByteVector(tensor.raw)))
        codes = sorted({(op.kind, op.version) for op in spec.operators})
        graph = self._table(
            "SubGraph",
            Tensors=self._tables("SubGraph", "Tensors", tensors),
            Inputs=self._ints(spec.inputs),
            Outputs=self._ints(spec.outputs),
            Operators=self._tables("SubGraph", "Operators", [self._operator(op, codes) for op in spec.operators]),
        )
        root = self._table(
            "Model",
            Version=3,
            OperatorCodes=self._tables("Model", "OperatorCodes", [self._code(*code) for code in codes]),
            Subgraphs=self._tables("Model", "Subgraphs", [graph]),
            Buffers=self._tables("Model", "Buffers", buffers),
        )
        builder.Finish(root, file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, spec: TensorSpec, buffer: int, number: int) -> int:
        fields: dict[str, int] = {}
        if spec.scales:
            fields["Quantization"] = self._table(
                "QuantizationParameters",
                Scale=self._builder.CreateNumpyVector(np.array(spec.scales, np.float32)),
                ZeroPoint=self._builder.CreateNumpyVector(np.array(spec.zero_points, np.int64)),
                QuantizedDimension=spec.axis,
            )
        return self._table(
            "Tensor",
            Shape=self._ints(spec.shape),
            Type=getattr(tflite.TensorType, spec.dtype.upper()),
            Buffer=buffer,
            Name=self._builder.CreateString(spec.name or f"t{number}"),
            **fields,
        )

    def _code(self, kind: str, version: int) -> int:
        number = getattr(tflite.BuiltinOperator, kind)
        return self._table("OperatorCode", DeprecatedBuiltinCode=min(number, 127), BuiltinCode=number, Version=version)

    def _operator(self, spec: OperatorSpec, codes: Sequence[tuple[str, int]]) -> int:
        fields: dict[str, int] = {}
        if table := options_table(spec.kind):
            options = {name: self._option(name, value) for name, value in spec.options.items()}
            fields["BuiltinOptions"] = self._table(table, **options)
            fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, table)
        return self._table(
            "Operator",
            OpcodeIndex=codes.index((spec.kind, spec.version)),
            Inputs=self._ints(spec.inputs),
            Outputs=self._ints(spec.outputs),
            **fields,
        )

    def _option(self, name: str, value: Any) -> Any:
        if name in _ENUMS and isinstance(value, str):
            return getattr(_ENUMS[name], value)
        return self._ints(value) if isinstance(value, list | tuple) else value

    def _ints(self, values: Sequence[int]) -> int:
        return self._builder.CreateNumpyVector(np.array(values, np.int32))

    def _tables(self, owner: str, name: str, offsets: Sequence[int]) -> int:
        getattr(import_module(f"tflite.{owner}"), f"{owner}Start{name}Vector")(self._builder, len(offsets))
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()

    def _table(self, name: str, **fields: Any) -> int:
        module = import_module(f"tflite.{name}")
        getattr(module, f"{name}Start")(self._builder)
        for key, value in fields.items():
            getattr(module, f"{name}Add{key}")(self._builder, value)
        return getattr(module, f"{name}End")(self._builder)


def options_table(kind: str) -> str | None:
    """The schema's options table for an operator kind, None if it has none."""
    if kind in _OPTIONS:
        return _OPTIONS[kind]
    wanted = kind.replace("_", "").lower() + "options"
    return next((name for name in vars(tflite.BuiltinOptions) if name.lower() == wanted), None)
