"""Trains the fan model: three conditions of a fan from windows of raw acceleration, split by recording.

    python models/fan/train.py [--data FOLDER] [--quick]

Writes fan.tflite, model.toml and evaluation.md beside this file. Needs the extra `train`; five minutes on two cores.
A recording is one condition at one speed: evaluation leaves out one speed (three recordings) at a time, never rows.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf

HERE = Path(__file__).resolve().parent
LABELS = ("normal", "perpendicular", "opposite")  # where the weights sit on the blades: none, side by side, opposed
SPEEDS = tuple(range(20, 101, 10))  # per cent of full speed
WINDOW, HOP = 128, 64  # samples; 2.56 s at the source's 50 Hz
PER_RECORDING = 160  # windows drawn from a recording for training
EPOCHS = 24
SEED = 7

Recordings = dict[tuple[int, int], np.ndarray]  # (class, speed) -> [samples, 3] in g


def read(folder: Path) -> Recordings:
    """The recordings, x, y, z in g."""
    rows: dict[tuple[int, int], list[list[float]]] = {}
    with (folder / "vibration_fan" / "accelerometer_give.csv").open() as file:
        for row in csv.DictReader(file):
            key = int(row["wconfid"]) - 1, int(row["pctid"])
            rows.setdefault(key, []).append([float(row[axis]) for axis in "xyz"])
    return {key: np.array(values, np.float32) for key, values in rows.items()}


def windows(recording: np.ndarray) -> np.ndarray:
    """[n, WINDOW, 3], overlapping by half."""
    return np.stack([recording[i : i + WINDOW] for i in range(0, len(recording) - WINDOW + 1, HOP)])


def drawn(recording: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Training windows: any start, a speed up to 8 % off, 15 % more or less swing, a mount that is not quite level."""
    out = np.empty((count, WINDOW, 3), np.float32)
    for i in range(count):
        length = int(WINDOW * (1 + rng.uniform(-0.08, 0.08))) + 1
        start = rng.integers(0, len(recording) - length)
        at = np.linspace(0, length - 1, WINDOW)
        piece = recording[start : start + length]
        window = np.stack([np.interp(at, np.arange(length), piece[:, axis]) for axis in range(3)], axis=1)
        mean = window.mean(axis=0)
        out[i] = (window - mean) * (1 + rng.uniform(-0.15, 0.15)) + mean + rng.uniform(-0.04, 0.04, 3)
    return out


def build() -> Any:
    """Three strided convolutions, then what they saw on average and at most. About 5 000 weights."""
    layers = tf.keras.layers
    regular = tf.keras.regularizers.l2(1e-4)
    source = tf.keras.Input((WINDOW, 3))
    x = layers.Reshape((WINDOW, 1, 3))(source)
    for channels, size in ((12, 9), (16, 5), (24, 5)):
        x = layers.Conv2D(channels, (size, 1), strides=(2, 1), padding="same", kernel_regularizer=regular)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    length = WINDOW // 8
    seen = layers.Concatenate()([layers.AveragePooling2D((length, 1))(x), layers.MaxPooling2D((length, 1))(x)])
    seen = layers.Dropout(0.3)(layers.Flatten()(seen))
    return tf.keras.Model(source, layers.Dense(3, activation="softmax", kernel_regularizer=regular)(seen))


