# Time- and frequency-domain features of a window of raw int16 counts, several channels interleaved.
#
# mean std max rms ptp          in units (scale applied); std is the population's, rms keeps the mean
# crest                         largest |x| / rms, 0 in silence
# kurtosis                      fourth central moment / variance^2 (a normal signal: 3), 0 if flat
# zero_crossings                sign changes of x - mean, samples at the mean skipped
# peak_hz peak_magnitude        the strongest bin above 0 Hz (the lower of equals), amplitude of its sine; 0 in silence
# band:LO-HI                    mean square of what lies in LO <= f < HI Hz (HI at half the rate takes that bin too)
# Spectra are Hann-windowed with the mean removed, so the bands together hold the variance, about.
#
# Against exact arithmetic: zero_crossings exact; mean, std, max, rms, ptp and crest within 1e-6 of themselves, kurtosis
# within 1e-4; peak_magnitude within 1/4000 of the window's std, a band's root within 1/1000 of it.
# extract() allocates nothing but floats: sums are split so that they stay small ints on a 32-bit board.

from array import array
from math import ceil, sqrt

from .fft import Spectrum

_SPECTRAL = ("peak_hz", "peak_magnitude")
_LONGEST = 8192  # a window's sums are small ints up to here


class Features:
    def __init__(self, names, window, rate_hz, channels=1, scale=1.0, taper="hann", offset=0.0):
        # window: samples a channel. scale, offset: value = count * scale + offset. taper: the FFT's window.
        # ValueError: an unknown name, a window that is no power of two in 64..1024 if a spectrum is asked for, a band
        # without a bin.
        if not 2 <= window <= _LONGEST or channels < 1 or rate_hz <= 0 or scale <= 0:
            raise ValueError("a window has 2 to %d samples; channels, rate and scale are above 0" % _LONGEST)
        self.names = tuple(names)
        self.size = channels * len(self.names)
        self.out = array("f", bytes(4 * self.size))
        self._window = window
        self._channels = channels
        self._scale = scale
        self._bias = offset / scale  # the offset in counts
        self._hz = rate_hz / window  # from one bin to the next
        self._spectrum = None
        self._kurtosis = "kurtosis" in self.names
        for name in self.names:
            if name in _SPECTRAL or name.startswith("band:"):
                self._spectrum = self._spectrum or Spectrum(window, taper)
        self._plan = [self._lookup(name) for name in self.names]
        self._moments = self._kurtosis or any(n in ("std", "rms", "crest", "zero_crossings") for n in self.names)
        # Of the channel at hand, in counts: set by _measure() and _deviate().
        self._total = self._low = self._high = self._crossings = 0
        self._variance = self._fourth = 0.0

    def _lookup(self, name):
        # The method that computes a feature, with the first and last bin it covers.
        if name.startswith("band:"):
            return self._band, self._bins(name)
        known = {
            "mean": self._get_mean,
            "std": self._get_std,
            "max": self._get_max,
            "rms": self._get_rms,
            "ptp": self._get_ptp,
            "crest": self._get_crest,
            "kurtosis": self._get_kurtosis,
            "zero_crossings": self._get_crossings,
            "peak_hz": self._get_peak_hz,
            "peak_magnitude": self._get_peak_magnitude,
        }
        if name not in known:
            raise ValueError("no feature %r: use band:LO-HI or one of %s" % (name, ", ".join(sorted(known))))
        return known[name], None

    def _bins(self, name):
        try:
            low, high = [float(part) for part in name[5:].split("-")]
        except ValueError:
            raise ValueError("%r is not band:LO-HI, in Hz" % name)
        last = self._window // 2
        # A thousandth of a bin is rounding: single and double precision shall agree on what a bound takes in.
        start = ceil(low / self._hz - 0.001)
        stop = last + 1 if high >= self._hz * last else ceil(high / self._hz - 0.001)
        if not 0 <= start < stop:
            raise ValueError("no bin in %r: they lie %g Hz apart, up to %g Hz" % (name, self._hz, self._hz * last))
        return start, stop

    def extract(self, buf):
        # buf: array('h') of window * channels counts. Returns `out`: every feature of channel 0, then of channel 1 ...
        if len(buf) != self._window * self._channels:
            raise ValueError("expected %d counts, got %d" % (self._window * self._channels, len(buf)))
        at = 0
        for channel in range(self._channels):
            self._measure(buf, channel)
            if self._moments:
                self._deviate(buf, channel)
            if self._spectrum is not None:
                self._spectrum.transform(buf, channel, self._channels)
            for feature, bins in self._plan:
                self.out[at] = feature() if bins is None else feature(bins)
                at += 1
        return self.out

    def _measure(self, buf, at):
        total = 0
        low = high = buf[at]
        for _ in range(self._window):
            x = buf[at]
            total += x
            if x < low:
                low = x
            elif x > high:
                high = x
            at += self._channels
        self._total = total
        self._low = low
        self._high = high

    def _deviate(self, buf, at):
        # Second moment exactly: d = x - centre has 17 bits, its square is summed in three parts of 16.
        window = self._window
        total = self._total
        centre = (2 * total + window) // (2 * window)
        first = at
        upper = middle = lower = crossings = 0
        side = None
        for _ in range(window):
            x = buf[at]
            d = x - centre if x > centre else centre - x
            upper += (d >> 8) * (d >> 8)
            middle += (d >> 8) * (d & 255)
            lower += (d & 255) * (d & 255)
            x *= window
            if x != total:
                if side is not None and (x > total) != side:
                    crossings += 1
                side = x > total
            at += self._channels
        self._crossings = crossings
        offset = (total - centre * window) / window
        self._variance = (upper * 65536.0 + middle * 512.0 + lower) / window - offset * offset
        if self._kurtosis:
            fourth = 0.0
            at = first
            for _ in range(window):
                d = buf[at] - centre - offset
                d *= d
                fourth += d * d
                at += self._channels
            self._fourth = fourth / window

    def _get_mean(self):
        return (self._total / self._window + self._bias) * self._scale

    def _get_std(self):
        return sqrt(self._variance) * self._scale

    def _get_max(self):
        return (self._high + self._bias) * self._scale

    def _root_mean_square(self):
        mean = self._total / self._window + self._bias
        return sqrt(self._variance + mean * mean)

    def _get_rms(self):
        return self._root_mean_square() * self._scale

    def _get_ptp(self):
        return (self._high - self._low) * self._scale

    def _get_crest(self):
        peak = max(self._high + self._bias, -self._low - self._bias)
        return peak / self._root_mean_square() if peak else 0.0

    def _get_kurtosis(self):
        return self._fourth / (self._variance * self._variance) if self._variance > 0 else 0.0

    def _get_crossings(self):
        return self._crossings

    def _peak(self):
        # The strongest bin above 0 Hz; 0 in silence.
        magnitude = self._spectrum.magnitude
        best = 0
        top = 0.0
        for k in range(1, len(magnitude)):
            if magnitude[k] > top:
                top = magnitude[k]
                best = k
        return best

    def _get_peak_hz(self):
        return self._peak() * self._hz

    def _get_peak_magnitude(self):
        best = self._peak()
        return self._spectrum.magnitude[best] * self._scale if best else 0.0

    def _band(self, bins):
        magnitude = self._spectrum.magnitude
        energy = 0.0
        for k in range(bins[0], bins[1]):
            share = magnitude[k] * magnitude[k]
            energy += share if 0 < k < len(magnitude) - 1 else 2 * share
        return energy * self._spectrum.mean_square * self._scale * self._scale
