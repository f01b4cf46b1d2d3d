"""Every operator that midge computes, by its builtin name. A new operator is a new file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from midgehost.models.ops.base import Op

# file -> the classes in it are found by their `kind`
_FILES = (
    "fully_connected", "conv_2d", "depthwise_conv_2d", "average_pool_2d", "max_pool_2d", "mean", "softmax",
    "add", "sub", "mul", "maximum", "minimum",
    "reshape", "squeeze", "expand_dims", "concatenation", "pad", "padv2", "transpose", "strided_slice",
    "logistic", "tanh", "relu", "relu6", "leaky_relu", "hard_swish", "quantize", "dequantize",
)  # fmt: skip


@cache
def registry() -> Mapping[str, Op]:
    """kind -> the operator."""
    found: dict[str, Op] = {}
    for name in _FILES:
        module = import_module(f"midgehost.models.ops.{name}")
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, Op) and thing.__module__ == module.__name__:
                found[thing.kind] = thing()
    return found
