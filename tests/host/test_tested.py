"""What is remembered of the firmware that a node was proved on."""

from __future__ import annotations

from pathlib import Path

import pytest

from midgehost import tested as record
from midgehost.tested import ProvedOn, remember


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "midge" / "tested.json"


def test_the_last_one_counts() -> None:
    assert record.tested("fan-3") is None
    remember("fan-3", "pico", "1.24.1")
    remember("pump", "esp32", "1.26.0")
    remember("fan-3", "pico-w", "1.26.1")
    assert record.tested("fan-3") == ProvedOn("pico-w", "1.26.1")
    assert record.tested("pump") == ProvedOn("esp32", "1.26.0")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"fan-3": 1}', '{"fan-3": {"board": "pico"}}', "\x00"])
def test_a_damaged_record_is_no_record(state: Path, text: str) -> None:
    state.parent.mkdir()
    state.write_text(text)
    assert record.tested("fan-3") is None
    remember("fan-3", "pico", "1.26.1")
    assert record.tested("fan-3") == ProvedOn("pico", "1.26.1")


def test_where_none_can_be_written_none_is(state: Path) -> None:
    state.parent.write_text("a file where the folder would be")
    remember("fan-3", "pico", "1.26.1")
    assert record.tested("fan-3") is None
