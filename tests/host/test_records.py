"""SenML both ways: what the board's Packer writes is what the host reads; whatever else comes is no record."""

from __future__ import annotations

import json
import math
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midgehost import twin
from midgehost.records import Record, parse_pack

device = twin.module("records")
SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)
TIMES = st.integers(0, 4_102_444_800_000)  # 1970 to 2100
PACK = '[{"bn":"fan/","bt":1795508367.038,"n":"accel.x","u":"m/s2","v":-9.81},{"n":"z.alarm","vb":true,"t":0.020}]'


def records() -> st.SearchStrategy[dict[str, Any]]:
    values = st.one_of(SINGLES, st.integers(-(2**53), 2**53), st.text(max_size=12), st.booleans())
    return st.builds(device.record, st.text(min_size=1, max_size=12), values, TIMES, st.sampled_from([None, "m/s2"]))


# --- what the board writes --------------------------------------------------------------------------------------------


def test_a_pack_is_short_and_its_times_are_decimal() -> None:
    packer = device.Packer("fan/")
    made = [
        device.record("accel.x", struct.unpack("<f", struct.pack("<f", -9.81))[0], 1_795_508_367_038, "m/s2"),
        device.record("z.alarm", True, 1_795_508_367_058),
    ]
    assert packer.pack(made) == PACK


def test_an_alert_says_what_computed_it() -> None:
    alert = device.alert("imbalance", 1_795_508_367_038, model="fan", plan="0badcafe", kernels="viper", score=0.5)
    assert device.Packer().pack([alert]) == (
        '[{"bt":1795508367.038,"n":"alert","vs":"imbalance",'
        '"model":"fan","plan":"0badcafe","kernels":"viper","score":0.5}]'
    )


def test_times_before_and_after_the_first_record() -> None:
    packed = device.Packer().pack([device.record("x", 1, t) for t in (5_000, 4_999, 5_000, 6_001)])
    assert packed == '[{"bt":5.000,"n":"x","v":1},{"n":"x","v":1,"t":-0.001},{"n":"x","v":1},{"n":"x","v":1,"t":1.001}]'


def test_a_record_without_time() -> None:
    made = [{"n": "x", "v": 1}, {"n": "y", "v": 2, "t": 1500}]
    assert device.Packer().pack(made) == '[{"n":"x","v":1},{"n":"y","v":2,"t":1.500}]'
    assert device.Packer().pack(made[::-1]) == '[{"bt":1.500,"n":"y","v":2},{"n":"x","v":1}]'
    assert device.Packer().pack([device.record("x", 1, 0)]) == '[{"bt":0.000,"n":"x","v":1}]'


def test_values_that_json_has_not_are_left_out_and_counted() -> None:
    packer = device.Packer("fan/")
    bad = [device.record("x", value, 1000) for value in (math.nan, math.inf, -math.inf, None, 1e300)]
    assert packer.pack(bad) == ""
    assert packer.dropped == 5
    assert packer.pack([bad[0], device.record("y", 1, 2000), bad[1]]) == '[{"bn":"fan/","bt":2.000,"n":"y","v":1}]'
    assert packer.dropped == 7


@given(st.lists(records(), min_size=1, max_size=8), st.sampled_from(["", "fan-3/"]))
def test_a_pack_reads_back(made: list[dict[str, Any]], base_name: str) -> None:
    line = device.Packer(base_name).pack(made)
    assert "\n" not in line
    assert json.loads(line, parse_float=Decimal)[0].get("bn", "") == base_name
    found = parse_pack(line)
    assert len(found) == len(made)
    for want, got in zip(made, found, strict=True):
        assert (got.node, got.name, got.t, got.unit) == (base_name.rstrip("/"), want["n"], want["t"], want.get("u", ""))
        value = next(want[key] for key in ("v", "vs", "vb") if key in want)
        assert type(got.value) is type(value)
        if isinstance(value, float):
            assert np.float32(got.value).tobytes() == np.float32(value).tobytes()
        else:
            assert got.value == value


# --- floats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (9.81, "9.81"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1 / 3, "0.33333334"),
        (101_325.0, "101325.0"),
        (16_777_216.0, "16777216.0"),
        (9.9999999, "10.0"),
        (99_999.99, "99999.99"),
        (0.001, "0.001"),
        (1.5e-7, "1.5e-7"),
        (-2.5e10, "-2.5e10"),
        (3.4028235e38, "3.4028235e38"),
        (1e-45, "1.4013e-45"),
    ],
)
def test_floats_are_written_as_people_write_them(x: float, text: str) -> None:
    assert device.float_text(x) == text


