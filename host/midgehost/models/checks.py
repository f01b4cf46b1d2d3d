"""What midge refuses before anything is written: one refusal a cause, each with what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Final

from midgehost.errors import BadFile, DynamicShape, ModelError, TooBig, UnknownOp, UnsupportedType
from midgehost.models.graph import ITEM_BYTES, Graph, Node, Tensor
from midgehost.models.ops import registry

# No tensor of a model for boards is larger (the largest PSRAM holds 16 MB); refused before anything is allocated.
MAX_TENSOR_BYTES: Final = 16 << 20

_FULL_INT8: Final = (
    "Quantise it to int8: converter.optimizations = [tf.lite.Optimize.DEFAULT], a representative_dataset, and "
    "converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]."
)
# (activations, weights) of an operator -> what such a model is called, and what to do with it
_FAMILIES: Final = {
    "float32": ("is a float32 model", _FULL_INT8),
    "hybrid": ("is a hybrid model (int8 weights, float32 activations: dynamic-range quantisation)", _FULL_INT8),
    "float16": ("is a float16 model", _FULL_INT8),
    "uint8": (
        "is a uint8 model (the quantisation of TensorFlow 1)",
        "Convert it again with TensorFlow 2's converter, which quantises to int8; if only its input and output are "
        "uint8, set converter.inference_input_type and inference_output_type to tf.int8.",
    ),
    "int16": (
        "is an int16x8 model (int16 activations, int8 weights)",
        "Convert it again without EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8: midge computes int8.",
    ),
}
_SCALES: Final = (1e-20, 1e20)  # beyond, float32 arithmetic on real values overflows
_CONVERTING: Final = {"QUANTIZE", "DEQUANTIZE"}  # the operators whose int8 meets float32


def refusals(graph: Graph) -> list[ModelError]:
    """Every reason why midge cannot compute this graph, in the order in which `check` raises them; empty: it can."""
    found: list[ModelError] = [*_shapes(graph), *_families(graph)]
    sound = not found
    for node in graph.nodes:
        error = _refusal(node, sound)
        if error is not None:
            found.append(error)
    return found


def check(graph: Graph) -> None:
    """Raises the first ModelError of `refusals`."""
    for error in refusals(graph):
        raise error


def _refusal(node: Node, sound: bool) -> ModelError | None:
    """Why this operator cannot be computed. Its own check makes sense only where every tensor is `sound`."""
    ops = registry()
    if node.kind not in ops:
        near = difflib.get_close_matches(node.kind, ops, n=1)
        return UnknownOp(node.kind, node.index, near[0] if near else None)
    if all(tensor.is_constant for tensor in node.inputs):
        return node.unsupported("computes from constants only", "Let the converter fold constants.")
    if not sound:
        return None
    try:
        ops[node.kind].check(node)
    except ModelError as error:
        return error
    return None


def _shapes(graph: Graph) -> Iterator[ModelError]:
    """Tensors whose size is unknown, nothing, or beyond any board."""
    for tensor in _used(graph):
        if any(size < 0 for size in tensor.shape):
            yield DynamicShape(tensor.name, tensor.shape)
        elif tensor.elements == 0 and not tensor.is_constant:
            yield BadFile(graph.name, f"tensor {tensor.name!r} of shape {list(tensor.shape)} holds nothing")
        elif tensor.elements * ITEM_BYTES.get(tensor.dtype, 1) > MAX_TENSOR_BYTES:
            nbytes = tensor.elements * ITEM_BYTES.get(tensor.dtype, 1)
            what = f"Tensor {tensor.name!r} of shape {list(tensor.shape)}"
            yield TooBig("the largest board", nbytes, MAX_TENSOR_BYTES, what)


def _families(graph: Graph) -> Iterator[ModelError]:
    """Models of another number format, each kind once, naming the first operator and tensor that shows it."""
    seen: set[str] = set()
    read = {tensor.index for node in graph.nodes for tensor in node.inputs}
    for tensor in (graph.tensors[index] for index in graph.inputs if index not in read):
        if tensor.dtype not in ("int8", "float32"):
            yield UnsupportedType(f"Input {tensor.name!r}, which no operator reads, is {tensor.dtype}.", _FULL_INT8)
    for node in graph.nodes:
        family, tensor = _family(node)
        if family is None or family in seen:
            continue
        seen.add(family)
        where = f"operator {node.index} ({node.kind}) uses tensor {tensor.name!r} of type {tensor.dtype}"
        if family in _FAMILIES:
            what, do = _FAMILIES[family]
            yield UnsupportedType(f"{graph.name} {what}: {where}.", do)
        elif family == "unscaled":
            yield UnsupportedType(f"Tensor {tensor.name!r} is int8 but has no usable scale: {where}.", _FULL_INT8)
        else:
            yield UnsupportedType(f"{where[0].upper()}{where[1:]}, which midge does not compute.", _FULL_INT8)


def _family(node: Node) -> tuple[str | None, Tensor]:
    """The number format that spoils this operator (None: int8 throughout), and a tensor that shows it."""
    activations = [tensor for tensor in (*node.inputs, *node.outputs) if not tensor.is_constant]
    weights = [tensor for tensor in node.inputs if tensor.is_constant]
    for tensor in activations:
        if tensor.dtype == "int8" or (tensor.dtype == "float32" and node.kind in _CONVERTING):
            continue
        if tensor.dtype == "float32" and any(weight.dtype == "int8" for weight in weights):
            return "hybrid", tensor
        return tensor.dtype, tensor
    for tensor in (*activations, *weights):
        if tensor.dtype == "int8" and not (
            tensor.quant and all(_SCALES[0] < s < _SCALES[1] for s in tensor.quant.scales)
        ):
            return "unscaled", tensor
        if tensor.dtype not in ITEM_BYTES:
            return tensor.dtype, tensor
    return None, activations[0]


def _used(graph: Graph) -> list[Tensor]:
    """The tensors that some operator reads or writes, or the model takes or gives, in order of their index."""
    used = {*graph.inputs, *graph.outputs}
    for node in graph.nodes:
        used.update(tensor.index for tensor in (*node.inputs, *node.outputs))
    return [graph.tensors[index] for index in sorted(used)]
