"""From the bytes of a `.tflite` file to a graph. The bytes are untrusted: damage ends in one BadFile that says where.

Format: TensorFlow Lite's `schema.fbs` (flatbuffers, identifier TFL3), through the `tflite` schema package. What honest
files never do is refused before it can cost anything: a vector longer than the file, or more bytes read in total than
a few times the file's size (many tables that share one huge vector).
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from midgehost.errors import BadFile, NoFile, UnsupportedType
from midgehost.models import container
from midgehost.models.graph import ITEM_BYTES, Graph, Operator, Quant, Tensor
from midgehost.models.options import enum_name, operator_options

T = TypeVar("T")

_MAX_RANK: Final = 8
_MAX_NAME: Final = 200
_ZERO_POINTS: Final = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
_READ_AGAIN: Final = 4  # how often the file's size may be read in total
# What the schema package raises when an offset leads astray.
_DAMAGE: Final = (struct.error, ValueError, TypeError, IndexError, AttributeError, OverflowError)


def read_file(path: Path) -> Graph:
    """The graph of a `.tflite` file. Raises NoFile, BadFile, UnsupportedType; the graph's name is the file's stem."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NoFile(str(path), error.strerror or "it cannot be opened") from error
    return read(data, str(path))


def read(data: bytes, path: str = "model.tflite") -> Graph:
    """The graph in these bytes, structurally sound: indices in range, constants as long as their shape says, no cycle.

    `path` names the model in errors. Raises BadFile, UnsupportedType.
    """
    if not data:
        raise BadFile(path, "it is empty")
    if data.startswith(container.MAGIC):
        raise BadFile(path, "it is a bundle of midge's", "Name the .tflite file it was made of.")
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise BadFile(path, "it does not carry TensorFlow Lite's identifier TFL3")
    return _Reader(data, path).graph()


