"""What an operator is to midge: a check, an exact reference, and a lowering to kernel calls. One operator a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node, Tensor


@dataclass(frozen=True)
class Place:
    """A byte position in a tensor: the planner turns it into an arena offset."""

    tensor: int
    offset: int = 0


@dataclass(frozen=True)
class Call:
    """One kernel call before memory is planned. A plan may cut it into slices of `rows`, see DESIGN.md.

    A kernel that takes a constant operand reads it from `weights`; that operand's place is then None (-1 in the plan).
    `kernel` is a Kernel, or in a plan of machine code the index of a routine.
    """

    kernel: int
    in0: Place | None
    out: Place
    in1: Place | None = None
    weights: bytes = b""
    params: Sequence[int] = ()  # int32 values
    scratch_bytes: int = 0
    rows: int = 1
    macs: int = 0


@dataclass(frozen=True)
class Lowering:
    """The calls that compute an operator.

    `inplace` lists the input positions whose memory output 0 may take over (the kernel reads an element before it
    writes the one at the same place); `alias` says that output 0 *is* input 0's memory and no call is needed.
    """

    calls: Sequence[Call] = ()
    inplace: Sequence[int] = ()
    alias: bool = False


class Op(ABC):
    """An operator with int8 tensors, equal bit for bit to TensorFlow Lite Micro's reference kernel."""

    kind: ClassVar[str]

    @abstractmethod
    def check(self, node: Node) -> None:
        """Raises ModelError (naming the operator or tensor, and what to do) unless `lower` can compute this node."""

    @abstractmethod
    def reference(self, node: Node, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for these inputs (constants included, in order of `node.inputs`): the exact numpy reference."""

    @abstractmethod
    def lower(self, node: Node) -> Lowering:
        """The kernel calls. Called only after `check`."""

    def macs(self, node: Node) -> int:
        """Multiply-accumulates, padding counted."""
        return 0


def require_same_elements(node: Node) -> None:
    """Raises unless input 0 and output 0 hold the same number of elements."""
    source, target = node.input(0), node.output
    if source.elements != target.elements:
        raise node.unsupported(
            f"turns the shape {list(source.shape)} into {list(target.shape)}", "Keep the number of elements."
        )


def require_representable(node: Node, value: float, tensor: Tensor) -> None:
    """Raises unless value / scale, a float32 quotient, is below 2^31: TFLM makes an int32 of it.

    The float32 before 2^31 is 2^31 - 128: a zero point more still fits.
    """
    if np.float32(value) / np.float32(tensor.scale) >= 1 << 31:
        place = "output" if tensor is node.output else "input"
        raise node.unsupported(
            f"clamps at {value:g}, which is 2^31 steps or more of the {place} scale {tensor.scale:g}",
            "Quantise with representative data.",
        )


def require_int8(node: Node, *tensors: Tensor) -> None:
    """Raises unless every tensor is int8 with one scale and zero point."""
    for tensor in tensors:
        if tensor.dtype != "int8":
            raise node.unsupported(
                f"has the {tensor.dtype} tensor {tensor.name!r} where midge computes int8",
                "Quantise the whole model to int8, inputs and outputs too.",
            )
        if tensor.quant is None or tensor.quant.per_channel:
            raise node.unsupported(
                f"has the tensor {tensor.name!r} without one scale and zero point", "Quantise activations per tensor."
            )