def fit(recordings: Recordings, epochs: int) -> Any:
    """A model trained on these recordings."""
    rng = np.random.default_rng(SEED)
    tf.keras.utils.set_random_seed(SEED)
    x = np.concatenate([drawn(values, PER_RECORDING, rng) for values in recordings.values()])
    y = np.repeat([label for label, _ in recordings], PER_RECORDING)
    model = build()
    rate = tf.keras.optimizers.schedules.CosineDecay(3e-3, epochs * math.ceil(len(x) / 64))
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def quantise(model: Any, recordings: Recordings) -> bytes:
    """Full int8, calibrated on windows of the training recordings."""
    rng = np.random.default_rng(SEED)
    samples = np.concatenate([drawn(values, 12, rng) for values in recordings.values()])
    run = tf.function(lambda x: model(x, training=False))
    concrete = run.get_concrete_function(tf.TensorSpec([1, WINDOW, 3], tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def classifier(tflite: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Classes of windows in g, through the int8 model (LiteRT's reference kernels)."""
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_REF
    interpreter = tf.lite.Interpreter(model_content=tflite, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = source["quantization"]

    def classify(x: np.ndarray) -> np.ndarray:
        found = []
        for window in np.clip(np.round(x / scale) + zero_point, -128, 127).astype(np.int8):
            interpreter.set_tensor(source["index"], window[None])
            interpreter.invoke()
            found.append(int(interpreter.get_tensor(target["index"]).argmax()))
        return np.array(found)

    return classify


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return middle - half, middle + half


def confusion(classify: Callable[[np.ndarray], np.ndarray], recordings: Recordings) -> np.ndarray:
    """[true class, predicted class] counts of windows."""
    table = np.zeros((3, 3), int)
    for (label, _), values in recordings.items():
        np.add.at(table[label], classify(windows(values)), 1)
    return table


def leave_one_speed_out(recordings: Recordings, epochs: int) -> dict[int, np.ndarray]:
    """For each speed the confusion matrix of an int8 model that never saw it."""
    found = {}
    for speed in SPEEDS:
        train = {key: values for key, values in recordings.items() if key[1] != speed}
        held = {key: values for key, values in recordings.items() if key[1] == speed}
        found[speed] = confusion(classifier(quantise(fit(train, epochs), train)), held)
        print(f"held out {speed} %: {np.trace(found[speed])} of {found[speed].sum()}", flush=True)
    return found


def evaluation(tables: dict[int, np.ndarray], known: np.ndarray) -> str:
    """The evaluation page."""
    total = sum(tables.values())
    hits, count = int(np.trace(total)), int(total.sum())
    low, high = wilson(hits, count)
    lines = [
        "# Fan model: evaluation",
        "",
        "One speed (three recordings of 3 000 samples) is left out of training and calibration at a time; the int8",
        f"model then classifies its {int(tables[SPEEDS[0]].sum())} windows of {WINDOW} samples (hop {HOP}:",
        "neighbours share half of their samples, so the intervals are narrower than independent windows would give).",
        "",
        "| held-out speed | right | windows | share | 95 % (Wilson) |",
        "|---|---|---|---|---|",
    ]
    for speed, table in tables.items():
        right, of = int(np.trace(table)), int(table.sum())
        bottom, top = wilson(right, of)
        lines.append(f"| {speed} % | {right} | {of} | {right / of:.3f} | {bottom:.3f} to {top:.3f} |")
    lines += [
        f"| **all** | **{hits}** | **{count}** | **{hits / count:.3f}** | {low:.3f} to {high:.3f} |",
        "",
        "Confusion over all held-out speeds (rows: truth):",
        "",
        f"| | {' | '.join(LABELS)} |",
        "|---|---|---|---|",
        *(f"| {LABELS[i]} | {' | '.join(str(n) for n in total[i])} |" for i in range(3)),
        "",
        f"The shipped model is trained on all nine speeds; on those recordings themselves it gets {np.trace(known)} of",
        f"{known.sum()} windows, which says nothing about new ones. The end speeds (20 % and 100 %) are extrapolated",
        "when held out; between known speeds expect the share of the inner rows.",
        "",
    ]
    return "\n".join(lines)


def card(tflite: bytes, tables: dict[int, np.ndarray], known: np.ndarray) -> str:
    """The model card, model.toml."""
    total = sum(tables.values())
    hits, count = int(np.trace(total)), int(total.sum())
    low, high = wilson(hits, count)
    return f'''# The fan model's card. midge reads `version` and `labels`; the rest is for people. Written by train.py.
version = "1"
labels = ["normal", "perpendicular", "opposite"]

title = "Fan condition from vibration"
file = "fan.tflite"
sha256 = "{hashlib.sha256(tflite).hexdigest()}"
bytes = {len(tflite)}

[input]
what = "{WINDOW} samples of x, y, z acceleration, interleaved by sample"
unit = "g"
rate_hz = 50            # the source's claim (one sample every 20 ms)
window = {WINDOW}
hop = {HOP}

[data]
source = "UCI Machine Learning Repository 846, Accelerometer (doi 10.24432/C5Q61V)"
licence = "CC-BY-4.0"
split = "by recording: one speed (three recordings) held out at a time"

[metrics]               # int8 model, windows of held-out speeds; tables in evaluation.md
held_out_right = {hits}
held_out_windows = {count}
held_out_share = {hits / count:.4f}
held_out_95 = [{low:.4f}, {high:.4f}]
own_recordings_right = {int(np.trace(known))}
own_recordings_windows = {int(known.sum())}

[use]
intended = "a demonstration of vibration monitoring on one fan: no weights, weights side by side, weights opposed"
wrong_when = [
    "the fan, its mount or the sensor's orientation is another one: there was one of each",
    "the rate is not 50 Hz, or the unit is not g",
    "the fan runs below 30 %: the swing is close to one step of the int8 input",
    "a condition that is none of the three: it will be called one of them",
]
'''


def main() -> None:
    """Trains, evaluates and writes."""
    parser = argparse.ArgumentParser()
    default = os.environ.get("MIDGE_DATA", HERE.parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="folder that holds vibration_fan/")
    parser.add_argument("--quick", action="store_true", help="one epoch, nothing written: does it run?")
    options = parser.parse_args()
    epochs = 1 if options.quick else EPOCHS
    recordings = read(options.data)
    tflite = quantise(fit(recordings, epochs), recordings)
    known = confusion(classifier(tflite), recordings)
    print(f"{len(tflite):,} bytes; own recordings {np.trace(known)} of {known.sum()}")
    if options.quick:
        return
    tables = leave_one_speed_out(recordings, epochs)
    (HERE / "fan.tflite").write_bytes(tflite)
    (HERE / "model.toml").write_text(card(tflite, tables, known))
    (HERE / "evaluation.md").write_text(evaluation(tables, known))


if __name__ == "__main__":
    main()
