"""An operator's options, read from whatever options table the schema names for it, without a list of operators."""

from __future__ import annotations

from typing import Any, Final

_ENUMS: Final = {"FusedActivationFunction": "ActivationFunctionType", "Padding": "Padding"}  # shown by name, not number
_MAX_ITEMS: Final = 64  # of a vector option (shapes, axes); TensorFlow Lite's tensors have at most eight axes


def operator_options(operator: Any) -> dict[str, Any]:
    """The options of a schema `Operator`, by their names in the schema: `{"StrideH": 2, "Padding": "SAME", ...}`.

    Vectors become tuples. Raises ValueError for an options table that the schema does not know, or a value that it
    does not allow.
    """
    import tflite

    type_name = enum_name("BuiltinOptions", operator.BuiltinOptionsType())
    union = operator.BuiltinOptions()
    if type_name == "NONE" or union is None:
        return {}
    table = getattr(tflite, type_name)()
    table.Init(union.Bytes, union.Pos)
    names = [name for name in vars(type(table)) if name[0].isupper() and not name.startswith("GetRootAs")]
    found: dict[str, Any] = {}
    for name in names:
        if f"{name}Length" in names:
            found[name] = _vector(table, name)
        elif not name.endswith(("Length", "AsNumpy", "IsNone", "BufferHasIdentifier")) and name != "Init":
            value = getattr(table, name)()
            found[name] = enum_name(_ENUMS[name], value) if name in _ENUMS else value
    return found


def enum_name(enum: str, value: int) -> str:
    """The name of a schema enum's value. Raises ValueError if there is none."""
    import tflite

    for name, number in vars(getattr(tflite, enum)).items():
        if number == value and not name.startswith("_"):
            return name
    raise ValueError(f"{enum} has no value {value}")


def _vector(table: Any, name: str) -> tuple[Any, ...]:
    length = getattr(table, f"{name}Length")()
    if length > _MAX_ITEMS:
        raise ValueError(f"option {name} has {length} items")
    return tuple(getattr(table, name)(i) for i in range(length))
