"""One chart of a few series over time, drawn in characters of a given width and height."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Points = Sequence[tuple[float, float]]  # (seconds, value), in order of time

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "white")  # of the series, in rich's words and plotext's
_ALARM = "red"
_LABEL = 8  # columns of the labels on the left, the same for all charts of a view


def draw(
    series: Mapping[str, Points],
    width: int,
    height: int,
    span: tuple[float, float],
    marks: Sequence[float] = (),
    times: bool = True,
) -> Any:
    """The chart as a rich Text of `height` lines. `span` is the time shown, `marks` are upright lines in it.

    The last line holds the times, unless `times` is False.
    """
    import plotext
    from rich.text import Text

    low, high = _limits([value for points in series.values() for t, value in points if span[0] <= t <= span[1]])
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.frame(False)
    plotext.plotsize(width, height)
    plotext.xlim(*span)
    plotext.ylim(low, high)
    for mark in marks:
        if span[0] <= mark <= span[1]:
            plotext.vline(mark, color=_ALARM)
    for (_, points), colour in zip(series.items(), COLOURS, strict=False):
        shown = [(t, value) for t, value in points if span[0] <= t <= span[1]]
        plotext.plot([t for t, _ in shown], [value for _, value in shown], color=colour, marker="braille")
    ticks = (low, (low + high) / 2, high)
    digits = min(6, max(0, 2 - math.floor(math.log10(high - low))))
    plotext.yticks(ticks, [f"{tick:>{_LABEL - 1}.{digits}f} " for tick in ticks])
    positions = _times(span) if times else []
    plotext.xticks(positions, [f"{position:g} s" for position in positions])
    return Text.from_ansi(plotext.build().rstrip("\n"), no_wrap=True)


def heading(series: Mapping[str, Points], width: int, note: str = "") -> Any:
    """The legend of a chart: every name in its colour with its last value, and a note on the right."""
    from rich.text import Text

    text = Text(" " * _LABEL, no_wrap=True)
    for (name, points), colour in zip(series.items(), COLOURS, strict=False):
        text.append(f"{name} {points[-1][1]:.3g}" if points else name, style=colour).append("   ")
    text.truncate(max(0, width - len(note)), pad=True)
    return text.append(note[:width], style="dim")


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The range of the axis: a little more than the values', never empty."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    margin = (high - low) * 0.05 or abs(low) * 0.1 or 1.0
    return low - margin, high + margin


def _times(span: tuple[float, float]) -> list[float]:
    """Round times in the span, about five of them."""
    step = 1.0
    for step in (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600):
        if (span[1] - span[0]) / step <= 6:
            break
    first = math.ceil(span[0] / step)
    return [i * step for i in range(first, math.floor(span[1] / step) + 1)]
