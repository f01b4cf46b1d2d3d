"""Operators that move bytes: each is one or a few strided copies. They work on any type; values are not touched."""

from __future__ import annotations

from collections.abc import Sequence

from midgehost.models.graph import ITEM_BYTES, Node, Tensor
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call, Place
from midgehost.models.ops.walk import plan_walk


def strided_copy(
    source: Tensor,
    target: Tensor,
    shape: Sequence[int],
    source_strides: Sequence[int],
    target_strides: Sequence[int],
    source_offset: int = 0,
    target_offset: int = 0,
) -> Call:
    """Copies `shape` elements; strides and offsets in elements of the source's type."""
    item = ITEM_BYTES[source.dtype]
    walk = plan_walk([*shape, item], [*(s * item for s in source_strides), 1], [*(s * item for s in target_strides), 1])
    constant = source.data
    return Call(
        Kernel.COPY,
        in0=None if constant is not None else Place(source.index, source_offset * item),
        out=Place(target.index, target_offset * item),
        weights=constant[source_offset * item :] if constant is not None else b"",
        params=walk.words,
        rows=walk.rows,
    )


def require_same_type(node: Node, *tensors: Tensor) -> None:
    """Raises unless all have the output's type, and quantised ones its scale and zero point: bytes are only moved."""
    target = node.output
    for tensor in tensors:
        if tensor.dtype != target.dtype:
            raise node.unsupported(
                f"mixes {tensor.dtype} and {target.dtype}", "Give every input and the output one type."
            )
        if tensor.dtype == "int8" and tensor.quant and target.quant:
            if (tensor.scale, tensor.zero_point) != (target.scale, target.zero_point):
                raise node.unsupported(
                    f"needs {tensor.name!r} rescaled to the output's scale, which TensorFlow Lite Micro refuses too",
                    "Quantise with a converter that gives inputs and output one scale.",
                )


def constant_ints(node: Node, position: int, name: str) -> list[int]:
    """The values of an int32 parameter tensor, which must be a constant. TFLM reads the halves of an int64 one."""
    tensor = node.input(position)
    if not tensor.is_constant or tensor.dtype != "int32":
        raise node.unsupported(f"has no constant int32 {name}", f"Make {name} an int32 constant.")
    return [int(v) for v in tensor.array().reshape(-1)]
