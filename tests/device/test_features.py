# midge: device
# Features and the FFT on a board's small ints and floats, extreme windows included. Expected values are exact ones.

from array import array

from midge.features import Features
from midge.fft import Spectrum


def _near(got, wanted, bound):
    assert abs(got - wanted) <= bound, "%r instead of %r" % (got, wanted)


def test_full_scale_square_wave():
    features = Features(["mean", "std", "max", "rms", "ptp", "crest", "kurtosis", "zero_crossings"], 64, 64)
    got = features.extract(array("h", [32767 if i % 16 < 8 else -32768 for i in range(64)]))
    for value, wanted in zip(got, (-0.5, 32767.5, 32767, 32767.5, 65535, 1.0000153, 1, 7)):
        _near(value, wanted, abs(wanted) * 1e-6)


def test_all_lowest_and_silence():
    names = ["mean", "std", "max", "rms", "ptp", "crest", "kurtosis", "zero_crossings", "peak_hz", "peak_magnitude"]
    features = Features(names, 64, 64)
    assert list(features.extract(array("h", [-32768] * 64))) == [-32768, 0, -32768, 32768, 0, 1, 0, 0, 0, 0]
    assert list(features.extract(array("h", bytes(128)))) == [0] * 10


def test_spectrum_of_the_fastest_square_wave():
    spectrum = Spectrum(64, "rectangular")
    spectrum.transform(array("h", [32767 if i % 2 else -32768 for i in range(64)]))
    for k in range(32):
        _near(spectrum.magnitude[k], 0, 8)
    _near(spectrum.magnitude[32], 32767.5, 8)


def test_peak_and_band_of_two_interleaved_channels():
    # Channel 0: a cosine of four samples a period. Channel 1: one of eight, on an offset, through a scale of 1/4.
    quarter = (4000, 0, -4000, 0)
    eighth = (400, 283, 0, -283, -400, -283, 0, 283)
    buf = array("h", bytes(256))
    for i in range(64):
        buf[2 * i] = quarter[i % 4]
        buf[2 * i + 1] = 5000 + eighth[i % 8]
    got = Features(["peak_hz", "peak_magnitude", "band:10-20"], 64, 64, 2, 0.25).extract(buf)
    assert got[0] == 16 and got[3] == 8
    _near(got[1], 1000, 0.25)
    _near(got[2], 500000, 1000)
    _near(got[4], 100, 0.05)
    _near(got[5], 0, 0.01)


def test_bad_names_are_refused():
    for names in (["median"], ["band:5"], ["band:40-50"]):
        try:
            Features(names, 64, 64)
            assert False, "%r was taken" % names
        except ValueError:
            pass
