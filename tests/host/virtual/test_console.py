"""The console's rules do not depend on how the output is cut into reads."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from midgehost.virtual.console import Console

RAW = b"raw REPL; CTRL-B to exit\r\n>"
FRIENDLY = b'MicroPython 1.29\nType "help()" for more information.\n>>> '


def in_pieces(console: Console, text: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return b"".join(console.feed(text[start:end]) for start, end in itertools.pairwise(edges))


@given(
    st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\x00"]), max_size=30).map(b"".join),
    st.lists(st.integers(0, 99)),
)
def test_every_newline_has_exactly_the_return_it_came_with_or_one_more(text: bytes, cuts: list[int]) -> None:
    assert in_pieces(Console(), text, cuts) == re.sub(rb"(?<!\r)\n", b"\r\n", text)


@given(st.lists(st.sampled_from([RAW, FRIENDLY, b"text\n"]), min_size=1, max_size=6), st.lists(st.integers(0, 400)))
def test_the_last_banner_tells_the_mode(parts: list[bytes], cuts: list[int]) -> None:
    console = Console()
    in_pieces(console, b"".join(parts), cuts)
    banners = [part for part in parts if part != b"text\n"]
    assert console.raw == bool(banners and banners[-1] == RAW)


@given(st.lists(st.integers(0, 200)))
def test_the_friendly_banner_before_a_raw_one_is_hidden(cuts: list[int]) -> None:
    console = Console()
    console.hide_until_raw()
    assert in_pieces(console, FRIENDLY + RAW, cuts) == RAW
    assert console.raw


def test_only_a_soft_reset_keeps_the_raw_mode() -> None:
    console = Console()
    console.feed(RAW)
    console.restart(soft=True)
    assert console.raw
    console.restart(soft=False)
    assert not console.raw
