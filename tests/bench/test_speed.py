"""How fast files get to a board, as `make bench` measures it."""

from __future__ import annotations

import runpy

import pytest

from conftest import ROOT


@pytest.mark.soak
def test_sending_is_three_times_as_fast_as_mpremote_cp() -> None:
    rows = list(runpy.run_path(str(ROOT / "tools" / "bench.py"))["transfers"]())
    print("\n| 256 KB to the virtual board, median of 5 | s | kB/s | times |\n|---|---|---|---|")
    for row in rows:
        print("|", " | ".join(row), "|")
    assert float(rows[-1][-1]) >= 3
