"""`midge detect`: a detector over a recording."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

_TIMES = ("timestamp", "time", "date", "datetime")


def command(
    recording: Annotated[Path, typer.Argument(help="A CSV file with a header line.")],
    column: Annotated[str, typer.Option(help="The column that holds the signal.")],
    detector: Annotated[str, typer.Option(help="window, multiscale or context.")] = "multiscale",
    threshold: Annotated[float | None, typer.Option(help="Alarm above this score.")] = None,
    holdoff: Annotated[int | None, typer.Option(help="multiscale: samples from one alarm to the next.")] = None,
    resolution: Annotated[float | None, typer.Option(help="multiscale, context: one step of the sensor.")] = None,
    size: Annotated[int | None, typer.Option(help="window: samples it looks back on.")] = None,
    probation: Annotated[int | None, typer.Option(help="context: samples it learns from.")] = None,
    png: Annotated[Path | None, typer.Option(help="The picture; default: <recording>.<detector>.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Runs the device's own detector code over a recording: alarms with index, time and score, and a picture."""
    from midgehost.charts import Picture, save_png
    from midgehost.detect import detect
    from midgehost.recordings import column_names, read_columns, read_text_column

    (values,) = read_columns(recording, [column])
    clock = next((name for name in column_names(recording) if name.lower() in _TIMES), None)
    times = read_text_column(recording, clock) if clock else []
    given: dict[str, Any] = {
        "threshold": threshold, "holdoff": holdoff, "resolution": resolution, "size": size, "probation": probation,
    }  # fmt: skip
    found = detect(values, detector, times, **{name: value for name, value in given.items() if value is not None})
    picture = png or Path(f"{recording.stem}.{detector}.png")
    known = [(float(i), score) for i, score in enumerate(found.scores) if score is not None]
    save_png(
        Picture(
            title=f"{recording.name}: {column}, {detector} detector",
            x=range(len(values)),
            signals={column: values},
            unit=column,
            alarms=[alarm.index for alarm in found.alarms],
            scores=([x for x, _ in known], [score for _, score in known]),
            threshold=found.threshold,
        ),
        picture,
    )
    if as_json:
        alarms = [asdict(alarm) for alarm in found.alarms]
        report = {"detector": detector, "samples": len(values), "alarms": alarms, "skipped": found.skipped}
        print(json.dumps(report | {"png": str(picture)}))
        return
    for alarm in found.alarms:
        print(f"sample {alarm.index:>8}  {alarm.time:<22} score {alarm.score:.2f}")
    skipped = f", {len(found.skipped)} samples are no numbers and were skipped" if found.skipped else ""
    print(f"{len(found.alarms)} alarms in {len(values):,} samples{skipped}; picture: {picture}")
