"""The live view of a node in a terminal: signals and scores as charts, alarms, classes and health as lines."""

from __future__ import annotations

from collections import deque
from typing import Any

from midgehost.records import Record

_KEPT = 600  # points of a signal
_EVENTS = 5
_TICKS = 3


class LiveChart:
    """Collects records and draws them to any size of terminal. `status` is a line of the caller's."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.status = ""
        self.counts = {"records": 0, "alarms": 0, "alerts": 0}
        self._signals: dict[str, deque[tuple[float, float]]] = {}
        self._scores: dict[str, deque[tuple[float, float]]] = {}
        self._latest: dict[str, Record] = {}
        self._events: deque[str] = deque(maxlen=_EVENTS)
        self._start: int | None = None

    def add(self, record: Record) -> None:
        """Takes a record in."""
        self.counts["records"] += 1
        seconds = self._seconds(record)
        stage, _, field = record.name.partition(".")
        if record.name == "alert":
            self.counts["alerts"] += 1
            self._events.append(f"{seconds:8.2f} s  ALERT {record.value} {_of_model(record)}")
        elif field == "alarm":
            if record.value is True:
                self.counts["alarms"] += 1
                self._events.append(f"{seconds:8.2f} s  alarm of {stage}")
        elif field == "error":
            self._events.append(f"{seconds:8.2f} s  {stage}: {record.value}")
        elif record.name.startswith("sys.") or field in ("class", "p", "sample", "value"):
            self._latest[record.name] = record
        elif isinstance(record.value, int | float) and record.is_number:
            series = self._scores if field == "score" else self._signals
            series.setdefault(record.name, deque(maxlen=_KEPT)).append((seconds, float(record.value)))

    def note(self, text: str) -> None:
        """An event of the caller's, e.g. a dropped line."""
        self._events.append(text)

    def render(self, width: int, height: int) -> Any:
        """The whole view, `width` x `height` characters."""
        from rich.console import Group
        from rich.text import Text

        lines = [Text(self.title, style="bold"), Text(self.status, style="dim")]
        below = [self._classes(), self._health(), *self._recent()]
        room = height - len(lines) - len(below) - 1
        charts: list[Any] = []
        if room >= 6:
            with_scores = bool(self._scores) and room >= 14
            charts.append(_chart(self._signals, width, room - room // 3 if with_scores else room, "signals"))
            if with_scores:
                charts.append(_chart(self._scores, width, room // 3, "score"))
        return Group(*lines, *charts, *below)

    def _seconds(self, record: Record) -> float:
        if record.t is None:
            return 0.0
        if self._start is None and not record.name.startswith("sys."):
            self._start = record.t
        return (record.t - (self._start if self._start is not None else record.t)) / 1000

    def _classes(self) -> Any:
        from rich.text import Text

        text = Text()
        for name, record in sorted(self._latest.items()):
            if name.endswith(".class"):
                p = self._latest.get(name[:-5] + "p")
                share = f" {float(p.value):.0%}" if p is not None else ""
                text.append(f"{name[:-6]}: ", style="dim").append(f"{record.value}{share}   ", style="bold cyan")
        text.append(f"{self.counts['alarms']} alarms, {self.counts['alerts']} alerts", style="bold")
        return text

    def _health(self) -> Any:
        from rich.text import Text

        def value(name: str, unit: str, form: str = ",.0f") -> str:
            record = self._latest.get(f"sys.{name}")
            return f"{float(record.value):{form}}{unit}" if record is not None and record.is_number else "-"

        return Text(
            f"heap free {value('heap', ' B')}   latency {value('latency_ms', ' ms', '.2f')}"
            f" (p95 {value('latency_p95_ms', ' ms', '.2f')})   inferences {value('inferences', '')}"
            f"   errors {value('errors', '')}   records {self.counts['records']:,}",
            style="dim",
        )

    def _recent(self) -> list[Any]:
        from rich.text import Text

        events = list(self._events)[-_EVENTS:]
        events += [""] * (_EVENTS - len(events))
        return [Text(event, style="red" if "ALERT" in event else "yellow") for event in events]


def _of_model(record: Record) -> str:
    """What computed an alert."""
    if "model" not in record.extra:
        return ""
    return f"[{record.extra['model']} {record.extra.get('plan', '?')} {record.extra.get('kernels', '?')}]"


def _chart(series: dict[str, deque[tuple[float, float]]], width: int, height: int, label: str) -> Any:
    import plotext
    from rich.text import Text

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(width, height)
    plotext.frame(False)
    for name, points in list(series.items())[:4]:
        plotext.plot([x for x, _ in points], [y for _, y in points], label=name, marker="braille")
    plotext.xfrequency(_TICKS * 2)
    plotext.yfrequency(_TICKS)
    plotext.ylabel(label)
    return Text.from_ansi(plotext.build(), no_wrap=True)
