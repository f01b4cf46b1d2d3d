"""A node on a virtual board: alarms where the host's twin has them, and nothing takes it down."""

from __future__ import annotations

from pathlib import Path

import pytest

from midgehost import connect, twin
from midgehost.deploy.connection import CommandError, NodeConnection
from midgehost.deploy.node_folder import build_payload
from midgehost.deploy.probe import probe
from midgehost.deploy.protocol import deploy
from midgehost.deploy.transport import SerialTransport
from midgehost.records import Record
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.sensors import Fault, Mpu6050, Recording

NODE = """
schema = 1
name = "n"
board = "virtual"
[sensor.accel]
driver = "mpu6050"
bus = { i2c = 0, sda = 4, scl = 5 }
channels = ["x", "y", "z"]
unit = "g"
rate_hz = 500
stuck_after = 100
[sampling]
mode = "batch"
window = 20
[[stage]]
id = "z"
use = "anomaly.multiscale"
input = "accel.x"
params = { holdoff = 100, resolution = 0.001 }
[[action]]
when = "z.alarm"
do = [{ gpio = 15, value = 1, for_ms = 50 }, { record = "alert" }]
[monitor]
interval_s = 1
[update]
confirm_s = 0.1
"""
SAMPLES = [(0.1 + (i * 7919 % 101) / 1000, 0.0, 1.0) for i in range(1200)]
SPIKES = (500, 760, 1010)


def spiked() -> list[tuple[float, ...]]:
    samples: list[tuple[float, ...]] = list(SAMPLES)
    for i in SPIKES:
        samples[i] = (1.7, 0.0, 1.0)
    return samples


def start(board: VirtualBoard, folder: Path, text: str = NODE) -> SerialTransport:
    (folder / "node.toml").write_text(text)
    line = SerialTransport(board.path)
    info = probe(line)
    deploy(line, info, build_payload(folder, info))
    return line


def gather(line: SerialTransport, seconds: float) -> list[Record]:
    return list(NodeConnection(line).records(timeout=seconds))


def pulses(board: VirtualBoard) -> int:
    return sum(level for _, level in board.pins.history(15))


def test_alarms_fall_where_the_twin_has_them(tmp_path: Path) -> None:
    recording = Recording(spiked(), end="stop")
    counts = [round(x * 16384) for x, _, _ in spiked()]
    judge = twin.detector("multiscale", holdoff=100, resolution=0.001)
    expected = [i for i, (_, alarm) in enumerate(twin.feed(judge, [c / 16384 for c in counts])) if alarm]
    assert set(SPIKES) <= set(expected)
    with VirtualBoard(sensors=[Mpu6050(recording)]) as board, start(board, tmp_path) as line:
        line.exec("")  # ends the node
        before = pulses(board)
        recording.rewind()
        line.reset()
        records = gather(line, 5)
        assert [r.value for r in records if r.name == "z.sample"] == expected
        assert sum(r.name == "alert" for r in records) == len(expected)
        assert pulses(board) - before == len(expected)
        assert any(r.name == "accel.error" and r.value == "sensor.no_answer" for r in records)


def test_sensor_failure_is_reported_and_over(tmp_path: Path) -> None:
    recording = Recording(SAMPLES, end="loop", faults=[Fault("silent", 300, 600)])
    with VirtualBoard(sensors=[Mpu6050(recording)]) as board, start(board, tmp_path) as line:
        errors = [r.value for r in gather(line, 6) if r.name == "accel.error"]
        status = NodeConnection(line).command("status")
    assert errors[0] == "sensor.no_answer"
    assert status["sensors"]["accel"]["state"] in ("running", "silent") and status["running"]


def test_stuck_sensor_is_reported(tmp_path: Path) -> None:
    recording = Recording(SAMPLES, end="loop", faults=[Fault("stuck", 200, 400)])
    with VirtualBoard(sensors=[Mpu6050(recording)]) as board, start(board, tmp_path) as line:
        assert "sensor.stuck" in [r.value for r in gather(line, 3) if r.name == "accel.error"]


def test_commands_and_garbage(tmp_path: Path) -> None:
    with VirtualBoard(sensors=[Mpu6050(Recording(SAMPLES, end="loop"))]) as board, start(board, tmp_path) as line:
        node = NodeConnection(line)
        assert node.command("get", name="z.holdoff") == 100
        assert node.command("set", name="z.holdoff", value=50) == 50
        assert node.command("get", name="z.holdoff") == 50
        for name, fields, code in (
            ("set", {"name": "z.nothing", "value": 1}, "link.unknown_setting"),
            ("set", {"name": "z.holdoff", "value": "x"}, "link.bad_value"),
            ("dance", {}, "link.bad_command"),
        ):
            with pytest.raises(CommandError) as refused:
                node.command(name, **fields)
            assert refused.value.remote_code == code
        line.write(b"\x00\xff garbage {]\n" + b"x" * 3000 + b'\n{"cmd":\n')
        assert node.command("stop") is True
        assert node.command("status")["running"] is False
        assert node.command("start") is True
        assert node.command("status")["running"] is True


def test_ctrl_c_gives_the_repl_back(tmp_path: Path) -> None:
    with VirtualBoard(sensors=[Mpu6050(Recording(spiked(), end="loop"))]) as board, start(board, tmp_path) as line:
        gather(line, 1)
        assert line.exec("print('repl')") == "repl\n"
        assert board.pins[15] == 0


def test_api_invokes_a_model() -> None:
    import numpy as np

    from conftest import FAN
    from midgehost.models import reference
    from midgehost.models.convert import load

    graph = load(FAN / "fan.tflite")
    x = np.random.default_rng(1).integers(-128, 128, graph.tensors[graph.inputs[0]].shape, np.int8)
    with connect("virtual") as board:
        (got,) = board.invoke(x, model=FAN / "fan.tflite")
    np.testing.assert_array_equal(got, reference.run(graph, [x])[0])
