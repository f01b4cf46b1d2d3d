"""Pictures of signals: values with their alarms, and the scores below. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from midgehost.errors import DataError, Missing

_COLOURS = ("#2b6cb0", "#2f855a", "#b7791f", "#6b46c1")
_ALARM = "#c53030"
_SCORE = "#4a5568"
_QUIET = "#718096"
_LARGEST = 1e100  # matplotlib takes the difference of two values
_STEEP = 20  # scores beyond this many thresholds are drawn on a logarithmic axis

Place = float | datetime


@dataclass
class Picture:
    """What is drawn. x is shared by all: seconds, sample numbers, or times of day."""

    title: str
    x: Sequence[Place]
    signals: Mapping[str, Sequence[float]]
    unit: str = ""
    x_label: str = "sample"
    alarms: Sequence[Place] = ()
    scores: tuple[Sequence[Place], Sequence[float]] | None = None  # (x, score)
    threshold: float | None = None
    spans: Sequence[tuple[Place, Place, str]] = field(default_factory=tuple[tuple[Place, Place, str], ...])
    span_colours: Mapping[str, str] = field(default_factory=dict[str, str])
    note: str = ""  # one line below the title


def save_png(picture: Picture, path: Path) -> None:
    """Draws the picture as a PNG of 1600 x 900 pixels.

    Raises Missing without matplotlib, DataError for another kind of file or values that no axis holds, OSError.
    """
    if path.suffix.lower() != ".png":
        raise DataError(f"{path} is no name for a PNG.", "Let it end in .png.")
    for name, values in picture.signals.items():
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0)
        if largest > _LARGEST:
            raise DataError(f"{name} cannot be drawn: it holds {largest:g}.", "Cut out what no sensor gives.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise Missing("matplotlib", "plot") from None
    figure = Figure(figsize=(16, 9), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    rows = 2 if picture.scores is not None else 1
    axes: Any = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[3, 1] if rows == 2 else [1])
    figure.subplots_adjust(left=0.055, right=0.985, top=0.86, bottom=0.075, hspace=0.16)
    _draw_signals(axes[0][0], picture)
    if picture.scores is not None:
        _draw_scores(axes[1][0], picture)
    axes[-1][0].set_xlabel(picture.x_label, fontsize=12)
    figure.text(0.055, 0.955, picture.title, fontsize=17, fontweight="bold", va="center")
    figure.text(0.055, 0.915, picture.note, fontsize=12, color=_QUIET, va="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that the font lacks
        figure.savefig(path)


def _draw_signals(axis: Any, picture: Picture) -> None:
    named: set[str] = set()
    for start, end, name in picture.spans:
        label = name if name not in named else None
        named.add(name)
        axis.axvspan(start, end, color=picture.span_colours.get(name, "#cbd5e0"), alpha=0.45, lw=0, label=label)
    for (name, values), colour in zip(picture.signals.items(), _COLOURS * len(picture.signals), strict=False):
        axis.plot(picture.x[: len(values)], values, color=colour, lw=0.9, label=name)
    _mark_alarms(axis, picture.alarms)
    if picture.alarms:
        tops = [1.0] * len(picture.alarms)
        style = {"marker": "v", "ls": "none", "ms": 8, "color": _ALARM, "clip_on": False}
        axis.plot(picture.alarms, tops, transform=axis.get_xaxis_transform(), label="alarm", **style)
    axis.set_ylabel(picture.unit or "value", fontsize=12)
    _finish(axis)


def _draw_scores(axis: Any, picture: Picture) -> None:
    assert picture.scores is not None
    places, scores = picture.scores
    axis.plot(places, scores, color=_SCORE, lw=0.9, label="score")
    limit = picture.threshold or 1.0
    if max(scores, default=0.0) > _STEEP * limit:
        axis.set_yscale("symlog", linthresh=limit)
        axis.yaxis.set_major_formatter("{x:g}")
    if picture.threshold is not None:
        axis.axhline(limit, color=_ALARM, lw=1, ls="--", label=f"threshold {limit:g}")
    axis.set_ylim(bottom=0)
    _mark_alarms(axis, picture.alarms)
    axis.set_ylabel("score", fontsize=12)
    _finish(axis)


def _mark_alarms(axis: Any, alarms: Sequence[Place]) -> None:
    # Many alarms stand so close that solid lines would hide the signal.
    for place in alarms:
        axis.axvline(place, color=_ALARM, lw=1.2, alpha=0.6 if len(alarms) < 50 else 0.2, zorder=1)


def _finish(axis: Any) -> None:
    axis.margins(x=0)
    axis.grid(axis="y", color="#e2e8f0", lw=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.01), ncols=8, frameon=False, fontsize=11, borderaxespad=0.3)
