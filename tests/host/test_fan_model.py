"""The shipped fan model: what its card claims, checked by TFLM on the shared recordings."""

from __future__ import annotations

import csv
import hashlib
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midgehost.models import reference
from midgehost.models.convert import convert, load
from midgehost.nodes import compile_node

FAN = Path(__file__).resolve().parents[2] / "models" / "fan"
CARD = tomllib.loads((FAN / "model.toml").read_text())


@pytest.fixture(scope="module")
def recordings(data_dir: Path) -> dict[tuple[int, int], Any]:
    """(class, speed) -> [samples, 3] in g."""
    rows: dict[tuple[int, int], list[list[float]]] = {}
    with (data_dir / "vibration_fan" / "accelerometer_give.csv").open() as file:
        for row in csv.DictReader(file):
            key = int(row["wconfid"]) - 1, int(row["pctid"])
            rows.setdefault(key, []).append([float(row[axis]) for axis in "xyz"])
    return {key: np.array(values) for key, values in rows.items()}


def test_card_names_this_file() -> None:
    data = (FAN / "fan.tflite").read_bytes()
    assert hashlib.sha256(data).hexdigest() == CARD["sha256"] and len(data) == CARD["bytes"]


def test_labels_reach_the_bundle_and_the_node() -> None:
    assert list(convert(FAN / "fan.tflite").outputs[0].labels) == CARD["labels"]
    (net,) = [stage for stage in compile_node(FAN).config["stages"] if stage["use"] == "inference"]
    assert net["labels"] == CARD["labels"]


def right(recordings: dict[tuple[int, int], Any], order: tuple[int, ...] = (0, 1, 2)) -> tuple[int, int]:
    """(windows classified as truth says, windows), by the exact reference."""
    graph = load(FAN / "fan.tflite")
    source = graph.tensors[graph.inputs[0]]
    window, hop = CARD["input"]["window"], CARD["input"]["hop"]
    hits = count = 0
    for (label, _), values in sorted(recordings.items())[::3]:
        for at in range(0, len(values) - window + 1, hop):
            x = np.floor(np.abs(values[at : at + window] / source.scale) + 0.5) * np.sign(values[at : at + window])
            q = np.clip(x + source.zero_point, -128, 127).astype(np.int8).reshape(source.shape)
            hits += int(reference.run(graph, [q])[0].argmax()) == order[label]
            count += 1
    return hits, count


def test_accuracy_on_its_own_recordings(recordings: dict[tuple[int, int], Any]) -> None:
    hits, count = right(recordings)
    claimed = CARD["metrics"]["own_recordings_right"] / CARD["metrics"]["own_recordings_windows"]
    assert abs(hits / count - claimed) < 0.1
    wrong, _ = right(recordings, (1, 2, 0))
    assert wrong < hits / 2, "shuffled labels must not do as well"


def test_excerpt_is_cut_from_the_recordings(recordings: dict[tuple[int, int], Any]) -> None:
    with (FAN / "data" / "demo.csv").open() as file:
        shipped = np.array([[float(row[axis]) for axis in "xyz"] for row in csv.DictReader(file)])
    normal, opposite = recordings[0, 60], recordings[2, 60]
    np.testing.assert_array_equal(shipped, np.concatenate([normal[:1100], opposite[:800], normal[1100:1700]]))
