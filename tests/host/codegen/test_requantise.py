"""The cheap requantise against the true one, at every reachable sum; mutants must be noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from midgehost.codegen import requantise
from midgehost.codegen.requantise import Channels, ClampFirst, MulHigh, Shape, Table
from midgehost.models.convert import load
from midgehost.models.ops.requantise import Requantise
from midgehost.models.quant import Ints, quantize_multiplier, wrap_int32
from midgehost.models.ranges import bounds

Line = MulHigh | Table | ClampFirst
Machine = Callable[[Ints], Ints]
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def machine(line: Line, low: int, high: int, zero_point: int) -> Machine:
    """What the kernel computes, in int32 that wraps where the docstring allows it and is checked where not."""

    def int32(x: Ints) -> Ints:
        assert (x == wrap_int32(x)).all()
        return x

    def bent(y: Ints) -> Ints:
        return int32(np.where(y >= line.pivot, y + line.delta, y))

    def mulhigh(raw: Ints) -> Ints:
        assert isinstance(line, MulHigh)
        y = wrap_int32(((int32(raw << line.pre) * int(int32(np.array(line.multiplier)))) >> 32) + line.addend)
        return np.clip(bent(y) >> line.post, low, high)

    def two_multiplies(raw: Ints) -> Ints:
        assert isinstance(line, Table | ClampFirst)
        return bent(wrap_int32(wrap_int32(raw * line.coarse) + line.addend + (int32(raw * line.fine) >> 12)))

    def table(raw: Ints) -> Ints:
        assert isinstance(line, Table)
        index = two_multiplies(raw) >> 19
        assert line.first <= index.min() and index.max() <= line.last
        return np.clip(index + zero_point, low, high)

    def clamp_first(raw: Ints) -> Ints:
        assert isinstance(line, ClampFirst)
        return two_multiplies(np.clip(raw, line.floor, line.top)) >> line.post

    return {MulHigh: mulhigh, Table: table, ClampFirst: clamp_first}[type(line)]


FITS = {"mulhigh": requantise.fit_mulhigh, "table": requantise.fit_table, "clamp_first": requantise.fit_clamp_first}


def differing(channels: Channels, row: int, line: Line) -> tuple[int, int]:
    """(sums at which the line is wrong, sums compared): every sum that the channel can reach."""
    raw = np.arange(channels.floors[row], channels.tops[row] + 1)
    got = machine(line, channels.low, channels.high, channels.zero_point)(raw)
    return int((got != channels.rows(slice(row, row + 1)).outputs(raw[None])[0]).sum()), len(raw)


def noticed(channels: Channels, row: int, line: Line) -> bool:
    try:
        return differing(channels, row, line)[0] > 0
    except AssertionError:  # an overflow, or an index outside of the table
        return True


def random_channels(rng: np.random.Generator, count: int) -> Channels:
    """Layers that no training gives: any slope, bias and activation range, all zero rows, single large weights."""
    zero_point = int(rng.choice([-128, 127, 0, rng.integers(-128, 128)]))
    low = int(rng.choice([-128, zero_point]))
    high = int(rng.choice([127, rng.integers(low, 128)]))
    weights = rng.integers(-128, 128, (count, int(rng.integers(1, 40))))
    weights[rng.random(weights.shape) < rng.random()] = 0
    weights[:: int(rng.integers(2, 9))] //= 32
    floors, tops = bounds(weights)
    steps = rng.uniform(-1, 7, count)  # log2 of how many outputs the sums would cross, over 256
    scales = 2.0**steps * 256 / np.maximum(tops - floors, 1)
    scales[rng.random(count) < 0.1] *= 2.0 ** rng.integers(-40, 20)
    parts = [quantize_multiplier(scale) for scale in scales]
    biases = np.rint((tops - floors) * rng.normal(0, 0.4, count)).astype(np.int64)
    biases[rng.random(count) < 0.05] = (1 << 30) + int(rng.integers(1 << 30))
    stage = Requantise([m for m, _ in parts], [s for _, s in parts], zero_point, low, high)
    return Channels.of(stage, biases, floors, tops)


def constants_hold(channels: Channels) -> int:
    """Checks every constant channel at every sum; their number."""
    rows = [row for row, value in enumerate(channels.constants) if value is not None]
    for row in rows:
        raw = np.arange(channels.floors[row], channels.tops[row] + 1)
        assert (channels.rows(slice(row, row + 1)).outputs(raw[None]) == channels.constants[row]).all()
    return len(rows)


@pytest.mark.parametrize("fit", FITS)
def test_random_channels_at_every_sum(fit: str) -> None:
    rng = np.random.default_rng(7)
    fitted = constants = live = 0
    for _ in range(12):
        channels = random_channels(rng, 12)
        constants += constants_hold(channels)
        live += sum(value is None for value in channels.constants)
        for row, line in enumerate(FITS[fit](channels)):
            if line is not None:
                assert channels.constants[row] is None
                assert differing(channels, row, line)[0] == 0
                fitted += 1
    assert constants > 10 and fitted > 0.5 * live, (constants, fitted, live)


@pytest.mark.parametrize(("model", "channels"), {"kws_ref_model": 588, "mnist_cnn_int8": 48}.items())
def test_every_live_channel_fits(models_dir: Path, model: str, channels: int) -> None:
    layers = [requantise.layer(node) for node in load(models_dir / f"{model}.tflite").nodes if node.kind in WEIGHTED]
    for fit in (requantise.fit_mulhigh, requantise.fit_clamp_first):
        assert sum(line is not None for layer in layers for line in fit(layer)) == channels
    shapes = [{(line.pre, line.post) for line in requantise.fit_mulhigh(layer) if line} for layer in layers]
    assert all(len(shape) == 1 for shape in shapes), "a layer has one pair of shifts"


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("model", "operator"), [("kws_ref_model", 11), ("mnist_cnn_int8", 2)])
def test_every_sum_of_a_layer(models_dir: Path, model: str, operator: int, fit: str) -> None:
    channels = requantise.layer(load(models_dir / f"{model}.tflite").nodes[operator])
    results = [differing(channels, row, line) for row, line in enumerate(FITS[fit](channels)[:4]) if line]
    assert sum(wrong for wrong, _ in results) == 0
    assert sum(compared for _, compared in results) > 100_000


@pytest.mark.parametrize("fit", FITS)
def test_mutants_are_noticed(models_dir: Path, fit: str) -> None:
    channels = requantise.layer(load(models_dir / "kws_ref_model.tflite").nodes[11])
    line = FITS[fit](channels)[0]
    assert line is not None and line.delta > 0
    step = 1 << line.post
    for mutant in (
        replace(line, addend=line.addend + step // 32),
        replace(line, addend=line.addend - step // 32),
        replace(line, multiplier=line.multiplier + (line.multiplier >> 12)),
        replace(line, multiplier=line.multiplier - (line.multiplier >> 12)),
        replace(line, delta=0),
        replace(line, delta=line.delta * 4),
        replace(line, pivot=line.pivot + step),
    ):
        assert noticed(channels, 0, mutant), mutant


def test_the_proof_sees_a_line_that_is_wrong_at_few_sums() -> None:
    """The proof agrees with brute force for addends that are nudged more and more."""
    channels = random_channels(np.random.default_rng(3), 8)
    row, line = next((row, line) for row, line in enumerate(requantise.fit_mulhigh(channels)) if line is not None)
    one, shape = channels.rows(slice(row, row + 1)), Shape(line.fraction, line.post, line.pivot)
    verdicts = set[bool]()
    for nudge in (1 << i for i in range(line.post)):
        mutant = replace(line, addend=line.addend + nudge)
        wrong, _ = differing(channels, row, mutant)
        values = (np.array([value]) for value in (mutant.multiplier, mutant.addend, mutant.delta))
        assert requantise.proved(one, one.steps, *values, shape)[0] == (wrong == 0), (nudge, wrong)
        verdicts.add(wrong == 0)
    assert verdicts == {False, True}


def test_a_channel_that_wraps_has_no_fit() -> None:
    stage = Requantise([1 << 30, 1 << 30, -(1 << 30)], [-8, 13, -8], 0)
    bias = np.array([(1 << 31) - 100, 0, 0])
    channels = Channels.of(stage, bias, np.full(3, -500_000), np.full(3, 500_000))
    assert not channels.monotone.any()
    assert channels.constants == [None] * 3
    for fit in FITS.values():
        assert fit(channels) == [None] * 3


@pytest.mark.soak
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("model", ["kws_ref_model", "mnist_cnn_int8", "pretrainedResnet_quant", "vww_96_int8"])
def test_soak_every_sum_of_eight_channels_a_layer(models_dir: Path, model: str, fit: str) -> None:
    for node in load(models_dir / f"{model}.tflite").nodes:
        if node.kind in WEIGHTED:
            channels = requantise.layer(node)
            for row, line in list(enumerate(FITS[fit](channels)))[:: -(-len(channels) // 8)]:
                assert line is None or differing(channels, row, line)[0] == 0, (node.index, row)


@pytest.mark.soak
@pytest.mark.parametrize("fit", FITS)
def test_soak_random_channels_at_every_sum(fit: str) -> None:
    rng = np.random.default_rng(11)
    for _ in range(200):
        channels = random_channels(rng, 16)
        constants_hold(channels)
        for row, line in enumerate(FITS[fit](channels)):
            assert line is None or differing(channels, row, line)[0] == 0
