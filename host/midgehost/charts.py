"""Pictures of signals: values with their alarms, and the scores below. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midgehost.errors import Missing

_COLOURS = ("#2b6cb0", "#2f855a", "#b7791f", "#6b46c1")
_ALARM = "#c53030"
_SCORE = "#4a5568"


@dataclass
class Picture:
    """What is drawn. x is shared by all: seconds, or sample numbers."""

    title: str
    x: Sequence[float]
    signals: Mapping[str, Sequence[float]]
    unit: str = ""
    x_label: str = "sample"
    alarms: Sequence[float] = ()
    scores: tuple[Sequence[float], Sequence[float]] | None = None  # (x, score)
    threshold: float | None = None
    spans: Sequence[tuple[float, float, str]] = field(default_factory=tuple[tuple[float, float, str], ...])
    span_colours: Mapping[str, str] = field(default_factory=dict[str, str])


def save_png(picture: Picture, path: Path) -> None:
    """Draws the picture as a PNG of 1600 x 900 pixels. Raises Missing without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise Missing("matplotlib", "plot") from None
    figure = Figure(figsize=(16, 9), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    rows = 2 if picture.scores is not None else 1
    axes: Any = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[3, 1] if rows == 2 else [1])
    _draw_signals(axes[0][0], picture)
    if picture.scores is not None:
        _draw_scores(axes[1][0], picture)
    axes[-1][0].set_xlabel(picture.x_label, fontsize=12)
    figure.suptitle(picture.title, x=0.045, ha="left", fontsize=17, fontweight="bold")
    figure.subplots_adjust(left=0.055, right=0.985, top=0.90, bottom=0.075, hspace=0.08)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_signals(axis: Any, picture: Picture) -> None:
    named: set[str] = set()
    for start, end, name in picture.spans:
        label = name if name not in named else None
        named.add(name)
        axis.axvspan(start, end, color=picture.span_colours.get(name, "#e2e8f0"), alpha=0.45, lw=0, label=label)
    for (name, values), colour in zip(picture.signals.items(), _COLOURS * len(picture.signals), strict=False):
        axis.plot(picture.x[: len(values)], values, color=colour, lw=0.9, label=name)
    for i, x in enumerate(picture.alarms):
        axis.axvline(x, color=_ALARM, lw=1.6, alpha=0.9, label="alarm" if i == 0 else None)
    axis.set_ylabel(picture.unit or "value", fontsize=12)
    axis.legend(loc="upper right", ncols=8, frameon=True, framealpha=0.9, edgecolor="none", fontsize=11)
    _clean(axis)


def _draw_scores(axis: Any, picture: Picture) -> None:
    assert picture.scores is not None
    axis.plot(*picture.scores, color=_SCORE, lw=0.9)
    axis.set_yscale("symlog", linthresh=1)
    axis.set_ylim(bottom=0)
    if picture.threshold is not None:
        axis.axhline(picture.threshold, color=_ALARM, lw=1, ls="--", label=f"threshold {picture.threshold:g}")
        axis.legend(loc="upper right", frameon=False, fontsize=11)
    for x in picture.alarms:
        axis.axvline(x, color=_ALARM, lw=1.6, alpha=0.9)
    axis.set_ylabel("score", fontsize=12)
    _clean(axis)


def _clean(axis: Any) -> None:
    axis.margins(x=0)
    axis.grid(axis="y", color="#e2e8f0", lw=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
