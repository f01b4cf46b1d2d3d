"""The shipped fan model: what its card claims, checked by TFLM's reference kernels on the shared recordings."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midgehost.models.convert import convert
from midgehost.nodes import compile_node

FAN = Path(__file__).resolve().parents[2] / "models" / "fan"
CARD = tomllib.loads((FAN / "model.toml").read_text())
METRICS = CARD["metrics"]
PER_G = 2048  # counts of the node's sensor at its +-16 g

Recordings = dict[tuple[int, int], Any]  # (class, speed) -> [samples, 3] in g


@pytest.fixture(scope="module")
def recordings(data_dir: Path) -> Recordings:
    rows: dict[tuple[int, int], list[list[float]]] = {}
    with (data_dir / "vibration_fan" / "accelerometer_give.csv").open() as file:
        for row in csv.DictReader(file):
            key = int(row["wconfid"]) - 1, int(row["pctid"])
            rows.setdefault(key, []).append([float(row[axis]) for axis in "xyz"])
    return {key: np.array(values) for key, values in rows.items()}


@pytest.fixture(scope="module")
def found(recordings: Recordings) -> list[tuple[int, int, int]]:
    """(truth, speed, class by TFLM) of every window, as a board would see it: in counts, then in the model's steps."""
    runtime = pytest.importorskip(
        "tflite_micro.python.tflite_micro.runtime", reason="the tflite-micro wheel exists for Linux x86-64 only"
    )
    model = runtime.Interpreter.from_file(str(FAN / "fan.tflite"))
    quantisation = model.get_input_details(0)["quantization_parameters"]
    scale, zero_point = quantisation["scales"][0], quantisation["zero_points"][0]
    window, hop = CARD["input"]["window"], CARD["input"]["hop"]
    seen = []
    for (label, speed), values in recordings.items():
        counts = np.clip(np.round(values * PER_G), -32768, 32767)
        x = counts / PER_G / scale
        q = np.clip(np.trunc(x + np.copysign(0.5, x)) + zero_point, -128, 127).astype(np.int8)
        for at in range(0, len(q) - window + 1, hop):
            model.set_input(q[None, at : at + window], 0)
            model.invoke()
            seen.append((label, speed, int(model.get_output(0).argmax())))
    return seen


def right(found: Sequence[tuple[int, int, int]], order: tuple[int, ...] = (0, 1, 2)) -> int:
    return sum(order[label] == said for label, _, said in found)


def test_card_names_this_file() -> None:
    data = (FAN / "fan.tflite").read_bytes()
    assert hashlib.sha256(data).hexdigest() == CARD["sha256"] and len(data) == CARD["bytes"]
    assert len(data) < 20_000


def test_labels_reach_the_bundle_and_the_node() -> None:
    bundle = convert(FAN / "fan.tflite")
    assert list(bundle.outputs[0].labels) == CARD["labels"] and bundle.outputs[0].shape == (1, len(CARD["labels"]))
    assert bundle.meta["arena_bytes"] < 4_000
    (net,) = [stage for stage in compile_node(FAN).config["stages"] if stage["use"] == "inference"]
    assert net["labels"] == CARD["labels"]


def test_the_node_samples_what_the_card_asks_for() -> None:
    config = compile_node(FAN).config
    (sensor,) = config["sensors"]
    assert (sensor["rate_hz"], sensor["unit"]) == (CARD["input"]["rate_hz"], CARD["input"]["unit"])
    assert (sensor["size"], sensor["hop"]) == (CARD["input"]["window"], CARD["input"]["hop"])
    assert 32768 / sensor["config"]["range"] == PER_G


def test_accuracy_on_its_own_recordings(found: list[tuple[int, int, int]]) -> None:
    assert len(found) == METRICS["own_recordings_windows"]
    assert abs(right(found) - METRICS["own_recordings_right"]) <= 12  # the sensor's counts move 1 window in 100 at most
    assert all(right(found, order) < right(found) / 2 for order in ((1, 2, 0), (2, 0, 1))), "labels in another order"


def test_it_tells_the_conditions_apart_where_the_card_says_so(found: list[tuple[int, int, int]]) -> None:
    fast = [window for window in found if window[1] >= 40]
    assert len(fast) == METRICS["from_40_percent_windows"]
    assert right(fast) >= METRICS["from_40_percent_right"], "known recordings cannot be harder than unknown ones"
    slow = [window for window in found if window[1] < 40]
    assert right(slow) < len(slow) / 2, "better than the card says: correct its `wrong_when`"


def test_excerpt_is_cut_from_the_recordings(recordings: Recordings) -> None:
    with (FAN / "data" / "demo.csv").open() as file:
        shipped = np.array([[float(row[axis]) for axis in "xyz"] for row in csv.DictReader(file)])
    unbalanced, balanced = recordings[0, 60], recordings[2, 60]
    np.testing.assert_array_equal(shipped, np.concatenate([balanced[:1100], unbalanced[:800], balanced[1100:1700]]))


@pytest.mark.soak
@pytest.mark.skipif(find_spec("tensorflow") is None, reason="no tensorflow: pip install -e '.[train]'")
def test_a_model_trained_without_a_speed_knows_it(data_dir: Path) -> None:
    code = (
        "import pathlib, sys, train; recordings = train.read(pathlib.Path(sys.argv[1]));"
        "table = train.hold_out(recordings, 60); print(table.trace(), table.sum())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(data_dir)], cwd=FAN, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    hits, count = map(int, done.stdout.splitlines()[-1].split())
    print(f"held out 60 %: {hits} of {count}")
    assert count == 135 and hits >= 122