class _Reader:
    def __init__(self, data: bytes, path: str) -> None:
        import tflite

        self._data = data
        self._path = path
        self._allowance = _READ_AGAIN * len(data)
        self._model: Any = self._within("the root table", lambda: tflite.Model.GetRootAs(data, 0))

    def graph(self) -> Graph:
        subgraphs = self._within("the subgraph table", self._model.SubgraphsLength)
        if subgraphs != 1:
            raise self._bad(f"it has {subgraphs} subgraphs instead of one")
        subgraph: Any = self._within("the subgraph", lambda: self._model.Subgraphs(0))
        buffers = self._each("buffer", self._model.BuffersLength, lambda i: self._buffer(self._model.Buffers(i)))
        kinds = self._each("operator code", self._model.OperatorCodesLength, self._kind)
        tensors = self._each("tensor", subgraph.TensorsLength, lambda i: self._tensor(i, subgraph.Tensors(i), buffers))
        operators = self._each(
            "operator", subgraph.OperatorsLength, lambda i: self._operator(i, subgraph.Operators(i), kinds, tensors)
        )
        inputs = self._within("the input list", lambda: self._ints(subgraph.InputsLength(), subgraph.Inputs))
        outputs = self._within("the output list", lambda: self._ints(subgraph.OutputsLength(), subgraph.Outputs))
        graph = Graph(
            name=Path(self._path).stem,
            tensors=tuple(tensors),
            operators=tuple(operators),
            inputs=inputs,
            outputs=outputs,
            source_sha256=hashlib.sha256(self._data).hexdigest(),
        )
        self._check_order(graph)
        return graph

    # --- parts ------------------------------------------------------------------------------------------------------

    def _buffer(self, buffer: Any) -> bytes:
        if buffer.Offset() > 1:
            raise ValueError("its data lies outside of the flatbuffer")
        if not buffer.DataLength():
            return b""
        self._spend(buffer.DataLength())
        return buffer.DataAsNumpy().tobytes()

    def _kind(self, index: int) -> tuple[str, int]:
        code = self._model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # the older field is a byte: it ends at 127
        try:
            kind = enum_name("BuiltinOperator", number)
        except ValueError:
            kind = f"BUILTIN_{number}"
        if kind == "CUSTOM":
            kind = f"CUSTOM {self._text(code.CustomCode())}"
        return kind, code.Version()

    def _tensor(self, index: int, tensor: Any, buffers: list[bytes]) -> Tensor:
        name = self._text(tensor.Name()) or f"tensor {index}"
        shape = self._shape(name, tensor)
        dtype = enum_name("TensorType", tensor.Type()).lower()
        if tensor.IsVariable():
            raise UnsupportedType(
                f"Tensor {name!r} keeps state between runs, which midge does not support.",
                "Export the model without stateful layers (unroll an RNN, set stateful=False).",
            )
        if not 0 <= tensor.Buffer() < len(buffers):
            raise self._bad(f"tensor {name!r} names buffer {tensor.Buffer()} of {len(buffers)}")
        data: bytes | None = buffers[tensor.Buffer()]
        if not data:
            data = b"" if 0 in shape else None
        elif dtype in ITEM_BYTES and len(data) != math.prod(shape) * ITEM_BYTES[dtype]:
            raise self._bad(f"tensor {name!r} of shape {list(shape)} and type {dtype} has {len(data):,} bytes of data")
        return Tensor(index, name, shape, dtype, self._quant(name, shape, dtype, tensor.Quantization()), data)

    def _shape(self, name: str, tensor: Any) -> tuple[int, ...]:
        """The shape; -1 marks a dynamic axis. A dynamic batch (the signature's first axis) counts as it is now."""
        rank = tensor.ShapeLength()
        if rank > _MAX_RANK:
            raise self._bad(f"tensor {name!r} has {rank} axes")
        shape = tuple(tensor.Shape(i) for i in range(rank))
        if tensor.ShapeSignatureLength() == rank:
            shape = tuple(-1 if i and tensor.ShapeSignature(i) == -1 else size for i, size in enumerate(shape))
        if any(size < -1 for size in shape):
            raise self._bad(f"tensor {name!r} has the shape {list(shape)}")
        return shape

    def _quant(self, name: str, shape: tuple[int, ...], dtype: str, quant: Any) -> Quant | None:
        if quant is None or not quant.ScaleLength():
            return None
        scales = self._floats(quant.ScaleLength(), quant.Scale)
        zero_points = self._ints(quant.ZeroPointLength(), quant.ZeroPoint) or (0,) * len(scales)
        axis = quant.QuantizedDimension()
        if not all(math.isfinite(scale) and scale > 0 for scale in scales):
            raise self._bad(f"tensor {name!r} has a scale that is no positive number")
        if len(zero_points) != len(scales):
            raise self._bad(f"tensor {name!r} has {len(scales)} scales but {len(zero_points)} zero points")
        low, high = _ZERO_POINTS.get(dtype, (-math.inf, math.inf))
        if not all(low <= zero <= high for zero in zero_points):
            raise self._bad(f"tensor {name!r} of type {dtype} has a zero point outside of {low} to {high}")
        if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
            raise self._bad(f"tensor {name!r} of shape {list(shape)} has {len(scales)} scales along axis {axis}")
        return Quant(scales, zero_points, axis)

    def _operator(self, index: int, operator: Any, kinds: list[tuple[str, int]], tensors: list[Tensor]) -> Operator:
        if not 0 <= operator.OpcodeIndex() < len(kinds):
            raise self._bad(f"operator {index} names operator code {operator.OpcodeIndex()} of {len(kinds)}")
        kind, version = kinds[operator.OpcodeIndex()]
        inputs = self._ints(operator.InputsLength(), operator.Inputs)
        outputs = self._ints(operator.OutputsLength(), operator.Outputs)
        if not outputs:
            raise self._bad(f"operator {index} ({kind}) has no output")
        for tensor in (*(i for i in inputs if i != -1), *outputs):
            if not 0 <= tensor < len(tensors):
                raise self._bad(f"operator {index} ({kind}) names tensor {tensor} of {len(tensors)}")
        return Operator(index, kind, version, inputs, outputs, operator_options(operator))

    def _check_order(self, graph: Graph) -> None:
        """Every tensor is read after it is made, and made once. So there is no cycle either."""
        for tensor in (*graph.inputs, *graph.outputs):
            if not 0 <= tensor < len(graph.tensors):
                raise self._bad(f"the model names tensor {tensor} of {len(graph.tensors)} as its input or output")
        if not graph.outputs:
            raise self._bad("it has no output")
        made = {tensor.index for tensor in graph.tensors if tensor.is_constant}
        for tensor in graph.inputs:
            if tensor in made:
                raise self._bad(f"input {graph.tensors[tensor].name!r} is a constant, or listed twice")
            made.add(tensor)
        for node in graph.nodes:
            where = f"operator {node.index} ({node.kind})"
            for tensor in node.inputs:
                if tensor.index not in made:
                    raise self._bad(f"{where} reads tensor {tensor.name!r} before it is computed")
            for tensor in node.outputs:
                if tensor.index in made:
                    raise self._bad(f"{where} writes tensor {tensor.name!r}, which has a value already")
                made.add(tensor.index)
        for tensor in graph.outputs:
            if tensor not in made or graph.tensors[tensor].is_constant:
                raise self._bad(f"output {graph.tensors[tensor].name!r} is never computed")

    # --- bounded reading --------------------------------------------------------------------------------------------

    def _bad(self, why: str) -> BadFile:
        return BadFile(self._path, why)

    def _spend(self, nbytes: int) -> None:
        self._allowance -= nbytes
        if self._allowance < 0:
            raise ValueError("its tables are larger than the file")

    def _within(self, what: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except _DAMAGE as error:
            raise self._bad(f"{what} is damaged ({error})") from error

    def _each(self, what: str, length: Callable[[], int], read: Callable[[int], T]) -> list[T]:
        def counted() -> int:
            count = length()
            self._spend(4 * count)
            return count

        count = self._within(f"the {what} table", counted)
        return [self._within(f"{what} {i}", lambda i=i: read(i)) for i in range(count)]

    def _ints(self, length: int, item: Callable[[int], int]) -> tuple[int, ...]:
        self._spend(4 * length)
        return tuple(int(item(i)) for i in range(length))

    def _floats(self, length: int, item: Callable[[int], float]) -> tuple[float, ...]:
        self._spend(4 * length)
        return tuple(float(item(i)) for i in range(length))

    def _text(self, raw: bytes | None) -> str:
        """A name as it may be shown: printable, and of a length to read."""
        self._spend(len(raw or b""))
        text = (raw or b"")[:_MAX_NAME].decode("utf-8", "replace")
        return "".join(c if c.isprintable() else "?" for c in text)
