"""Trains the fan model: three conditions of a fan from windows of raw acceleration, split by recording.

    python models/fan/train.py [--data FOLDER] [--quick]

Writes fan.tflite, model.toml and evaluation.md beside this file. Needs the extra `train`; five minutes on two cores.
Evaluation leaves out one speed (its three recordings) at a time: what is the model worth at a speed it never heard?
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from recordings import LABELS, SPEEDS, WINDOW, Recordings, drawn, read, windows
from report import card, evaluation

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf

HERE = Path(__file__).resolve().parent
PER_RECORDING = 120  # windows drawn from a recording for training
EPOCHS = 14
SEED = 7

Classify = Callable[[np.ndarray], np.ndarray]


def build() -> Any:
    """Three strided convolutions and the average of what they saw: 6 387 weights.

    No padding: beside gravity on the x axis, zeros at a window's ends would look like blows.
    """
    layers = tf.keras.layers
    regular = tf.keras.regularizers.l2(1e-4)
    source = tf.keras.Input((WINDOW, 3))
    x = layers.Reshape((WINDOW, 1, 3))(source)
    for channels, size in ((16, 9), (24, 5), (32, 5)):
        x = layers.Conv2D(channels, (size, 1), strides=(2, 1), kernel_regularizer=regular)(x)
        x = layers.BatchNormalization(epsilon=1e-5)(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(layers.AveragePooling2D((x.shape[1], 1))(x))
    x = layers.Dropout(0.3)(x)
    return tf.keras.Model(source, layers.Dense(len(LABELS), activation="softmax", kernel_regularizer=regular)(x))


def fit(recordings: Recordings, epochs: int) -> Any:
    """A model trained on these recordings."""
    tf.keras.utils.set_random_seed(SEED)
    x, y = drawn(recordings, PER_RECORDING, np.random.default_rng(SEED))
    model = build()
    rate = tf.keras.optimizers.schedules.CosineDecay(3e-3, epochs * math.ceil(len(x) / 64))
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def quantise(model: Any, recordings: Recordings) -> bytes:
    """Full int8, calibrated on windows of the training recordings; the clipped ones fix the input's scale at STEP."""
    samples, _ = drawn(recordings, 12, np.random.default_rng(SEED + 1))
    run = tf.function(lambda x: model(x, training=False))
    concrete = run.get_concrete_function(tf.TensorSpec([1, WINDOW, 3], tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def classifier(tflite: bytes) -> Classify:
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


def confusion(classify: Classify, recordings: Recordings) -> np.ndarray:
    """[true class, predicted class] counts of windows."""
    table = np.zeros((len(LABELS), len(LABELS)), int)
    for (label, _), values in recordings.items():
        np.add.at(table[label], classify(windows(values)), 1)
    return table


def hold_out(recordings: Recordings, speed: int, epochs: int = EPOCHS) -> np.ndarray:
    """The confusion matrix at a speed of an int8 model that never saw it, neither in training nor in calibration."""
    known = {key: values for key, values in recordings.items() if key[1] != speed}
    held = {key: values for key, values in recordings.items() if key[1] == speed}
    return confusion(classifier(quantise(fit(known, epochs), known)), held)


def main() -> None:
    """Trains, evaluates and writes."""
    parser = argparse.ArgumentParser()
    default = os.environ.get("MIDGE_DATA", HERE.parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="folder that holds vibration_fan/")
    parser.add_argument("--quick", action="store_true", help="one epoch, nothing written: does it run?")
    options = parser.parse_args()
    recordings = read(options.data)
    tflite = quantise(fit(recordings, 1 if options.quick else EPOCHS), recordings)
    own = confusion(classifier(tflite), recordings)
    print(f"{len(tflite):,} bytes; own recordings {np.trace(own)} of {own.sum()}", flush=True)
    if options.quick:
        return
    held_out = {}
    for speed in SPEEDS:
        held_out[speed] = hold_out(recordings, speed)
        print(f"held out {speed} %: {np.trace(held_out[speed])} of {held_out[speed].sum()}", flush=True)
    (HERE / "fan.tflite").write_bytes(tflite)
    (HERE / "model.toml").write_text(card(tflite, held_out, own))
    (HERE / "evaluation.md").write_text(evaluation(held_out, own))


if __name__ == "__main__":
    main()
