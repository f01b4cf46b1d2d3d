"""`midge demo`: the main job on a virtual board, from a .tflite and a recording to alerts, a chart and a picture."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midgehost.cli.words import counted
from midgehost.records import Record

if TYPE_CHECKING:
    from midgehost.virtual.board import VirtualBoard

_RATE_HZ = 400  # the recording plays at eight times its 50 Hz
_RECORDING = "data/demo.csv"
_ALARM_PIN, _CONDITION_PIN = 15, 14
_FRAME_S = 0.15


def command(
    out: Annotated[Path, typer.Option("-o", "--out", help="The picture.")] = Path("out/demo.png"),
    heap: Annotated[str, typer.Option(help="The virtual board's heap.")] = "192k",
) -> int:
    """A fan's vibration through a virtual board: sampled, judged, classified, reported. Takes about 15 seconds."""
    from rich.console import Console

    from midgehost.resources import models_dir
    from midgehost.virtual.board import VirtualBoard
    from midgehost.virtual.sensors import Mpu6050, Recording

    console = Console()
    source = models_dir() / "fan"
    recording = Recording.read(source / _RECORDING, ("x", "y", "z"), end="stop")
    _step(console, 1, "convert and check the model")
    _convert(console, source / "fan.tflite")
    with tempfile.TemporaryDirectory(prefix="midge-demo-") as folder:
        node = _node_folder(source, Path(folder))
        with VirtualBoard(heap=heap, sensors=[Mpu6050(recording)]) as board:
            _step(console, 2, f"start a board: MicroPython on {board.path}, {heap} of heap, an MPU-6050 on its I2C bus")
            _step(console, 3, "deploy the node over the serial line")
            _deploy(console, board, node)
            _step(console, 4, f"watch it: {len(recording.samples):,} samples of a real fan, at {_RATE_HZ} Hz")
            records = _watch(console, board, len(recording.samples))
            _step(console, 5, "what came of it")
            return _summary(console, board, records, recording.samples, out)


def _step(console: Any, number: int, text: str) -> None:
    console.print(f"[bold cyan]{number}[/] {text}", highlight=False)


def _convert(console: Any, model: Path) -> None:
    from midgehost.models.convert import convert

    bundle = convert(model)
    meta = bundle.meta
    console.print(
        f"  {model.name}: {len(bundle.calls)} kernel calls, arena {meta['arena_bytes']:,} bytes, heap"
        f" {meta['heap_bytes']:,}; classes {', '.join(bundle.outputs[0].labels)}",
        highlight=False,
    )


def _node_folder(source: Path, folder: Path) -> Path:
    """The fan's node with the demo's sampling rate."""
    for name in ("fan.tflite", "model.toml"):
        shutil.copy(source / name, folder / name)
    text = (source / "node.toml").read_text()
    (folder / "node.toml").write_text(re.sub(r"(?m)^rate_hz = \d+", f"rate_hz = {_RATE_HZ}", text))
    return folder


def _deploy(console: Any, board: VirtualBoard, node: Path) -> None:
    from midgehost import connect
    from midgehost.cli.progress import transfer
    from midgehost.deploy.node_folder import build_payload
    from midgehost.deploy.protocol import Terms, deploy

    with connect(board.path) as line:
        payload = build_payload(node, line.info)
        with transfer(console) as watch:
            trial = Terms(confirm=False)  # the recording plays already
            report = deploy(line.transport, line.info, payload, trial, progress=watch.progress, on_step=watch.step)
    console.print(
        f"  {len(report.sent)} files, {report.sent_bytes:,} bytes, each verified by SHA-256; {report.tested} model"
        f" passed its self-test on the board; the node is on trial in slot {report.slot}",
        highlight=False,
    )


def _watch(console: Any, board: VirtualBoard, samples: int) -> list[Record]:
    """The records until the recording is over, shown live."""
    from rich.live import Live

    from midgehost import connect
    from midgehost.cli.live import LiveChart

    chart = LiveChart("midge demo")
    found: list[Record] = []
    end = time.monotonic() + samples / _RATE_HZ + 20
    with connect(board.path) as line, Live(console=console, auto_refresh=False, transient=False) as live:
        drawn, over = 0.0, False
        while not over and time.monotonic() < end:
            for record in line.records(timeout=_FRAME_S):
                if record.name == "accel.error":  # the sensor is silent
                    over = True
                    chart.note("the recording is over")
                    continue
                found.append(record)
                chart.add(record)
            if console.is_terminal and time.monotonic() - drawn >= _FRAME_S:
                drawn = time.monotonic()
                live.update(chart.render(console.width, min(console.height - 2, 26)), refresh=True)
        live.update(chart.render(console.width, 26), refresh=True)
        found += line.records(timeout=2.5)  # the last health report
    if not console.is_terminal:
        console.print()  # Live leaves a file's last line open
    return found


def _summary(
    console: Any, board: VirtualBoard, records: list[Record], samples: list[tuple[float, ...]] | Any, out: Path
) -> int:
    from midgehost.charts import Picture, save_png

    start = next((r.t for r in records if r.name == "accel.y" and r.t is not None), 0)

    def position(record: Record) -> float:
        return ((record.t or start) - start) * _RATE_HZ / 1000

    alerts = [r for r in records if r.name == "alert"]
    alarms = [position(r) for r in records if r.name == "z.alarm" and r.value is True]
    scores = [(position(r), float(r.value)) for r in records if r.name == "z.score" and r.is_number]
    classes = [(position(r), str(r.value)) for r in records if r.name == "net.class"]
    spans = [(at - 128, at - 64, name) for at, name in classes if name != "opposite"]
    save_png(
        Picture(
            title="A fan loses its balance: what the board saw and said",
            x=range(len(samples)),
            signals={"y": [s[1] for s in samples], "x": [s[0] for s in samples]},
            unit="g",
            x_label=f"sample (the board took them at {_RATE_HZ} Hz)",
            alarms=alarms,
            scores=([x for x, _ in scores], [y for _, y in scores]),
            threshold=3.0,
            spans=spans,
            span_colours={"neighbouring": "#fed7d7", "perpendicular": "#feebc8"},
        ),
        out,
    )
    health = {r.name: r.value for r in records if r.name.startswith("sys.")}
    for alert in alerts:
        extra = alert.extra
        by = (
            f"model {extra['model']}, plan {extra['plan']}, {extra['kernels']} kernels"
            if "model" in extra
            else "z-score"
        )
        console.print(f"  sample {position(alert):5.0f}  alert {alert.value}  ({by})", highlight=False)
    pulses = sum(level for _, level in board.pins.history(_ALARM_PIN))
    console.print(
        f"  {counted(len(records), 'record')}, {counted(len(alarms), 'z-score alarm')},"
        f" {counted(len(alerts), 'alert')}; GPIO {_ALARM_PIN} pulsed {counted(pulses, 'time')};"
        f" {health.get('sys.inferences', 0)} inferences of {health.get('sys.latency_ms', 0)} ms,"
        f" {health.get('sys.accel.rate', 0):.1f} Hz, {health.get('sys.accel.overruns', 0)} overruns",
        highlight=False,
    )
    console.print(f"  picture: {out}", highlight=False)
    return 0 if alarms and alerts else 1
