"""Features and the integer FFT against numpy in double precision, within the bounds that the device files state."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midgehost import twin

ALL = ["mean", "std", "max", "rms", "ptp", "crest", "kurtosis", "zero_crossings", "peak_hz", "peak_magnitude"]
WINDOWS = {"rectangular": 1.0, "hann": 0.5, "hamming": 0.54}
SIZES = (64, 128, 256, 512, 1024)


def weights(name: str, points: int) -> np.ndarray:
    a = WINDOWS[name]
    return a - (1 - a) * np.cos(2 * np.pi * np.arange(points) / points)


def amplitudes(x: np.ndarray, window: str) -> np.ndarray:
    """The spectrum that fft.py promises: by bin, the amplitude of a sine."""
    w = weights(window, len(x))
    spectrum = np.abs(np.fft.rfft((x - x.mean()) * w)) * 2 / w.sum()
    spectrum[[0, -1]] /= 2
    return spectrum


def band(x: np.ndarray, window: str, first: int, stop: int) -> float:
    """Mean square of the bins first..stop-1, by Parseval."""
    w = weights(window, len(x))
    power = np.abs(np.fft.rfft((x - x.mean()) * w)) ** 2 / (len(x) * (w**2).sum())
    power[1:-1] *= 2
    return float(power[first:stop].sum())


def signals(n: int) -> dict[str, np.ndarray]:
    """Windows that break careless integer code, and ordinary ones."""
    rng = np.random.default_rng(n)
    t = np.arange(n)
    return {
        "silence": np.zeros(n),
        "dc": np.full(n, 12345),
        "all lowest": np.full(n, -32768),
        "all highest": np.full(n, 32767),
        "square": np.where(t % 16 < 8, 32767, -32768),
        "nyquist": np.where(t % 2, 32767, -32768),
        "quarter rate": np.where(t % 4 < 2, 32767, -32768),
        "step": np.where(t < n // 2, -32768, 32767),
        "ramp": np.linspace(-32768, 32767, n).round(),
        "white": rng.integers(-32768, 32768, n),
        "one count": rng.integers(-1, 2, n),
        "one count at the top": 32766 + rng.integers(-1, 2, n),
        "impulse": np.where(t == 5, 1, 0),
        "late impulse": np.where(t == n - 1, -32768, 0),
        "sine": np.round(20000 * np.sin(2 * np.pi * t * 7.3 / n)),
        "faint sine": np.round(3 * np.sin(2 * np.pi * t * 9 / n)),
        "loud and faint": np.round(30000 * np.sin(2 * np.pi * t * 9 / n) + 10 * np.sin(2 * np.pi * t * 21 / n)),
        "gravity": np.round(16384 + rng.normal(0, 100, n)),
    }


def counts(x: np.ndarray) -> array[int]:
    return array("h", x.astype(int).tolist())


def expected(x: np.ndarray, rate: float, scale: float) -> dict[str, float]:
    d = x - x.mean()
    rms = float(np.sqrt((x**2).mean()))
    sides = np.sign(x * len(x) - x.sum())
    sides = sides[sides != 0]
    return {
        "mean": x.mean() * scale,
        "std": x.std() * scale,
        "max": x.max() * scale,
        "rms": rms * scale,
        "ptp": np.ptp(x) * scale,
        "crest": np.abs(x).max() / rms if rms else 0.0,
        "kurtosis": (d**4).mean() / x.var() ** 2 if x.var() else 0.0,
        "zero_crossings": int((sides[1:] != sides[:-1]).sum()),
    }


@pytest.mark.parametrize("n", [*SIZES, 2, 50, 100, 8192])
def test_time_features_keep_their_bounds(n: int) -> None:
    names = ALL[:8]
    features = twin.features(names, n, 100.0, scale=0.00059875)
    for title, x in signals(n).items():
        got = dict(zip(names, features.extract(counts(x)), strict=True))
        for name, want in expected(x.astype(float), 100.0, 0.00059875).items():
            bound = {"zero_crossings": 0.0, "kurtosis": 1e-4}.get(name, 1e-6)
            assert abs(got[name] - want) <= bound * abs(want), f"{title}: {name} {got[name]} instead of {want}"


@pytest.mark.parametrize("window", sorted(WINDOWS))
@pytest.mark.parametrize("n", SIZES)
def test_spectrum_is_within_a_4000th_of_the_deviation(n: int, window: str) -> None:
    spectrum = twin.module("fft").Spectrum(n, window)
    for title, x in signals(n).items():
        spectrum.transform(counts(x))
        error = np.abs(np.array(spectrum.magnitude) - amplitudes(x, window)).max()
        assert error <= x.std() / 4000 + 1e-12, f"{title}: off by {error} of {x.std()}"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(SIZES), st.sampled_from(sorted(WINDOWS)), st.floats(0, 4.5))
def test_spectrum_of_random_mixtures(seed: int, n: int, window: str, decades: float) -> None:
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    x = sum(a * np.sin(2 * np.pi * f * t / n + p) for a, f, p in rng.uniform((0, 0, 0), (1, n / 2, 6.3), (4, 3)))
    x = np.clip(np.round(10**decades * x + rng.normal(0, 10 ** rng.uniform(-1, decades), n)), -32768, 32767)
    spectrum = twin.module("fft").Spectrum(n, window)
    spectrum.transform(counts(x))
    assert np.abs(np.array(spectrum.magnitude) - amplitudes(x, window)).max() <= x.std() / 4000 + 1e-12


@pytest.mark.parametrize("window", sorted(WINDOWS))
def test_bands_hold_what_numpy_finds_there(window: str) -> None:
    n, rate, scale = 256, 1000.0, 0.01
    bands = {"band:0-500": (0, 129), "band:0-100": (0, 26), "band:100-250": (26, 64), "band:250-500": (64, 129)}
    features = twin.module("features").Features(list(bands), n, rate, 1, scale, window)
    for title, x in signals(n).items():
        got = features.extract(counts(x))
        for value, (name, (first, stop)) in zip(got, bands.items(), strict=True):
            want = band(x, window, first, stop) * scale**2
            assert abs(value**0.5 - want**0.5) <= x.std() * scale / 1000 + 1e-12, f"{title}: {name}"


def test_rectangular_bands_add_up_to_the_variance() -> None:
    names = ["band:0-20", "band:20-50"]
    features = twin.module("features").Features(names, 128, 100.0, 1, 1.0, "rectangular")
    for title, x in signals(128).items():
        assert sum(features.extract(counts(x))) == pytest.approx(x.var(), rel=1e-3), title


@pytest.mark.parametrize(("hertz", "amplitude"), [(50.0, 1000.0), (12.5, 30000.0), (400.0, 40.0)])
def test_a_sine_in_its_bin_reads_its_frequency_and_amplitude(hertz: float, amplitude: float) -> None:
    n, rate, scale = 256, 1280.0, 0.5
    x = np.round(amplitude * np.sin(2 * np.pi * hertz * np.arange(n) / rate) + 1500)
    peak_hz, peak = twin.features(["peak_hz", "peak_magnitude"], n, rate, scale=scale).extract(counts(x))
    assert abs(peak_hz - hertz) <= rate / n / 2
    if hertz % (rate / n) == 0:
        assert peak == pytest.approx(amplitude * scale, rel=5e-3)


def test_peak_is_none_in_silence() -> None:
    features = twin.features(ALL, 64, 100.0)
    assert list(features.extract(counts(np.zeros(64)))) == [0.0] * len(ALL)


def test_channels_come_one_after_the_other() -> None:
    rng = np.random.default_rng(7)
    x = rng.integers(-2000, 2000, (128, 3)) + np.array([0, 4000, -9000])
    names = [*ALL, "band:5-20"]
    together = twin.features(names, 128, 50.0, channels=3, scale=0.1)
    alone = twin.features(names, 128, 50.0, scale=0.1)
    got = np.array(together.extract(counts(x.reshape(-1)))).reshape(3, len(names))
    assert together.size == 3 * len(names)
    for channel in range(3):
        assert list(got[channel]) == list(alone.extract(counts(x[:, channel])))


def test_extract_reuses_its_output() -> None:
    features = twin.features(["mean"], 8, 10.0)
    assert features.extract(array("h", range(8))) is features.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["kurt"], 64, 100.0), "no feature 'kurt': use band:LO-HI or one of crest, kurtosis"),
        ((["band:10"], 64, 100.0), "'band:10' is not band:LO-HI, in Hz"),
        ((["band:a-b"], 64, 100.0), "is not band:LO-HI"),
        ((["band:10-10.5"], 64, 100.0), "no bin in 'band:10-10.5': they lie 1.5625 Hz apart, up to 50 Hz"),
        ((["band:30-20"], 64, 100.0), "no bin"),
        ((["peak_hz"], 100, 100.0), "64, 128, 256, 512 or 1024 points, not 100"),
        ((["mean"], 1, 100.0), "2 to 8192 samples"),
        ((["mean"], 9000, 100.0), "2 to 8192 samples"),
        ((["mean"], 64, 0.0), "above 0"),
        ((["mean"], 64, 100.0, 0), "above 0"),
    ],
)
def test_bad_parameters_are_named(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        twin.features(*arguments)  # type: ignore[arg-type]


def test_a_window_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 64 counts, got 63"):
        twin.features(["mean"], 64, 100.0).extract(array("h", bytes(126)))


def test_an_unknown_taper_is_refused() -> None:
    with pytest.raises(ValueError, match="no window 'kaiser'"):
        twin.module("fft").Spectrum(64, "kaiser")


def test_an_offset_moves_what_has_a_zero_and_nothing_else() -> None:
    # A thermometer: 0.0625 degrees a count, count 0 at -40. Crossings, spread and spectrum know no zero.
    names = [*ALL, "band:5-20"]
    x = signals(64)["white"] // 64
    moved = twin.module("features").Features(names, 64, 100.0, 1, 0.0625, "hann", -40.0)
    plain = twin.features(names, 64, 100.0, scale=0.0625)
    got = dict(zip(names, list(moved.extract(counts(x))), strict=True))
    bare = dict(zip(names, list(plain.extract(counts(x))), strict=True))
    value = x * 0.0625 - 40
    rms = np.sqrt((value**2).mean())
    assert got["mean"] == pytest.approx(value.mean(), rel=1e-6)
    assert got["max"] == pytest.approx(value.max(), rel=1e-6)
    assert got["rms"] == pytest.approx(rms, rel=1e-6)
    assert got["crest"] == pytest.approx(np.abs(value).max() / rms, rel=1e-6)
    for name in set(names) - {"mean", "max", "rms", "crest"}:
        assert got[name] == bare[name], name
