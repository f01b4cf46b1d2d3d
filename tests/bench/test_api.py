"""The Python API: one board, code and models on it, a running node's records and commands."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from slot_state import quick

import midgehost
from conftest import FAN
from midgehost.deploy.node_folder import build_payload, bundle_of
from midgehost.deploy.protocol import deploy
from midgehost.errors import DataError, NotFound, Timeout
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.sensors import Mpu6050, Recording


def test_a_virtual_board_lives_as_long_as_its_connection() -> None:
    with midgehost.connect("virtual") as board:
        assert board.exec("print(1 + 1)") == "2\n"
        assert board.info.implementation == "micropython"
        assert board.info.arch == "x64"
        assert board.info.fs_free > 500_000
    with midgehost.connect("virtual", heap="512k") as board:
        assert board.info.heap_free > 450_000
    with pytest.raises(NotFound):
        midgehost.connect("/dev/ttyNONE")


def test_models_take_turns(tmp_path: Path) -> None:
    right = bundle_of(FAN / "fan.tflite")
    tile = bytes(byte ^ 0xFF for byte in right.tiles[-1])  # every weight of the last layer negated: another class wins
    other = tmp_path / "other.midge"
    other.write_bytes(dataclasses.replace(right, tiles=(*right.tiles[:-1], tile)).encode())
    vector = right.tests[0]
    given = np.frombuffer(vector.inputs[0], np.int8).reshape(right.inputs[0].shape)
    want = np.frombuffer(vector.outputs[0], np.int8).reshape(right.outputs[0].shape)
    with midgehost.connect("virtual") as board:
        (first,) = board.invoke(given, model=FAN / "fan.tflite")
        (second,) = board.invoke(given, model=other)
        (third,) = board.invoke(given, model=FAN / "fan.tflite", kernels="portable")
        np.testing.assert_array_equal(first, want)
        np.testing.assert_array_equal(third, want)
        assert (first.dtype, first.shape) == (np.int8, right.outputs[0].shape)
        assert (second != want).any()
        with pytest.raises(DataError, match="the model takes int8"):
            board.invoke(given.astype(np.float32), model=FAN / "fan.tflite")


def test_a_running_node() -> None:
    sensor = Mpu6050(Recording([(0.1, 0.2, 1.0)], end="loop"))
    with VirtualBoard(sensors=[sensor]) as virtual, midgehost.connect(virtual.path) as board:
        deploy(board.transport, board.info, quick(build_payload(FAN, board.info)))
        found = {}
        end = time.monotonic() + 20
        while not {"accel.x", "sys.heap"} <= found.keys():
            assert time.monotonic() < end, sorted(found)
            found |= {record.name: record for record in board.records(timeout=0.5)}
        assert (found["accel.x"].node, found["accel.x"].unit) == ("fan", "g")
        assert found["accel.x"].value == pytest.approx(0.1, abs=0.001)
        assert board.command("status")["node"] == "fan"
        assert board.command("set", name="monitor.interval_s", value=1) == 1
        with pytest.raises(Timeout):
            board.command("status", timeout=0.0)


def test_importing_it_is_cheap() -> None:
    heavy = ("numpy", "rich", "serial", "mpremote", "typer")
    code = f"import sys, midgehost; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
