"""`midge detect`: parameters, times, pictures, and a host without matplotlib."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midgehost.charts import Picture, save_png
from midgehost.cli.app import run
from midgehost.detect import detect
from midgehost.errors import DataError, Missing
from midgehost.recordings import parse_times

ALARM_RED = (0xC5, 0x30, 0x30)


def waves(n: int = 900) -> list[float]:
    return [20 + (i * 7919 % 13) / 10 for i in range(n)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """900 samples a minute apart, a jump at sample 700."""
    values = waves()
    values[700] = 60.0
    start = datetime(2026, 3, 1)
    lines = [f"{start + timedelta(minutes=i)},{v}\n" for i, v in enumerate(values)]
    path = tmp_path / "room.csv"
    path.write_text("Timestamp,t\n" + "".join(lines))
    return path


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return (imread(path)[:, :, :3] * 255).round().astype(int)


def columns_of(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((image == colour).all(axis=2).sum(axis=0) > 3)


def test_alarms_as_lines(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png = tmp_path / "room.png"
    assert run(["detect", str(recording), "--column", "t", "--png", str(png)]) == 0
    alarm, summary = capsys.readouterr().out.splitlines()
    assert alarm.split() == ["sample", "700", "2026-03-01", "11:40:00", "score", alarm.split()[-1]]
    assert float(alarm.split()[-1]) > 1
    assert summary == f"1 alarm in 900 samples; picture: {png}"


@pytest.mark.parametrize(
    ("options", "alarms"),
    [
        (["--detector", "window"], [700]),
        (["--detector", "window", "--threshold", "9.96"], []),  # above the ceiling, sqrt(99)
        (["--detector", "window", "--size", "40", "--threshold", "6.2"], [700]),
        (["--detector", "multiscale", "--threshold", "1e6"], []),
        (["--detector", "multiscale", "--resolution", "40"], []),
        (["--detector", "context", "--probation", "320"], [700]),
    ],
)
def test_parameters_reach_the_detector(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], alarms: list[int]
) -> None:
    png = str(tmp_path / "p.png")
    assert run(["detect", str(recording), "--column", "t", "--json", "--png", png, *options]) == 0
    assert [alarm["index"] for alarm in json.loads(capsys.readouterr().out)["alarms"]] == alarms


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--detector", "windows"], "There is no detector 'windows'. Use one of window, multiscale, context."),
        (["--detector", "window", "--holdoff", "3"], "no holdoff. It takes size, threshold, warmup."),
        (["--detector", "context", "--size", "3"], "no size. It takes probation, holdoff, resolution, threshold."),
        (["--detector", "multiscale", "--holdoff", "0"], "does not take this: holdoff must be at least 1."),
        (["--column", "u"], "has no column 'u'. Its columns: Timestamp, t."),
    ],
)
def test_bad_parameters_end_in_one_line(
    recording: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert run(["detect", str(recording), "--column", "t", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and line.endswith("[data]")


def test_without_matplotlib_only_an_asked_for_picture_fails(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    command = ["detect", str(recording), "--column", "t"]
    assert run(command) == 0
    assert "1 alarm in 900 samples; no picture: pip install 'midge[plot]'" in capsys.readouterr().out
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["png"] is None
    assert run([*command, "--png", "x.png"]) == 2
    assert "matplotlib is not installed. Run: pip install 'midge[plot]'" in capsys.readouterr().err
    with pytest.raises(Missing):
        save_png(Picture("t", range(3), {"a": [1, 2, 3]}), tmp_path / "y.png")
    assert [path.name for path in tmp_path.glob("*.png")] == []


def test_the_picture_marks_the_alarm_where_it_was(tmp_path: Path) -> None:
    base: dict[str, Any] = {"title": "t", "x": range(1000), "signals": {"a": waves(1000)}}
    save_png(Picture(**base), tmp_path / "none.png")
    save_png(Picture(**base, alarms=[500]), tmp_path / "one.png")
    plain, marked = pixels(tmp_path / "none.png"), pixels(tmp_path / "one.png")
    assert plain.shape == (900, 1600, 3)
    assert not len(columns_of(plain, ALARM_RED))
    middle = (0.055 + 0.985) / 2 * 1600
    found = columns_of(marked, ALARM_RED)
    assert min(abs(found - middle)) <= 2


@pytest.mark.parametrize("scores", [[0.5] * 1000, [0.5] * 999 + [1e6]])
def test_the_picture_draws_scores_and_threshold(tmp_path: Path, scores: list[float]) -> None:
    path = tmp_path / "new folder" / "p.png"
    times = [datetime(2026, 1, 1) + timedelta(seconds=i) for i in range(1000)]
    save_png(Picture("t", times, {"a": waves(1000)}, scores=(times, scores), threshold=1.0), path)
    rows = np.flatnonzero((pixels(path) == ALARM_RED).all(axis=2).sum(axis=1) > 400)
    assert len(rows), "a dashed line over the whole width"
    assert rows.min() > 600


def test_no_numbers_are_skipped_and_leave_no_trace() -> None:
    values = waves()
    values[700] = 60.0
    broken = [*values[:400], float("nan"), float("inf"), *values[400:]]
    clean, found = detect(values, "window"), detect(broken, "window")
    assert found.skipped == [400, 401]
    assert [alarm.index - 2 for alarm in found.alarms] == [alarm.index for alarm in clean.alarms] == [700]
    assert [score for i, score in enumerate(found.scores) if i not in (400, 401)] == clean.scores


def test_detect_names_what_a_detector_takes() -> None:
    with pytest.raises(DataError, match="The window detector has no speed"):
        detect([1.0], "window", speed=3)


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        (["2026-01-01 00:00:00", "2026-01-01 00:05:00"], 2),
        (["2026-01-01T00:00:00Z", "2026-01-01T00:05:00+00:00"], 2),
        (["2026-01-01 02:00:00", "2026-01-01 01:00:00"], 0),  # the clock was put back
        (["2026-01-01 02:00:00", "2026-01-01T03:00:00Z"], 0),
        (["1 s", "2 s"], 0),
        ([], 0),
    ],
)
def test_times_are_times_or_nothing(texts: list[str], count: int) -> None:
    assert len(parse_times(texts)) == count
