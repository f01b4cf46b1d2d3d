"""The cheap requantise against the true one, at every reachable sum; mutants must be noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from midgehost.codegen import requantise
from midgehost.codegen.requantise import Channels, ClampFirst, MulHigh, Table
from midgehost.models.convert import load
from midgehost.models.quant import Ints, wrap_int32

Machine = Callable[[Ints], Ints]


def machine(line: MulHigh | Table | ClampFirst, low: int, high: int, zero_point: int) -> Machine:
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


def brute_force(channels: Channels, fit: str, rows: Ints) -> int:
    """Compares at every reachable sum of these channels; the number of sums compared."""
    lines, compared = FITS[fit](channels), 0
    for row in rows:
        line = lines[row]
        if line is None:
            continue
        raw = np.arange(channels.floors[row], channels.tops[row] + 1)
        one = slice_of(channels, int(row))
        got = machine(line, channels.low, channels.high, channels.zero_point)(raw)
        np.testing.assert_array_equal(got, one.outputs(raw[None])[0])
        compared += len(raw)
    return compared


def slice_of(channels: Channels, row: int) -> Channels:
    names = ("mantissas", "shifts", "biases", "floors", "tops")
    return replace(channels, **{name: getattr(channels, name)[row : row + 1] for name in names})


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("model", "operator"), [("kws_ref_model", 11), ("mnist_cnn_int8", 2)])
def test_every_reachable_sum_of_a_layer(models_dir: Path, model: str, operator: int, fit: str) -> None:
    node = load(models_dir / f"{model}.tflite").nodes[operator]
    channels = requantise.layer(node)
    assert brute_force(channels, fit, np.arange(min(4, len(channels)))) > 100_000
