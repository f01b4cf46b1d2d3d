"""`midge detect`: a detector over a recording."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midgehost.cli.words import counted

if TYPE_CHECKING:
    from midgehost.charts import Picture
    from midgehost.detect import Detection

_TIMES = ("timestamp", "time", "date", "datetime")


def command(
    recording: Annotated[Path, typer.Argument(help="A CSV file with a header line.")],
    column: Annotated[str, typer.Option(help="The column that holds the signal.")],
    detector: Annotated[str, typer.Option(help="window, multiscale or context.")] = "multiscale",
    threshold: Annotated[float | None, typer.Option(help="Alarm above this score.")] = None,
    holdoff: Annotated[int | None, typer.Option(help="multiscale, context: samples between alarms.")] = None,
    resolution: Annotated[float | None, typer.Option(help="multiscale, context: one step of the sensor.")] = None,
    size: Annotated[int | None, typer.Option(help="window: samples it looks back on.")] = None,
    probation: Annotated[int | None, typer.Option(help="context: samples it learns from.")] = None,
    unit: Annotated[str, typer.Option(help="The signal's unit, for the picture.")] = "",
    png: Annotated[Path | None, typer.Option(help="The picture; default: <recording>.<detector>.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Runs the device's own detector code over a recording: alarms with index, time and score, and a picture."""
    from midgehost.detect import detect
    from midgehost.recordings import column_names, read_columns, read_text_column

    (values,) = read_columns(recording, [column])
    clock = next((name for name in column_names(recording) if name.lower() in _TIMES), None)
    times = read_text_column(recording, clock) if clock else []
    given: dict[str, Any] = {
        "threshold": threshold, "holdoff": holdoff, "resolution": resolution, "size": size, "probation": probation,
    }  # fmt: skip
    found = detect(values, detector, times, **{name: value for name, value in given.items() if value is not None})
    summary = _summary(found)
    picture = _picture(f"{recording.name}: {column}, {detector} detector", summary, column, unit, values, times, found)
    drawn = _save(picture, png, Path(f"{recording.stem}.{detector}.png"))
    if as_json:
        alarms = [asdict(alarm) for alarm in found.alarms]
        report = {"detector": detector, "samples": len(values), "alarms": alarms, "skipped": found.skipped}
        print(json.dumps(report | {"png": str(drawn) if drawn else None}))
        return
    for alarm in found.alarms:
        print(f"sample {alarm.index:>8}  {alarm.time:<22} score {alarm.score:.2f}")
    where = f"picture: {drawn}" if drawn else "no picture: pip install 'midge[plot]' draws one"
    print(f"{summary}; {where}")


def _summary(found: Detection) -> str:
    skipped = f", {len(found.skipped)} samples are no numbers and were skipped" if found.skipped else ""
    highest = max((score for score in found.scores if score is not None), default=None)
    if found.alarms:
        hint = ""
    elif highest is None:
        hint = "; it has learnt from all of them and judged none"
    else:
        hint = f"; the highest score is {highest:.2f}, the threshold {found.threshold:g}"
    return f"{counted(len(found.alarms), 'alarm')} in {len(found.scores):,} samples{skipped}{hint}"


def _picture(
    title: str, note: str, column: str, unit: str, values: list[float], times: list[str], found: Detection
) -> Picture:
    """The signal over its times where all of them read as such, else over sample numbers."""
    from midgehost.charts import Picture
    from midgehost.recordings import parse_times

    clock = parse_times(times)
    x = clock or range(len(values))
    judged = [i for i, score in enumerate(found.scores) if score is not None]
    learnt = judged[0] if judged else len(values) - 1
    return Picture(
        title=title,
        note=note,
        x=x,
        x_label="" if clock else "sample",
        signals={column: values},
        unit=unit or column,
        alarms=[x[alarm.index] for alarm in found.alarms],
        scores=([x[i] for i in judged], [score for score in found.scores if score is not None]),
        threshold=found.threshold,
        spans=[(x[0], x[learnt], "learning")],
    )


def _save(picture: Picture, asked: Path | None, default: Path) -> Path | None:
    """Writes the picture; None where matplotlib is absent and no picture was asked for."""
    from midgehost.charts import save_png
    from midgehost.errors import Missing

    try:
        save_png(picture, asked or default)
    except Missing:
        if asked:
            raise
        return None
    return asked or default
