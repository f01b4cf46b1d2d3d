"""From the text of a node file to structs. What is wrong is named by dotted key and line, with what was meant."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from midgehost.errors import NodeFileError
from midgehost.nodes.limits import check_number
from midgehost.nodes.schema import SCHEMA, Node

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_SHOWN = 60  # characters of a value in an error
_DEEPEST = 8  # tables and arrays within each other; nothing in a node file needs more than five


def decode_text(data: bytes) -> str:
    """The text of a node file: UTF-8, a byte order mark is stepped over. Raises NodeFileError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"this is no UTF-8 text: byte 0x{data[error.start]:02x}"
        line = data.count(b"\n", 0, error.start) + 1
        raise NodeFileError("node.toml", what, "Save the file as UTF-8.", line=line) from None


def read_node(text: str) -> Node:
    """The node that the text describes, its keys and types checked. Raises NodeFileError."""
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        raise NodeFileError("node.toml", "arrays or tables nest too deep", "Remove what nests.") from None
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise NodeFileError(
            "node.toml", f"this is no TOML: {error}", "Correct this line.", line=int(line[1]) if line else 0
        ) from None
    except ValueError:  # Python's own limit
        raise NodeFileError("node.toml", "a number has more than 4,000 digits", "Write a shorter one.") from None
    _check_numbers("", raw)
    version = raw.get("schema")
    if version != SCHEMA:
        raise NodeFileError("schema", f"{_toml(version)} is no known version", f"Write: schema = {SCHEMA}")
    return convert("", raw, Node)


def convert(where: str, table: Mapping[str, Any], kind: type[_Struct]) -> _Struct:
    """A table as a struct; keys, types and limits checked. Raises NodeFileError with the dotted key below `where`."""
    return cast(_Struct, _convert_struct(where, table, kind))


def nearest(word: str, known: Iterable[str], noun: str) -> str:
    """The sentence that ends an error about an unknown word."""
    choices = list(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known {noun}: {', '.join(choices) or 'none'}."


def line_of(text: str, dotted: str) -> int:
    """The 1-based line that sets a dotted key (`sensor.accel.rate_hz`, `stage[1].use`); where the key is missing, its
    table's line; 0 if that is missing too."""
    best, best_length = 0, 0
    table, seen = "", dict[str, int]()
    for number, line in enumerate(text.split("\n"), 1):
        header = re.match(r"\s*\[(\[?)\s*([\w.\-]+)\s*\]", line)
        if header:
            table = header[2]
            if header[1]:
                seen[table] = seen.get(table, -1) + 1
                table = f"{table}[{seen[table]}]"
            key = table
        elif assignment := re.match(r"\s*([\w.\-]+)\s*=", line):
            key = f"{table}.{assignment[1]}".lstrip(".")
        else:
            continue
        inside = dotted == key or (dotted.startswith(key) and dotted[len(key)] in ".[")
        if inside and len(key) > best_length:
            best, best_length = number, len(key)
    return best


def convert_value(where: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`, its limits checked. Walks structs, dicts and arrays, so that an error knows its dotted key.

    Raises NodeFileError.
    """
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _convert_struct(where, value, kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = convert_value(where, value, arguments[0])
        arguments[1].check(where, found)
        return found
    if origin in (Union, types.UnionType):
        for option in arguments:
            if _fits(value, option):
                return convert_value(where, value, option)
    if origin is dict and isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value).items()
        return {key: convert_value(dotted(where, key), item, arguments[1]) for key, item in items}
    if origin is tuple and isinstance(value, list):
        return tuple(
            convert_value(f"{where}[{i}]", item, arguments[0]) for i, item in enumerate(cast(list[Any], value))
        )
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise NodeFileError(where, f"{_toml(value)} is not {_describe(kind)}", _hint(value, kind)) from None


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _convert_struct(where: str, value: Any, kind: type[msgspec.Struct]) -> msgspec.Struct:
    if not isinstance(value, Mapping):
        raise NodeFileError(where, f"{_toml(value)} is not a table", "Write its keys in { } or below a [header].")
    table = cast(Mapping[str, Any], value)
    hints = get_type_hints(kind, include_extras=True)
    for key in table:
        if key not in hints:
            raise NodeFileError(dotted(where, key), f"there is no key {_toml(key)} here", nearest(key, hints, "keys"))
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in table:
            raise NodeFileError(dotted(where, field.name), "the key is missing", f"Write: {field.name} = ...")
    return kind(**{key: convert_value(dotted(where, key), item, hints[key]) for key, item in table.items()})


def dotted(where: str, key: str) -> str:
    """The key's dotted name, fit to be read."""
    shown = key if key.isprintable() and len(key) <= _SHOWN else _toml(key)
    return f"{where}.{shown}" if where else shown


def _check_numbers(where: str, value: Any, depth: int = 0) -> None:
    """No number that a board cannot hold, wherever it stands, and nothing nested without end. Raises NodeFileError."""
    if depth > _DEEPEST:
        raise NodeFileError(where, "arrays or tables nest too deep", "Remove what nests.")
    if isinstance(value, dict):
        for key, item in cast(dict[str, Any], value).items():
            _check_numbers(dotted(where, key), item, depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(cast(list[Any], value)):
            _check_numbers(f"{where}[{i}]", item, depth + 1)
    elif isinstance(value, int | float):
        check_number(where, value)


def _toml(value: Any) -> str:
    text = "true" if value is True else "false" if value is False else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", type(None): ""}


def _describe(kind: Any) -> str:
    """A type in words: `a whole number`, `one of 'stream', 'batch'`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _describe(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        return f"an array, each {_describe(arguments[0])}"
    if origin is dict:
        return "a table"
    if origin in (Union, types.UnionType):
        kinds = arguments if float not in arguments else tuple(k for k in arguments if k is not int)
        return " or ".join(words for words in map(_describe, kinds) if words)
    return _WORDS.get(kind, str(kind))


def _hint(value: Any, kind: Any) -> str:
    if isinstance(value, str) and get_origin(kind) is Literal:
        return nearest(value, [word for word in get_args(kind) if isinstance(word, str)], "words")
    return "Correct the value."
