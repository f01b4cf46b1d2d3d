# Exponential statistics of one signal at four time scales, in 48 bytes: what "multiscale" and "context" judge by.
#
#   y = x - reference, and per scale k:  f_k += max(4^-k, 1/n) (y - f_k),  d_k = f_k - mean
#   score = the largest d_k^2 / (t_k^2 V_k); then, and only then:
#   V_k += max(1/2048, 1/n) (min(d_k^2, 400 V_k) - V_k),  mean += max(1/512, 1/n) clamp(y - mean, 20 sqrt(V_0))
#
# Machine code may take the step instead (midge.kernels.signal): on the same arrays, with the same bits.
#
# x is never in the statistics that it is tested against. For 300 samples it only learns, and clips nothing: a glitch
# among them dulls it for the next ten thousand or so, so let a sensor settle before it is judged. Measured
# on the Numenta Anomaly Benchmark: see tools/nab.py.

from array import array
from math import sqrt

_SCALES = 4
_MEAN = 8  # after four f and four V
_REFERENCE = 9  # y = x - reference stays small, so that float32 keeps its last digits
_SEEN = 0
_HOLD = 1

_GAINS = (1.0, 0.25, 0.0625, 0.015625)  # 4^-k
# t_k = 8 * 4^(-k/5), squared: 8 sigma for a single sample, 3.5 sigma for what lasts sixty-four.
_LIMITS = (64.0, 36.7583, 21.1121, 12.1258)
_MEAN_GAIN = 0.001953125  # 1/512
_VARIANCE_GAIN = 0.00048828125  # 1/2048
_CLIP = 400.0  # one sample counts for at most 20 sigma, squared
_WARMUP = 300
_ENOUGH = 1 << 24  # n stops here: the largest that float32 counts to
_FLATTEST = 1e-14  # the variance of a signal that never moved


class Scales:
    def __init__(self, resolution):
        # A signal in steps of `resolution` has a deviation of at least half a step, even while it rests.
        if resolution < 0:
            raise ValueError("resolution must not be below 0")
        self._floor = max(resolution * resolution / 4, _FLATTEST)
        self._floats = array("f", bytes(40))
        self._counts = array("i", bytes(8))
        self.reset()

    def reset(self):
        for i in range(len(self._floats)):
            self._floats[i] = 0.0
        for k in range(_SCALES):
            self._floats[_SCALES + k] = self._floor
        self._counts[_SEEN] = self._counts[_HOLD] = 0

    def step(self, x):
        # Takes x and returns its score, above 1 if unusual at any scale; None for the first 300 samples.
        s = self._floats
        counts = self._counts
        n = counts[_SEEN]
        if n == 0:
            s[_REFERENCE] = x
        if n < _ENOUGH:
            n += 1
            counts[_SEEN] = n
        if counts[_HOLD]:
            counts[_HOLD] -= 1
        settled = n > _WARMUP
        rate = 1 / n
        gain = _VARIANCE_GAIN if _VARIANCE_GAIN > rate else rate
        y = x - s[_REFERENCE]
        mean = s[_MEAN]
        pull = y - mean
        if settled and pull * pull > _CLIP * s[_SCALES]:
            pull = 20 * sqrt(s[_SCALES]) if pull > 0 else -20 * sqrt(s[_SCALES])
        worst = 0.0
        for k in range(_SCALES):
            f = s[k]
            f += (_GAINS[k] if _GAINS[k] > rate else rate) * (y - f)
            s[k] = f
            d = f - mean
            d *= d
            v = s[_SCALES + k]
            score = d / (_LIMITS[k] * v)
            if score > worst:
                worst = score
            if settled and d > _CLIP * v:
                d = _CLIP * v
            v += gain * (d - v)
            s[_SCALES + k] = v if v > self._floor else self._floor
        mean += (_MEAN_GAIN if _MEAN_GAIN > rate else rate) * pull
        s[_MEAN] = mean
        if not settled:
            return None
        if mean * mean > 64 * s[_SCALES]:
            self._recentre()
        return worst

    def exchange(self, fading=0.0):
        # What machine code and its caller exchange: the sample, its score, the threshold, constants, and whether the
        # last sample alarmed.
        return array("f", (0.0, 0.0, 0.0, self._floor) + _LIMITS + (fading, 0.0))

    def state(self):
        return self._floats, self._counts

    def fire(self, holdoff):
        # Whether an alarm may be raised now; if so, the next one may not before `holdoff` samples from here.
        if self._counts[_HOLD]:
            return False
        self._counts[_HOLD] = holdoff
        return True

    def _recentre(self):
        s = self._floats
        before = s[_REFERENCE]
        s[_REFERENCE] = before + s[_MEAN]
        moved = s[_REFERENCE] - before
        s[_MEAN] -= moved
        for k in range(_SCALES):
            s[k] -= moved
