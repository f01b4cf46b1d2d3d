"""The bundle's codec by properties: any sections and values come back as they were, and no damage gets through."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import astuple
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midgehost.errors import BadBundle
from midgehost.models import container
from midgehost.models.bundle import Bundle, Machine, TensorInfo, Vector, split_scale
from midgehost.models.container import NEEDED, Section
from midgehost.models.plan import PlannedCall, decode_calls, encode_calls

int32 = st.integers(-(1 << 31), (1 << 31) - 1)
kinds = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=4, max_size=4)
section_lists = st.lists(
    st.builds(Section, kinds, st.binary(max_size=70), st.sampled_from([0, 2])), max_size=6, unique_by=lambda s: s.kind
)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
float32_scales = st.floats(2.0**-100, 2.0**60, width=32)


@st.composite
def tensor_infos(draw: st.DrawFn) -> TensorInfo:
    shape = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
    dtype = draw(st.sampled_from(["int8", "float32"]))
    nbytes = draw(st.integers(1, 40))
    labels = tuple(draw(st.lists(words, max_size=4)))
    return TensorInfo(draw(words), shape, dtype, draw(float32_scales), draw(st.integers(-128, 127)), 16, nbytes, labels)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    inputs, outputs = (tuple(draw(st.lists(tensor_infos(), min_size=1, max_size=3))) for _ in range(2))

    def vector() -> Vector:
        halves = [
            tuple(draw(st.binary(min_size=t.nbytes, max_size=t.nbytes)) for t in side) for side in (inputs, outputs)
        ]
        return Vector(*halves)

    def plan() -> dict[str, Any]:
        calls = st.builds(PlannedCall, *[int32] * 12)
        return {
            "inputs": inputs,
            "outputs": outputs,
            "calls": tuple(draw(st.lists(calls, max_size=4))),
            "params": tuple(draw(st.lists(int32, max_size=8))),
            "tiles": tuple(draw(st.lists(st.binary(max_size=50), max_size=4))),
        }

    meta = draw(st.dictionaries(words, st.one_of(words, int32, st.lists(words, max_size=2)), max_size=4))
    tests = tuple(vector() for _ in range(draw(st.integers(0, 2))))
    machine = None
    if draw(st.booleans()):
        in_flash = draw(st.booleans())
        meta["machine"] = {"residence": "flash" if in_flash else "ram"}
        machine = Machine(**plan(), kernels=draw(st.binary(max_size=50)), in_flash=in_flash)
    general = plan()
    if machine and not general["calls"]:
        general |= {"params": (), "tiles": ()}
    return Bundle(meta, **general, tests=tests, machine=machine)


@given(section_lists)
def test_sections_come_back(sections: list[Section]) -> None:
    data = container.pack(sections)
    assert container.unpack(data, {s.kind for s in sections}) == {s.kind: s for s in sections}
    assert container.pack(sections) == data
    for i in range(len(sections)):
        offset, length = struct.unpack_from("<II", data, 16 + 48 * i + 4)
        assert offset % 16 == 0 and data[offset : offset + length] == sections[i].data


@given(section_lists, st.integers(0, 1 << 20), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_lies_in_a_gap(sections: list[Section], at: int, bit: int) -> None:
    data = bytearray(container.pack(sections))
    at %= len(data)
    data[at] ^= 1 << bit
    known = {s.kind for s in sections}
    if at == 5:  # the minor version: readers of an older one go on
        return
    try:
        assert container.unpack(bytes(data), known) == {s.kind: s for s in sections}
    except BadBundle:
        return
    spans = [struct.unpack_from("<II", data, 16 + 48 * i + 4) for i in range(len(sections))]
    assert at >= 16 + 48 * len(sections) and not any(start <= at < start + n for start, n in spans)


@given(section_lists, st.data())
def test_a_truncated_or_longer_file_is_refused(sections: list[Section], data: st.DataObject) -> None:
    whole = container.pack(sections)
    for wrong in (whole[: data.draw(st.integers(0, len(whole) - 1))], whole + b"\0"):
        with pytest.raises(BadBundle):
            container.unpack(wrong, {s.kind for s in sections})


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    for wrong in (data, b"MDGB" + data, b"MDGB\x01" + data):
        with pytest.raises(BadBundle):
            container.unpack(wrong, {"META"})


def test_unknown_sections_are_skipped_unless_needed() -> None:
    known = Section("META", b"{}")
    assert container.unpack(container.pack([known, Section("NEWS", b"?")]), {"META"}) == {"META": known}
    with pytest.raises(BadBundle, match="'NEWS'"):
        container.unpack(container.pack([known, Section("NEWS", b"?", NEEDED)]), {"META"})


def test_the_layout_is_the_documented_one() -> None:
    """DESIGN.md, byte by byte."""
    data = container.pack([Section("META", b"abc"), Section("PLAN", b"defgh", 1)])
    assert data[:4] == b"MDGB" and struct.unpack_from("<BBHI", data, 4) == (1, 0, 2, 16 + 2 * 48 + 16 + 5)
    assert struct.unpack_from("<I", data, 12)[0] == zlib.crc32(data[:12] + bytes(4) + data[16 : 16 + 2 * 48])
    first = (b"META", 112, 3, 0, hashlib.sha256(b"abc").digest())
    second = (b"PLAN", 128, 5, 1, hashlib.sha256(b"defgh").digest())
    assert [struct.unpack_from("<4sIII32s", data, 16 + 48 * i) for i in range(2)] == [first, second]
    assert data[112:] == b"abc" + bytes(13) + b"defgh"


@settings(max_examples=60, deadline=None)
@given(bundles())
def test_bundles_come_back(bundle: Bundle) -> None:
    data = bundle.encode()
    again = Bundle.decode(data)
    assert again == bundle and again.encode() == data and again.plan_hash == bundle.plan_hash


@given(st.builds(PlannedCall, *[int32] * 12))
def test_a_call_is_twelve_words(call: PlannedCall) -> None:
    assert encode_calls([call]) == struct.pack("<12i", *astuple(call))
    assert decode_calls(encode_calls([call, call])) == (call, call)


@given(float32_scales)
def test_scales_are_exact(scale: float) -> None:
    mantissa, exponent = split_scale(scale)
    assert mantissa * 2.0**exponent == scale and 0 < mantissa <= 1 << 24 and -128 <= exponent <= 127
