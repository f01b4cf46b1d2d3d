"""The `when` of an action: parsed by Python's own grammar, a whitelist of it, type-checked, compiled to postfix.

A program is a JSON list that `midge/rules.py` runs on a board: a number is an index into the node's table of stage
values, `[x]` is the constant x, a string is an operator (`== != < <= > >= and or not`). No name is ever evaluated.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from midgehost.errors import NodeFileError
from midgehost.nodes.limits import check_number
from midgehost.nodes.reading import nearest

Kind = Literal["bool", "number", "label"]
Program = list[int | str | list[bool | float | str]]

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_GRAMMAR = "Use stage values, numbers, 'labels', comparisons, and, or, not, and parentheses."


@dataclass(frozen=True)
class Value:
    """What a rule can ask of a stage: its place in the board's table and its type; labels where it is a class."""

    index: int
    kind: Kind
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Typed:
    """A compiled piece of a rule. `constant` is set for a string: which labels it may be depends on the other side."""

    program: Program
    kind: Kind
    labels: tuple[str, ...] = ()
    constant: str | None = None


def compile_rule(where: str, when: str, values: Mapping[str, Value]) -> Program:
    """The postfix program of a rule over `values` ("z.alarm" -> Value). Raises NodeFileError naming `where`."""
    try:
        tree = ast.parse(_without_keywords(when.strip()), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
                check_number(where, node.value)
        typed = _Compiler(where, values).compile(tree.body)
    except (RecursionError, MemoryError):  # MemoryError: the parser's own stack
        raise NodeFileError(where, "the rule nests too deep", "Write a shorter one.") from None
    except (SyntaxError, ValueError, tokenize.TokenError):
        raise NodeFileError(where, f"{when!r} is not a rule", _GRAMMAR) from None
    if typed.kind != "bool":
        raise NodeFileError(where, f"{when!r} is a {typed.kind}, neither true nor false", "Compare it with something.")
    return typed.program


def _without_keywords(when: str) -> str:
    """`net.class` reads as an attribute: keywords after a dot get a trailing underscore."""
    tokens: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(when).readline):
        after_dot = bool(tokens) and tokens[-1][1] == "."
        tokens.append((token.type, token.string + "_" * (after_dot and keyword.iskeyword(token.string))))
    return tokenize.untokenize(tokens)


class _Compiler:
    def __init__(self, where: str, values: Mapping[str, Value]) -> None:
        self._where, self._values = where, values

    def compile(self, node: ast.expr) -> _Typed:
        match node:
            case ast.Attribute(value=ast.Name(id=stage), attr=attribute):
                return self._value(f"{stage}.{attribute.rstrip('_')}")
            case ast.Constant(value=bool() as truth):
                return _Typed([[truth]], "bool")
            case ast.Constant(value=int() | float() as number):
                return _Typed([[number]], "number")
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return _Typed([[-number]], "number")
            case ast.Constant(value=str() as text):
                return _Typed([[text]], "label", constant=text)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _Typed([*self._truth(operand), "not"], "bool")
            case ast.BoolOp(op=operator, values=operands):
                word = "and" if isinstance(operator, ast.And) else "or"
                return _Typed(_folded([self._truth(operand) for operand in operands], word), "bool")
            case ast.Compare():
                return self._comparison(node)
            case ast.Name(id=name):
                raise self._error(f"{name!r} is no value", "Name a stage and what it says, for example z.alarm.")
            case _:
                raise self._error(f"{ast.unparse(node)!r} cannot stand in a rule", _GRAMMAR)

    def _value(self, name: str) -> _Typed:
        if name not in self._values:
            raise self._error(f"there is no value {name!r}", nearest(name, self._values, "values"))
        value = self._values[name]
        return _Typed([value.index], value.kind, value.labels)

    def _truth(self, node: ast.expr) -> Program:
        typed = self.compile(node)
        if typed.kind != "bool":
            raise self._error(
                f"{_text(node)!r} is a {typed.kind}, neither true nor false", "Compare it with something."
            )
        return typed.program

    def _comparison(self, node: ast.Compare) -> _Typed:
        """`a < b < c` is `a < b and b < c`, as in Python."""
        operands = [node.left, *node.comparators]
        pairs: list[Program] = []
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            symbol = _COMPARISONS.get(type(operator))
            if symbol is None:
                raise self._error(f"{_text(node)!r} cannot stand in a rule", _GRAMMAR)
            one, other = self.compile(left), self.compile(right)
            if one.kind != other.kind:
                raise self._error(
                    f"{_text(node)!r} compares a {one.kind} with a {other.kind}", "Compare values of one type."
                )
            if one.kind != "number" and symbol not in ("==", "!="):
                raise self._error(f"{_text(node)!r} orders what has no order", "Use == or !=.")
            self._check_label(one, other)
            self._check_label(other, one)
            pairs.append([*one.program, *other.program, symbol])
        return _Typed(_folded(pairs, "and"), "bool")

    def _check_label(self, side: _Typed, other: _Typed) -> None:
        if other.labels and side.constant is not None and side.constant not in other.labels:
            raise self._error(
                f"the model has no class {side.constant!r}", nearest(side.constant, other.labels, "classes")
            )

    def _error(self, what: str, do: str) -> NodeFileError:
        return NodeFileError(self._where, what, do)


def _folded(programs: list[Program], word: str) -> Program:
    """Programs joined by a binary operator: a b op c op."""
    joined = list(programs[0])
    for program in programs[1:]:
        joined += [*program, word]
    return joined


def _text(node: ast.expr) -> str:
    return ast.unparse(node).replace("class_", "class")
