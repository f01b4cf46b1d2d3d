"""Stages, modes and faults of a running node, against what the host computes from the same samples."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midgehost import twin
from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.node_folder import build_payload
from midgehost.deploy.probe import probe
from midgehost.deploy.protocol import deploy
from midgehost.deploy.transport import SerialTransport
from midgehost.models import reference
from midgehost.models.convert import load
from midgehost.records import Record, parse_pack
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.sensors import Fault, Mpu6050, Recording

FAN = Path(__file__).resolve().parents[2] / "models" / "fan"
Sample = tuple[float, float, float]
HEAD = """\
schema = 1
name = "n"
board = "virtual"
[sensor.accel]
driver = "mpu6050"
bus = { i2c = 0, sda = 4, scl = 5 }
channels = ["x", "y", "z"]
unit = "g"
"""
PROOF = "[update]\nconfirm_s = 0.1\n"
WINDOWS = """\
rate_hz = 500
[sampling]
mode = "batch"
window = 128
hop = 64
[[stage]]
id = "swing"
use = "features"
input = ["accel.x", "accel.z"]
params = { names = ["mean", "std"] }
[[stage]]
id = "w"
use = "anomaly.window"
input = "swing.x_std"
params = { size = 10, warmup = 4, threshold = 2.0 }
[[stage]]
id = "net"
use = "inference"
model = "fan"
input = ["accel.x", "accel.y", "accel.z"]
[[action]]
when = "net.class == 'neighbouring' or net.p >= 0"
do = [{ gpio = 15 }, { log = "the model has spoken" }, { record = "spoke" }]
[link.serial]
every_s = 0
signals = ["accel.y"]
"""


def noise(count: int, seed: int = 1) -> list[Sample]:
    """A vibration whose strength changes every 100 samples, on a fan that lies as the model's does."""
    rng = random.Random(seed)
    strengths = [rng.choice((0.02, 0.1, 0.4)) for _ in range(count // 100 + 1)]
    return [
        (1 + rng.gauss(0, strengths[i // 100] / 2), rng.gauss(0, strengths[i // 100]), rng.gauss(-0.1, 0.02))
        for i in range(count)
    ]


def counts(samples: Sequence[Sample]) -> list[list[int]]:
    """What the sensor's registers say at +-2 g."""
    return [[max(-32768, min(32767, round(g * 16384))) for g in sample] for sample in samples]


@contextmanager
def running(recording: Recording, folder: Path, text: str) -> Iterator[tuple[VirtualBoard, SerialTransport]]:
    """A board that runs the node."""
    with VirtualBoard(sensors=[Mpu6050(recording)]) as board, start(recording, board, folder, text) as line:
        yield board, line


def start(recording: Recording, board: VirtualBoard, folder: Path, text: str) -> SerialTransport:
    """Deploys the node, the fan model beside it, and starts it with the recording's first sample."""
    for name in ("fan.tflite", "model.toml"):
        (folder / name).write_bytes((FAN / name).read_bytes())
    (folder / "node.toml").write_text(text + PROOF)
    line = SerialTransport(board.path)
    info = probe(line)
    deploy(line, info, build_payload(folder, info))
    line.exec("")  # ends the node
    recording.rewind()
    line.reset()
    return line


def gather(line: SerialTransport, until: str, count: int, timeout: float = 15) -> list[Record]:
    """Records up to the `count`-th of that name."""
    records: list[Record] = []
    for record in NodeConnection(line).records(timeout):
        records.append(record)
        if sum(r.name == until for r in records) == count:
            return records
    raise AssertionError(f"only {sum(r.name == until for r in records)} of {count} records {until}")


def said(records: list[Record], name: str) -> list[Any]:
    return [record.value for record in records if record.name == name]


def test_every_window_says_what_the_host_computes(tmp_path: Path) -> None:
    samples = noise(2000)
    flat = [c for sample in counts(samples) for c in sample]
    graph = load(FAN / "fan.tflite")
    source, result = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    features = twin.features(["mean", "std"], 128, 500, 3, 1 / 16384)
    judge = twin.detector("window", size=10, warmup=4, threshold=2.0)
    labels = ("neighbouring", "perpendicular", "opposite")
    names = ("net.class", "net.p", "swing.x_std", "swing.z_mean", "w.sample")
    expected: dict[str, list[Any]] = {name: [] for name in names}
    windows = 20
    for number in range(windows):
        window = flat[number * 64 * 3 : (number * 64 + 128) * 3]
        x = np.asarray(window) / 16384 / source.scale
        q = np.clip(np.trunc(x + np.copysign(0.5, x)) + source.zero_point, -128, 127).astype(np.int8)
        out = reference.run(graph, [q.reshape(source.shape)])[0].ravel().astype(int)
        expected["net.class"].append(labels[int(out.argmax())])
        expected["net.p"].append((out.max() - result.zero_point) * result.scale)
        made = list(features.extract(twin.array("h", window)))
        expected["swing.x_std"].append(made[1])
        expected["swing.z_mean"].append(made[4])
        before = judge.alarm
        judge.update(made[1])
        if judge.alarm and not before:
            expected["w.sample"].append(number)
    assert len(set(expected["net.class"])) > 1 and expected["w.sample"]

    with running(Recording(samples), tmp_path, HEAD + WINDOWS) as (board, line):
        records = gather(line, "net.class", windows)
        assert board.pins[15] == 1
    assert said(records, "net.class") == expected["net.class"]
    assert said(records, "swing.x_std")[:windows] == pytest.approx(expected["swing.x_std"], rel=1e-5)
    assert said(records, "swing.z_mean")[:windows] == pytest.approx(expected["swing.z_mean"], rel=1e-5)
    assert said(records, "net.p") == pytest.approx(expected["net.p"][: len(said(records, "net.p"))], rel=1e-5)
    assert said(records, "w.sample") == expected["w.sample"]
    signal = said(records, "accel.y")
    assert signal == pytest.approx([c[1] / 16384 for c in counts(samples)[: len(signal)]], abs=1e-6)
    (spoke,) = [record for record in records if record.name == "spoke"]
    assert spoke.value == "net.class == 'neighbouring' or net.p >= 0"


def test_zeros_in_the_signal_alarm_as_on_the_host(tmp_path: Path) -> None:
    text = HEAD + (
        'rate_hz = 500\n[[stage]]\nid = "z"\nuse = "anomaly.multiscale"\ninput = "accel.x"\n'
        "params = { holdoff = 50, resolution = 0.0001 }\n"
    )
    samples = [(1 + 0.01 * (i * 7 % 5), y, z) for i, (_, y, z) in enumerate(noise(1000))]
    zeroed = [(0.0, 0.0, 0.0) if 600 <= i < 603 else sample for i, sample in enumerate(samples)]
    judge = twin.detector("multiscale", holdoff=50, resolution=0.0001)
    values = [c[0] / 16384 for c in counts(zeroed)]
    expected = [i for i, (_, alarm) in enumerate(twin.feed(judge, values)) if alarm]
    assert 600 in expected
    recording = Recording(samples, faults=[Fault("zero", 600, 3)], end="stop")
    with running(recording, tmp_path, text) as (_, line):
        records = gather(line, "accel.error", 1)
    assert said(records, "z.sample") == expected
    assert said(records, "accel.error") == ["sensor.no_answer"]


def test_event_mode_lets_only_changes_through(tmp_path: Path) -> None:
    text = HEAD + 'rate_hz = 500\n[sampling]\nmode = "event"\nthreshold = 0.1\n[link.serial]\nevery_s = 0\n'
    levels = [0.0, 0.05, 0.08, 0.5, 0.55, 0.5, 0.0, -0.05, -0.2] * 20
    samples = [(x, 0.0, 1.0) for x in levels]
    gate = twin_gate(0.1)
    expected = [x for x in (c[0] / 16384 for c in counts(samples)) if gate.passes(x)]
    with running(Recording(samples), tmp_path, text) as (_, line):
        records = gather(line, "accel.x", len(expected))
        assert said(records, "accel.x") == pytest.approx(expected, abs=1e-6)
        assert NodeConnection(line).command("set", name="sampling.threshold", value=0.7) == 0.7


def twin_gate(threshold: float) -> Any:
    """The device's own change gate; `schedule` is pure, but not one of the twin's modules."""
    twin.module("anomaly")
    return importlib.import_module("_midge_device.schedule").ChangeGate(threshold)


def test_adaptive_mode_tightens_after_two_anomalies(tmp_path: Path) -> None:
    text = (
        HEAD
        + '[sampling]\nmode = "adaptive"\nnormal_s = 0.2\nalert_s = 0.02\n'
        + '[[stage]]\nid = "w"\nuse = "anomaly.window"\ninput = "accel.x"\n'
        + "params = { size = 100, warmup = 10, threshold = 2.5 }\n[link.serial]\nevery_s = 0\n"
    )
    quiet: list[Sample] = [(0.01 * (i % 3), 0.0, 1.0) for i in range(12)]
    samples = [*quiet, (1.0, 0.0, 1.0), (1.5, 0.0, 1.0), *quiet, *quiet]
    with running(Recording(samples), tmp_path, text) as (_, line):
        records = gather(line, "accel.x", 25)
        assert NodeConnection(line).command("set", name="sampling.alert_ms", value=30) == 30
    times = [record.t or 0 for record in records if record.name == "accel.x"]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert 150 < sorted(gaps[:12])[6] < 300  # ms, calm
    assert min(gaps[13:17]) < 100  # from the second anomaly on
    assert min(gaps[-3:]) > 150  # and back, half as long again each time


RUNNING = """
import json, time, sys
sys.path.insert(0, '/midge/a/lib')
import midge.node
from midge.errors import MidgeError
config = json.loads({config!r})
node = midge.node.Node(config)
def turn(ms):
    end = time.ticks_add(time.ticks_ms(), ms)
    while time.ticks_diff(end, time.ticks_ms()) > 0:
        node.turn()
"""


def on_board(samples: list[Sample], folder: Path, text: str, code: str) -> str:
    """What the code prints, in the place of the node that was deployed."""
    with running(Recording(samples), folder, text) as (_, line):
        config = line.get("/midge/a/node.json").decode()
        return line.exec(RUNNING.format(config=config) + code, timeout=30)


def packed(output: str) -> list[Record]:
    return [record for line in output.splitlines() for record in parse_pack(line)]


def test_a_stage_that_fails_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    code = """
node.open(config)
node.start()
def boom(sensor):
    raise ValueError('of all things')
node.stages[0].run = boom
turn(1500)
print()
print('END', node.values[0], node.values[6] in ('neighbouring', 'perpendicular', 'opposite'), list(node.monitor.errors))
node.close()
"""
    output = on_board(noise(3000), tmp_path, HEAD + WINDOWS, code)
    assert "END None True ['board.exception']" in output
    records = packed(output)
    failures = said(records, "swing.error")
    assert 2 <= len(failures) <= 6  # 22 windows or so: the 1st, 2nd, 4th, 8th and 16th
    assert set(failures) == {"board.exception"}
    assert len(said(records, "net.class")) > 5


def test_a_value_that_is_no_number_never_reaches_detector_or_model(tmp_path: Path) -> None:
    code = """
node.open(config)
sensor = node.sensors[0]
detector, net = node.stages[1], node.stages[2]
for bad in (float('nan'), float('inf'), -float('inf')):
    node.values[0] = node.values[1] = bad
    try:
        detector.run(sensor)
    except MidgeError as error:
        print(error.code)
    net._channels, net._vector, net._size = None, 0, 2
    try:
        net.run(sensor)
    except MidgeError as error:
        print(error.code)
node.close()
"""
    assert on_board(noise(10), tmp_path, HEAD + WINDOWS, code).split() == ["signal.not_finite"] * 6


def test_no_heap_for_the_model_disables_only_the_model(tmp_path: Path) -> None:
    code = """
open_stage = midge.node.stages.open
def open_with_a_full_heap(config, node):
    hog = []
    try:
        while config['use'] == 'inference':
            hog.append(bytearray(2048))
    except MemoryError:
        pass
    return open_stage(config, node)
midge.node.stages.open = open_with_a_full_heap
node.open(config)
node.start()
turn(1500)
print()
print('END', node.disabled, [stage.id for stage in node.stages])
node.close()
"""
    output = on_board(noise(3000), tmp_path, HEAD + WINDOWS, code)
    assert "END {'net': 'model.too_big'} ['swing', 'w']" in output
    records = packed(output)
    assert said(records, "net.error") == ["model.too_big"]
    assert len(said(records, "swing.x_std")) > 5


def test_watchdog_is_fed_while_the_node_works_and_bites_when_it_hangs(tmp_path: Path) -> None:
    text = HEAD.replace("schema = 1", "schema = 1\nwatchdog_ms = 1000") + WINDOWS
    with running(Recording(noise(100), end="loop"), tmp_path, text) as (board, line):
        gather(line, "net.class", 1)
        boots = len(board.boots)
        gather(line, "net.class", 12)  # 1.5 s of samples
        assert board.boots[boots:] == []
        line.exec("")  # ends the node, not its watchdog
        gather(line, "net.class", 1)
        assert board.boots[boots:] == ["watchdog"]