@given(SINGLES)
def test_a_float_reads_back_as_the_same_single(x: float) -> None:
    text = device.float_text(x)
    assert np.float32(json.loads(text)).tobytes() == np.float32(x).tobytes()
    digits = text.lstrip("-").partition("e")[0].replace(".", "").strip("0")
    assert len(digits) <= 9
    shortest = np.format_float_scientific(np.float32(x), unique=True, trim="-").partition("e")[0]
    assert len(digits) <= max(6, len(shortest.lstrip("-").replace(".", "")) + 1)  # ties may cost one digit


def test_powers_of_two_where_the_step_halves() -> None:
    for exponent in range(-149, 128):
        assert np.float32(device.float_text(2.0**exponent)) == np.float32(2.0**exponent)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
        max_leaves=12,
    )
)
def test_replies_are_json(value: Any) -> None:
    assert json.loads(device.to_json(value)) == value


def test_replies_have_null_for_what_is_no_number() -> None:
    assert device.to_json({"a": [math.nan, 0.5], "b": (math.inf, b"x")}) == '{"a":[null,0.5],"b":[null,"b\'x\'"]}'


# --- what the host reads ----------------------------------------------------------------------------------------------


def test_base_fields_hold_until_they_change() -> None:
    line = (
        '[{"bn":"a/","bt":10,"bu":"V","n":"x","v":1},{"n":"y","v":2.5,"t":0.25},'
        '{"bn":"b/","bu":"A","n":"x","v":3,"t":-0.0005},{"bt":20.001,"n":"z","u":"%","v":4}]'
    )
    assert parse_pack(line) == [
        Record("a", "x", 1, 10_000, "V"),
        Record("a", "y", 2.5, 10_250, "V"),
        Record("b", "x", 3, 10_000, "A"),
        Record("b", "z", 4, 20_001, "%"),
    ]


def test_times_are_exact_where_a_double_is_not() -> None:
    (found,) = parse_pack('[{"bt":1795508367.038,"n":"x","v":0,"t":100000000000.001}]')
    assert found.t == 101_795_508_367_039


def test_a_record_without_time_has_none() -> None:
    assert parse_pack('[{"n":"x","v":1}]') == [Record("", "x", 1, None)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "MPY: soft reboot",
        "[",
        "[]",
        "[1,2]",
        '[{"n":"x"}]',
        '[{"n":1,"v":1}]',
        '[{"v":1}]',
        '[{"n":"x","v":true}]',
        '[{"n":"x","v":"1"}]',
        '[{"n":"x","v":null}]',
        '[{"n":"x","vs":1}]',
        '[{"n":"x","vb":1}]',
        '[{"n":"x","v":1,"vs":"one"}]',
        '[{"n":"x","v":NaN}]',
        '[{"n":"x","v":-Infinity}]',
        '[{"n":"x","v":1e400}]',
        '[{"n":"x","v":1e99999999999999999999}]',
        '[{"n":"x","v":1,"t":1e999999}]',
        '[{"n":"x","v":1,"t":"0"}]',
        '[{"bt":true,"n":"x","v":1}]',
        '[{"n":"x","v":1,"bv":3}]',
        '[{"n":"x","v":1,"must_":3}]',
        '[{"n":"alert","vs":"x","score":1e999}]',
        '[{"n":"x","v":%s}]' % ("9" * 400),
        '[{"n":"x","v":%s}]' % ("9" * 5000),
        "[" * 100_000,
        PACK[:-1],
        PACK + PACK,
        PACK.replace('"n":"accel.x",', ""),
    ],
)
def test_anything_else_is_no_record(line: str) -> None:
    assert parse_pack(line) == []


def test_a_pack_that_was_cut_is_no_record() -> None:
    assert [parse_pack(PACK[:end]) for end in range(len(PACK))] == [[]] * len(PACK)
    assert [parse_pack(PACK[start:]) for start in range(1, len(PACK))] == [[]] * (len(PACK) - 1)


@given(st.integers(0, len(PACK)), st.text(st.characters(max_codepoint=255), min_size=1, max_size=4))
def test_noise_in_a_pack_never_makes_more_of_it(at: int, noise: str) -> None:
    found = parse_pack(PACK[:at] + noise + PACK[at + len(noise) :])
    assert len(found) <= 2
    assert all(isinstance(record.value, str) or math.isfinite(record.value) for record in found)


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    assert isinstance(parse_pack("[" + text), list)
