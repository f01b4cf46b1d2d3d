"""The FFT on machine code: integers as the device's Python, magnitudes as single precision."""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from emulated_device import emulated

from midgehost import twin
from midgehost.codegen.kernels import LOWERINGS


@pytest.fixture(autouse=True)
def _emulators() -> None:
    pytest.importorskip("unicorn")


def windows(points: int) -> dict[str, np.ndarray]:
    """Samples of three interleaved channels."""
    rng = np.random.default_rng(points)
    i = np.arange(3 * points)
    return {
        "noise": rng.integers(-32768, 32768, 3 * points),
        "sine": np.round(1000 * np.sin(0.7 * i) + 37),
        "one count": rng.integers(-1, 2, 3 * points),
        "flat": np.full(3 * points, 77),
        "full scale": np.where(i % 2, 32767, -32768),
        "impulse": np.where(i == 7, 1, 0),
    }


def magnitudes(spectrum: Any, buf: array[int], start: int, stride: int) -> np.ndarray:
    """What Spectrum.transform computes, each operation in single precision."""
    scale = spectrum._load(buf, start, stride)
    re, im, n = spectrum._re, spectrum._im, len(spectrum._re)
    found = np.zeros(n + 1, np.float32)
    if scale == 0:
        return found
    half = 1
    while half < n:
        spectrum._butterflies(half)
        half *= 2
        scale *= spectrum._fit()
    unit = np.float32(scale * np.float32(spectrum._amplitude))
    found[0] = np.float32(abs(re[0] + im[0])) * unit / np.float32(2)
    found[n] = np.float32(abs(re[0] - im[0])) * unit / np.float32(2)
    for k in range(1, n):
        m, c, s = n - k, spectrum._cos[k], spectrum._sin[k]
        x, y = im[k] + im[m] + 1 >> 1, re[m] - re[k] + 1 >> 1
        u = (re[k] + re[m] + 1 >> 1) + (x * c + y * s + 8192 >> 14)
        v = (im[k] - im[m] + 1 >> 1) + (y * c - x * s + 8192 >> 14)
        a, b = np.float32(u) * unit, np.float32(v) * unit
        found[k] = np.sqrt(a * a + b * b)
    return found


def check(arch: str, points: int, window: str) -> list[int]:
    """Every bin of every case; returns what each call took."""
    plain = twin.module("fft").Spectrum(points, window)
    with emulated(arch) as device:
        spectrum = device.module("fft").Spectrum(points, window)
        for name, values in windows(points).items():
            buf = array("h", [int(v) for v in values])
            spectrum.transform(buf, 1, 3)
            assert (np.array(spectrum.magnitude, np.float32) == magnitudes(plain, buf, 1, 3)).all(), name
            assert list(spectrum._re) == list(plain._re) or name == "flat"
            plain.transform(buf, 1, 3)
            assert list(spectrum.magnitude) == pytest.approx(list(plain.magnitude), rel=2e-7)
        with pytest.raises(IndexError):
            spectrum.transform(buf, 3, 3)
        return device.counts


@pytest.mark.parametrize("window", ["hann", "rectangular"])
@pytest.mark.parametrize("arch", LOWERINGS)
def test_every_bin_is_that_of_single_precision(arch: str, window: str) -> None:
    check(arch, 64, window)


@pytest.mark.soak
@pytest.mark.parametrize("points", [128, 256, 512, 1024])
@pytest.mark.parametrize("arch", LOWERINGS)
def test_every_length_is_that_of_single_precision(arch: str, points: int) -> None:
    for window in ("hann", "hamming", "rectangular"):
        check(arch, points, window)


def test_no_call_takes_long() -> None:
    """Cycles of a Cortex-M0+: 256 points within 1.5 ms at 125 MHz, no call of 1024 points beyond 5 ms."""
    counts = check("armv6m", 256, "hann")
    assert max(a + b for a, b in pairwise(counts)) < 187_500
    assert max(check("armv6m", 1024, "hann")) < 625_000
