# Sliding-window z-score: x is flagged when |x - mean| / (std + 1e-7) > threshold over the last `size` values.
#
# x itself is one of the n, so no score exceeds sqrt(n - 1): 3 with ten values, 9.95 with a hundred.
# Size: `size` + 4 single-precision floats. Time: O(1) a sample, amortised. Units: the score has none.

from array import array
from math import sqrt

from .finite import require_finite

# Sums are kept of x - shift, not of x: in float32, sums of raw values near 1e5 lose the variance altogether. The shift
# is always a value of the window, so mean - shift never dwarfs the deviation: _rebuild() moves it once a window.
_SHIFT = 0
_SUM = 1
_SQUARES = 2
_PEAK = 3  # the largest _SQUARES since the last rebuild: its rounding errors are still in there
_EPS = 1e-7  # the rule's guard against a flat window


class WindowZScore:
    def __init__(self, size=100, threshold=3.0, warmup=10):
        if not 2 <= warmup <= size:
            raise ValueError("warmup must lie in 2..size")
        if threshold <= 0:
            raise ValueError("threshold must be above 0")
        self.threshold = threshold
        self._warmup = warmup
        self._ring = array("f", bytes(4 * size))
        self._sums = array("f", bytes(16))
        self.reset()

    def reset(self):
        # Forgets every sample; the parameters stay.
        self.alarm = False
        self._count = 0  # values held, up to size
        self._next = 0  # where the next value goes
        self._until_rebuild = len(self._ring)
        for i in range(4):
            self._sums[i] = 0.0

    def update(self, x):
        # The score of x, or None for the first warmup - 1 samples. ValueError: x is no usable number.
        require_finite(x)
        ring = self._ring
        sums = self._sums
        at = self._next
        if self._count == 0:
            sums[_SHIFT] = x
        shift = sums[_SHIFT]
        total = sums[_SUM]
        squares = sums[_SQUARES]
        if self._count == len(ring):
            d = ring[at] - shift
            total -= d
            squares -= d * d
        else:
            self._count += 1
        ring[at] = x
        self._next = at + 1 if at + 1 < len(ring) else 0
        d = ring[at] - shift
        total += d
        squares += d * d
        self._until_rebuild -= 1
        if squares > sums[_PEAK]:
            sums[_PEAK] = squares
        # A glitch that has left the window leaves rounding errors larger than all that remains: start afresh.
        if self._until_rebuild == 0 or squares * 16 < sums[_PEAK]:
            self._rebuild(x)
            d = 0.0
            total = sums[_SUM]
            squares = sums[_SQUARES]
        else:
            sums[_SUM] = total
            sums[_SQUARES] = squares
        n = self._count
        if n < self._warmup:
            return None
        mean = total / n
        variance = squares / n - mean * mean
        std = sqrt(variance) if variance > 0 else 0.0
        score = abs(d - mean) / (std + _EPS)
        self.alarm = score > self.threshold
        return score

    def _rebuild(self, x):
        sums = self._sums
        ring = self._ring
        sums[_SHIFT] = x
        shift = sums[_SHIFT]
        total = squares = 0.0
        for i in range(self._count):
            d = ring[i] - shift
            total += d
            squares += d * d
        sums[_SUM] = total
        sums[_SQUARES] = sums[_PEAK] = squares
        self._until_rebuild = len(ring)
