"""The live view of a node in a terminal: signals and scores as charts, alarms, classes and health as lines."""

from __future__ import annotations

from collections import deque
from typing import Any

from midgehost.cli.plot import COLOURS, draw, heading
from midgehost.cli.words import counted
from midgehost.records import Record

_KEPT = 1200  # points of a series
_SPAN_S = 15.0  # what the charts show
_EVENTS = 5
_LEAST_PANE = 7  # lines of a chart and its heading
_NOT_PLOTTED = ("class", "p", "sample", "value")  # of a stage's fields

_Series = dict[str, deque[tuple[float, float]]]


class LiveChart:
    """Collects records and draws them to any size of terminal. `status` is a line of the caller's."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.status = ""
        self.counts = {"records": 0, "alarms": 0, "alerts": 0}
        self._signals: _Series = {}
        self._scores: _Series = {}
        self._units: dict[str, str] = {}
        self._alarms: deque[float] = deque(maxlen=100)
        self._latest: dict[str, Record] = {}
        self._events: deque[tuple[str, str]] = deque(maxlen=_EVENTS)  # text, style
        self._start: int | None = None
        self._now = 0.0

    # --- collecting ---------------------------------------------------------------------------------------------------

    def add(self, record: Record) -> None:
        """Takes a record in."""
        self.counts["records"] += 1
        seconds = self._seconds(record)
        stage, _, field = record.name.partition(".")
        if record.name == "alert":
            self.counts["alerts"] += 1
            self._event(f"{seconds:7.1f} s  ALERT {record.value} {_of_model(record)}", "bold red")
        elif field == "alarm":
            if record.value is True:
                self.counts["alarms"] += 1
                self._alarms.append(seconds)
                self._event(f"{seconds:7.1f} s  alarm of {stage}", "yellow")
        elif field == "error":
            self._event(f"{seconds:7.1f} s  {stage}: {record.value}", "yellow")
        elif stage == "sys" or field in _NOT_PLOTTED or not record.is_number:
            self._latest[record.name] = record
        else:
            series = self._scores if field == "score" else self._signals
            series.setdefault(record.name, deque(maxlen=_KEPT)).append((seconds, float(record.value)))
            self._units[record.name] = record.unit
            self._now = max(self._now, seconds)

    def note(self, text: str) -> None:
        """An event of the caller's, e.g. a dropped line."""
        self._event(text, "bold yellow")

    def _event(self, text: str, style: str) -> None:
        self._events.append((text, style))

    def _seconds(self, record: Record) -> float:
        """Time since the first record; a node that has booted or set its clock meanwhile begins anew."""
        if record.t is None:
            return self._now
        seconds = 0.0 if self._start is None else (record.t - self._start) / 1000
        if self._start is None or not -_SPAN_S <= seconds - self._now <= 3600:
            self._start = record.t - round(1000 * self._now)
            seconds = self._now
        return seconds

    # --- drawing ------------------------------------------------------------------------------------------------------

    def render(self, width: int, height: int) -> Any:
        """The whole view, `width` x `height` characters."""
        from rich.console import Group
        from rich.text import Text

        header = Text(self.title, style="bold", no_wrap=True)
        header.append(f"  {self.status}", style="dim")
        below = [self._classes(), self._health(width), *self._recent(_EVENTS if height >= 30 else 3)]
        for line in (header, *below):
            line.truncate(width, overflow="ellipsis")
        return Group(header, *self._charts(width, height - 1 - len(below)), *below)

    def _charts(self, width: int, room: int) -> list[Any]:
        """Signals and, where there is room, scores below them, on one time axis."""
        from rich.text import Text

        if not (self._signals or self._scores):
            return [Text("\n" * (room // 2 - 1) + "no records yet".center(width) + "\n" * (room - room // 2 - 1))]
        span = (max(0.0, self._now - _SPAN_S), max(self._now, 1.0))
        panes = [pane for pane in (self._signals, self._scores) if pane]
        if room < 2 * _LEAST_PANE:
            panes = panes[:1]
        heights = [room] if len(panes) == 1 else [room - room // 3, room // 3]
        charts: list[Any] = []
        for pane, height in zip(panes, heights, strict=True):
            shown = dict(list(pane.items())[: len(COLOURS)])
            charts.append(heading(shown, width, ", ".join(sorted({self._units[name] for name in shown} - {""}))))
            charts.append(draw(shown, width, height - 1, span, self._alarms, times=pane is panes[-1]))
        return charts

    def _classes(self) -> Any:
        from rich.text import Text

        text = Text(no_wrap=True)
        for name, record in sorted(self._latest.items()):
            stage, _, field = name.partition(".")
            if field == "class":
                p = self._latest.get(f"{stage}.p")
                share = f" {float(p.value):.0%}" if p is not None else ""
                text.append(f"{stage} ", style="dim").append(f"{record.value}{share}   ", style="bold cyan")
        found = ", ".join(counted(self.counts[f"{noun}s"], noun) for noun in ("alarm", "alert"))
        return text.append(found, style="bold")

    def _health(self, width: int) -> Any:
        """As much of the node's health as fits, the important first."""
        from rich.text import Text

        parts = [
            f"heap {self._value('heap', ',.0f')} B",
            f"latency {self._value('latency_ms', '.2f')} ms (p95 {self._value('latency_p95_ms', '.2f')})",
            f"errors {self._value('errors', '.0f')}",
            f"{self._value('inferences', ',.0f')} inferences",
            f"{self.counts['records']:,} records",
        ]
        while len("   ".join(parts)) > width and len(parts) > 1:
            parts.pop()
        return Text("   ".join(parts), style="dim", no_wrap=True)

    def _value(self, name: str, form: str) -> str:
        record = self._latest.get(f"sys.{name}")
        return f"{record.value:{form}}" if record is not None and record.is_number else "-"

    def _recent(self, count: int) -> list[Any]:
        from rich.text import Text

        events = [*self._events][-count:]
        events += [("", "")] * (count - len(events))
        return [Text(text, style=style, no_wrap=True) for text, style in events]


def _of_model(record: Record) -> str:
    """What computed an alert."""
    if "model" not in record.extra:
        return ""
    return f"[{record.extra['model']} {record.extra.get('plan', '?')} {record.extra.get('kernels', '?')}]"
