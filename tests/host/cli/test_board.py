"""`midge board start`: which kinds there are, and which options each takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from midgehost.cli import board
from midgehost.errors import NotFound


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match=r"'toaster:2'. Kinds: virtual"):
        board.start("toaster:2")


def test_an_option_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = board.Kind(board.KINDS["virtual"].start, frozenset({"flash"}))
    monkeypatch.setitem(board.KINDS, "bare", kind)
    with pytest.raises(NotFound, match="no --heap"):
        board.start("bare", flash=Path("flash.img"), heap="64k")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (board.Options(end="never"), "cannot end with 'never'"),
        (board.Options(accel=Path("a.csv"), columns="x,y"), "three axes"),
        (board.Options(adc=("co2",)), "does not read"),
    ],
)
def test_what_cannot_be_wired_is_refused(options: board.Options, why: str) -> None:
    with pytest.raises(NotFound, match=why):
        board.wired(options)
