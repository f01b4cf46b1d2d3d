"""The detectors' scores on the Numenta Anomaly Benchmark: needs a checkout of github.com/numenta/NAB."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.soak

LEAST = {"window": -257.0, "multiscale": 55.5, "context": 68.0}  # standard profile


@pytest.fixture
def checkout() -> Path:
    """The benchmark, or a skip that says how to name it."""
    folder = os.environ.get("MIDGE_NAB", "")
    if not folder:
        pytest.skip("no NAB checkout: clone github.com/numenta/NAB and point MIDGE_NAB at it")
    return Path(folder)


@pytest.fixture
def nab(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/nab.py."""
    path = Path(__file__).resolve().parents[2] / "tools" / "nab.py"
    spec = importlib.util.spec_from_file_location("nab_tool", path)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "nab_tool", tool)  # dataclasses look their module up
    spec.loader.exec_module(tool)
    return tool


def test_scores_on_all_58_series(nab: ModuleType, checkout: Path) -> None:
    assert len(list(nab.load_corpus(checkout))) == 58
    results = nab.table(checkout)
    nab.print_table(results)
    for kind, least in LEAST.items():
        assert results[kind].scores["standard"] >= least, kind
