"""The graph of a quantised model: tensors with fixed shapes, operators in execution order; no flatbuffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.errors import UnsupportedOption

ITEM_BYTES: Final[Mapping[str, int]] = {
    "int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int32": 4, "float32": 4, "int64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Quant:
    """Affine quantisation: real = scale * (q - zero_point), per tensor (one scale) or per channel along `axis`."""

    scales: tuple[float, ...]  # float32 values
    zero_points: tuple[int, ...]
    axis: int = 0

    @property
    def scale(self) -> float:
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        return self.zero_points[0]

    @property
    def per_channel(self) -> bool:
        return len(self.scales) > 1


@dataclass(frozen=True)
class Tensor:
    """A value of the graph. `data` holds a constant's raw little-endian bytes; None for activations."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str  # a key of ITEM_BYTES
    quant: Quant | None = None
    data: bytes | None = None

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * ITEM_BYTES[self.dtype]

    @property
    def scale(self) -> float:
        assert self.quant is not None
        return self.quant.scale

    @property
    def zero_point(self) -> int:
        assert self.quant is not None
        return self.quant.zero_point

    def array(self) -> NDArray[Any]:
        """The constant as an array of its shape."""
        assert self.data is not None
        return np.frombuffer(self.data, dtype=self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator: `kind` is TensorFlow Lite's builtin name; an absent optional input is -1."""

    index: int
    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Graph:
    """A whole model. Operators are in execution order; every shape is fixed."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    source_sha256: str = ""

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(self, operator) for operator in self.operators)


@dataclass(frozen=True)
class Node:
    """An operator together with its graph: what an op file works on."""

    graph: Graph
    operator: Operator

    @property
    def index(self) -> int:
        return self.operator.index

    @property
    def kind(self) -> str:
        return self.operator.kind

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs that are present, in order (an absent optional input is left out)."""
        return tuple(self.graph.tensors[i] for i in self.operator.inputs if i >= 0)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(self.graph.tensors[i] for i in self.operator.outputs)

    def input(self, position: int) -> Tensor:
        """An input that must be there. Raises UnsupportedOption if it is not."""
        tensor = self.optional_input(position)
        if tensor is None:
            raise self.unsupported(f"has no input {position}", "Export the model again.")
        return tensor

    def optional_input(self, position: int) -> Tensor | None:
        ids = self.operator.inputs
        return self.graph.tensors[ids[position]] if position < len(ids) and ids[position] >= 0 else None

    @property
    def output(self) -> Tensor:
        return self.graph.tensors[self.operator.outputs[0]]

    def option(self, name: str, default: Any = None) -> Any:
        """An option by its name in TensorFlow Lite's schema, e.g. `StrideH`, `FusedActivationFunction`."""
        return self.operator.options.get(name, default)

    def unsupported(self, why: str, do: str) -> UnsupportedOption:
        """The error to raise when this operator is known, but not like this."""
        return UnsupportedOption(self.kind, self.index, why, do)
