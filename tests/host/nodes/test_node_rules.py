"""Rules: whatever the grammar allows, the board's interpreter agrees with Python; what it does not allow is refused."""

from __future__ import annotations

import ast
import importlib.util
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from midgehost.errors import NodeFileError
from midgehost.nodes.rules import Program, Value, compile_rule
from midgehost.resources import firmware_dir

LABELS = ("normal", "imbalance", "two words", "class")
VALUES = {
    "z.alarm": Value(0, "bool"),
    "z.score": Value(1, "number"),
    "net.class": Value(2, "label", LABELS),
    "net.p": Value(3, "number"),
    "other.class": Value(4, "label", LABELS),
    "other.alarm": Value(5, "bool"),
}


def _load_rules() -> Any:
    spec = importlib.util.spec_from_file_location("_midge_rules", firmware_dir() / "midge" / "rules.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


device = _load_rules()


def on_the_board(program: Program, values: list[Any]) -> bool:
    """Through JSON, as the board gets it."""
    return device.evaluate(json.loads(json.dumps(program)), values, [None] * len(program))


def in_python(when: str, values: list[Any]) -> bool:
    """The same rule by Python itself; `class` cannot be an attribute there."""
    parts: dict[str, SimpleNamespace] = {}
    for name, value in VALUES.items():
        stage, _, field = name.partition(".")
        setattr(parts.setdefault(stage, SimpleNamespace()), field + "_" * (field == "class"), values[value.index])
    return eval(when.replace(".class", ".class_"), {}, parts)


numbers = st.one_of(
    st.sampled_from(["z.score", "net.p"]),
    st.integers(-5, 5).map(str),
    st.floats(-1e6, 1e6, allow_nan=False).map(repr),
)
labels = st.one_of(st.sampled_from(["net.class", "other.class"]), st.sampled_from(LABELS).map(repr))
truths = st.sampled_from(["z.alarm", "other.alarm", "True", "False"])
orders = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
comparisons = st.one_of(
    st.tuples(numbers, orders, numbers).map(" ".join),
    st.tuples(numbers, orders, numbers, orders, numbers).map(" ".join),
    st.tuples(labels, st.sampled_from(["==", "!="]), labels).map(" ".join),
    st.tuples(truths, st.sampled_from(["==", "!="]), truths).map(" ".join),
)
rules = st.recursive(
    st.one_of(truths, comparisons),
    lambda inner: st.one_of(
        inner.map(lambda a: f"not {a}"),
        inner.map(lambda a: f"({a})"),
        st.lists(inner, min_size=2, max_size=4).map(" and ".join),
        st.lists(inner, min_size=2, max_size=4).map(" or ".join),
    ),
    max_leaves=12,
)
known = st.tuples(
    st.booleans(),
    st.floats(allow_nan=True, width=32),
    st.sampled_from(LABELS),
    st.floats(0, 1),
    st.sampled_from(LABELS),
    st.booleans(),
).map(list)


@settings(deadline=None)
@given(rules, known)
@example("not z.alarm and net.class == 'two words' or net.p > -1", [False, 0.0, "two words", 0.5, "normal", True])
def test_board_agrees_with_python(when: str, values: list[Any]) -> None:
    assert on_the_board(compile_rule("w", when, VALUES), values) is in_python(when, values)


@settings(deadline=None)
@given(rules, known, st.sets(st.integers(0, 5)))
def test_a_rule_fires_only_where_the_unknown_does_not_matter(when: str, values: list[Any], unknown: set[int]) -> None:
    program = compile_rule("w", when, VALUES)
    masked = [None if i in unknown else value for i, value in enumerate(values)]
    if on_the_board(program, masked):
        assert on_the_board(program, values)


@pytest.mark.parametrize(
    ("when", "values", "fires"),
    [
        ("z.score > 1", [None] * 6, False),
        ("not z.score > 1", [None] * 6, False),
        ("z.score > 1 or not z.score > 1", [None] * 6, False),
        ("z.alarm or net.p > 0.5", [True, None, None, None, None, None], True),
        ("z.alarm and net.class == 'normal'", [True, None, None, None, None, None], False),
        ("net.class != 'normal'", [True, 1.0, None, None, None, None], False),
    ],
)
def test_unknown_values(when: str, values: list[Any], fires: bool) -> None:
    assert on_the_board(compile_rule("w", when, VALUES), values) is fires


def test_program_is_compact() -> None:
    program = compile_rule("w", "z.alarm and net.class == 'imbalance'", VALUES)
    assert program == [0, 2, ["imbalance"], "==", "and"]
    assert compile_rule("w", "0 < z.score <= -1.5", VALUES) == [[0], 1, "<", 1, [-1.5], "<=", "and"]


@pytest.mark.parametrize(
    ("when", "what"),
    [
        ("", "is not a rule"),
        ("z.alarm and", "is not a rule"),
        ("z.alarm; net", "is not a rule"),
        ("z.alarm = True", "is not a rule"),
        ("'unclosed", "is not a rule"),
        ("z.alarm\nor True", "is not a rule"),
        ("__import__('os').system('x')", "cannot stand in a rule"),
        ("z.score.real > 1", "cannot stand in a rule"),
        ("z.score + 1 > 2", "cannot stand in a rule"),
        ("z.alarm if z.alarm else z.alarm", "cannot stand in a rule"),
        ("net.class in ('normal', 'x')", "cannot stand in a rule"),
        ("[z.alarm][0]", "cannot stand in a rule"),
        ("(lambda: True)()", "cannot stand in a rule"),
        ("z.alarm is True", "cannot stand in a rule"),
        ("None == None", "cannot stand in a rule"),
        ("z == 1", "'z' is no value"),
        ("z.alrm", "no value 'z.alrm'"),
        ("y.alarm", "no value 'y.alarm'"),
        ("z.score", "is a number, neither true nor false"),
        ("net.class", "is a label, neither true nor false"),
        ("'normal'", "is a label, neither true nor false"),
        ("not z.score", "is a number, neither true nor false"),
        ("z.alarm and 1", "is a number, neither true nor false"),
        ("net.class == 1", "compares a label with a number"),
        ("z.alarm == 1", "compares a bool with a number"),
        ("net.class < 'normal'", "orders what has no order"),
        ("z.alarm > True", "orders what has no order"),
        ("net.class == 'imbalnce'", "no class 'imbalnce'"),
        ("'imbalnce' == net.class", "no class 'imbalnce'"),
    ],
)
def test_what_is_no_rule_is_refused(when: str, what: str) -> None:
    with pytest.raises(NodeFileError) as raised:
        compile_rule("action[0].when", when, VALUES)
    assert what in raised.value.what
    assert raised.value.where == "action[0].when"
    assert ".class_" not in raised.value.what


def test_the_board_refuses_an_operator_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="no operator"):
        device.evaluate([0, 0, "xor"], [True], [None] * 3)


def test_the_interpreter_imports_nothing() -> None:
    tree = ast.parse((firmware_dir() / "midge" / "rules.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
