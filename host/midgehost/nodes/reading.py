"""From the text of a node file to structs. What is wrong is named by dotted key and line, with what was meant."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from midgehost.errors import NodeFileError
from midgehost.nodes.schema import Node


def read_node(text: str) -> Node:
    """The node that the text describes, its keys and types checked. Raises NodeFileError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise NodeFileError(
            "node.toml", f"this is no TOML: {error}", "Correct this line.", line=int(line[1]) if line else 0
        ) from None
    version = raw.get("schema")
    if version != 1:
        raise NodeFileError("schema", f"{version!r} is no known version", "Write: schema = 1")
    return cast(Node, _convert("", raw, Node))


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
    for number, line in enumerate(text.splitlines(), 1):
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


def _convert(where: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`, walking structs, dicts and arrays of structs, so that every error knows its dotted key."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _convert_struct(where, value, kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict and isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value).items()
        return {key: _convert(_join(where, key), item, arguments[1]) for key, item in items}
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(f"{where}[{i}]", item, arguments[0]) for i, item in enumerate(cast(list[Any], value)))
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise NodeFileError(where, f"{_toml(value)} is not {_describe(kind)}", _hint(value, kind)) from None


def _convert_struct(where: str, value: Any, kind: type[msgspec.Struct]) -> msgspec.Struct:
    if not isinstance(value, Mapping):
        raise NodeFileError(where, f"{_toml(value)} is not a table", "Write its keys in { } or below a [header].")
    table = cast(Mapping[str, Any], value)
    hints = get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise NodeFileError(_join(where, key), f"there is no key {key!r} here", nearest(key, hints, "keys"))
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in table:
            raise NodeFileError(_join(where, field.name), "the key is missing", f"Write: {field.name} = ...")
    return kind(**{key: _convert(_join(where, key), item, hints[key]) for key, item in table.items()})


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _toml(value: Any) -> str:
    return "true" if value is True else "false" if value is False else repr(value)


_WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", type(None): ""}


def _describe(kind: Any) -> str:
    """A type in words: `a whole number`, `one of 'stream', 'batch'`."""
    origin, arguments = get_origin(kind), get_args(kind)
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
