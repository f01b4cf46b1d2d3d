"""The fan's recordings: reading them, cutting windows, and drawing training windows that no recorded speed has.

A recording is one condition at one speed: 3 000 samples of x, y, z in g. Everything splits by recording, never by row.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

LABELS = ("neighbouring", "perpendicular", "opposite")  # where two weights sit, wconfid 1, 2, 3; see model.toml
SPEEDS = tuple(range(20, 101, 10))  # per cent of full speed
WINDOW, HOP = 128, 64  # samples; 2.56 s and 1.28 s at the source's 50 Hz

# The int8 input: 8 mg a step around gravity. Slow fans swing by 20 to 80 mg; fast ones are
# clipped, which tells as much.
STEP = 0.008
LOWEST, HIGHEST = -63 * STEP, 192 * STEP  # g

# How the fan's frequency follows its speed setting, from the recordings' spectral peaks (7.6 Hz at 40 %, 14.3 at 90 %).
_FREQUENCY_EXPONENT = 0.75

Recordings = dict[tuple[int, int], np.ndarray]  # (class, speed) -> [samples, 3] in g


def read(folder: Path) -> Recordings:
    """The recordings below the shared data folder."""
    rows: dict[tuple[int, int], list[list[float]]] = {}
    with (folder / "vibration_fan" / "accelerometer_give.csv").open() as file:
        for row in csv.DictReader(file):
            key = int(row["wconfid"]) - 1, int(row["pctid"])
            rows.setdefault(key, []).append([float(row[axis]) for axis in "xyz"])
    return {key: np.array(values, np.float32) for key, values in rows.items()}


def windows(recording: np.ndarray) -> np.ndarray:
    """[n, WINDOW, 3] in g, overlapping by half."""
    return np.stack([recording[i : i + WINDOW] for i in range(0, len(recording) - WINDOW + 1, HOP)])


def as_the_input_sees(x: np.ndarray) -> np.ndarray:
    """x in g, clipped and rounded to the steps of the int8 input."""
    return np.clip(np.round(x / STEP) * STEP, LOWEST, HIGHEST).astype(np.float32)


def drawn(recordings: Recordings, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`count` training windows a recording, [n, WINDOW, 3] as the input sees them, and their classes.

    Seven in ten lie between two neighbouring speeds of the same condition: each recording is stretched to the speed
    between, then both are mixed. The swing varies by 15 %, the rate by 3 %, the sensor's mount by 50 mg an axis.
    """
    x, y = [], []
    for label in range(len(LABELS)):
        speeds = sorted(speed for found, speed in recordings if found == label)
        for i, speed in enumerate(speeds):
            near = speeds[max(i - 1, 0) : i] + speeds[i + 1 : i + 2]
            for _ in range(count):
                other = near[rng.integers(len(near))]
                share = rng.random() if rng.random() < 0.7 else 1.0
                x.append(_between(recordings[label, speed], recordings[label, other], speed, other, share, rng))
                y.append(label)
    return as_the_input_sees(np.stack(x)), np.array(y)


def _between(
    one: np.ndarray, other: np.ndarray, speed: int, other_speed: int, share: float, rng: np.random.Generator
) -> np.ndarray:
    """A window as at `share` of the one's speed and the rest of the other's."""
    target = share * speed + (1 - share) * other_speed
    wobble = 1 + rng.uniform(-0.03, 0.03)
    swing, mean = np.zeros((WINDOW, 3)), np.zeros(3)
    for recording, of, part in ((one, speed, share), (other, other_speed, 1 - share)):
        piece = _stretched(recording, wobble * (target / of) ** _FREQUENCY_EXPONENT, rng)
        swing += part * (piece - piece.mean(axis=0))
        mean += part * piece.mean(axis=0)
    return swing * (1 + rng.uniform(-0.15, 0.15)) + mean + rng.uniform(-0.05, 0.05, 3)


def _stretched(recording: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """WINDOW samples from anywhere in the recording, played `ratio` times as fast; linear between samples."""
    length = math.ceil((WINDOW - 1) * ratio) + 2
    start = rng.integers(0, len(recording) - length)
    at = start + np.arange(WINDOW) * ratio
    before = at.astype(int)
    part = (at - before)[:, None]
    return recording[before] * (1 - part) + recording[before + 1] * part
