# The magnitude spectrum of a window of int16 samples, in integers that fit a board's small int (31 bits).
#
# Block floating point: the block is scaled to 45000 before every stage, the scale is remembered. The samples enter as
# half as many complex numbers. Error against exact arithmetic: at most 1/4000 of the window's standard deviation.
# 1024 points: 12 KB, made once; transform() allocates nothing but floats. Pure: no MicroPython needed. Where there is
# machine code for it (midge.kernels.signal), that computes the same integers, in arrays of type "h".

from array import array
from math import cos, pi, sin, sqrt

from .kernels.signal import address, block, routine

_ONE = 14  # twiddles and windows have this many bits behind the point
_HALF = 1 << _ONE - 1
_SILENCE = 2  # what machine code returns where all samples are equal
_LIMIT = 45000  # sqrt(2) * _LIMIT << _ONE, a butterfly's product, still is a small int

# The coefficients a of a + (1 - a) * -cos: what a window is here.
WINDOWS = {"rectangular": 1.0, "hann": 0.5, "hamming": 0.54}


class Spectrum:
    def __init__(self, points, window="hann"):
        # points: a power of two from 64 to 1024. ValueError otherwise, or for an unknown window.
        if points not in (64, 128, 256, 512, 1024):
            raise ValueError("an FFT takes 64, 128, 256, 512 or 1024 points, not %d" % points)
        if window not in WINDOWS:
            raise ValueError("no window %r: use one of %s" % (window, ", ".join(sorted(WINDOWS))))
        self.points = points
        n = points // 2
        self.magnitude = array("f", bytes(4 * (n + 1)))  # by bin: the amplitude of a sine there, in counts
        self._re = array("i", bytes(4 * n))
        self._im = array("i", bytes(4 * n))
        self._cos = array("h", bytes(points))
        self._sin = array("h", bytes(points))
        self._reversed = array("H", bytes(points))
        self._window = None if window == "rectangular" else array("h", bytes(points + 2))  # symmetric: half is enough
        self._tables(WINDOWS[window])
        self._transform = routine("spectrum", "transform")
        self._magnitudes = routine("spectrum", "magnitudes")
        if self._transform:
            self._block = block(
                0,  # samples
                0,  # bytes from one to the next
                self._re,
                self._im,
                self._cos,
                self._sin,
                self._reversed,
                0 if self._window is None else self._window,
                self.magnitude,
                n,
                int.from_bytes(bytes(array("f", (self._amplitude,))), "little"),
                0,  # the scale's power of 2
            )
            self._at = address(self._block) >> 2

    def _tables(self, a):
        n = len(self._re)
        weights = squares = 0.0
        for i in range(n):
            angle = pi * i / n
            self._cos[i] = round(cos(angle) * (1 << _ONE))
            self._sin[i] = round(sin(angle) * (1 << _ONE))
            self._reversed[i] = self._reversed[i >> 1] >> 1 | (i & 1 and n >> 1)
        for i in range(self.points):
            weight = a - (1 - a) * cos(pi * i / n)
            weights += weight
            squares += weight * weight
            if self._window is not None and i <= n:
                self._window[i] = round(weight * (1 << _ONE))
        # A sine of amplitude 1 adds up to weights / 2 in its bin.
        self._amplitude = 2 / weights
        # magnitude^2 times this is the mean square that a bin stands for (Parseval): twice this for the first and last,
        # whose sine has no conjugate.
        self.mean_square = weights * weights / (2 * self.points * squares)

    def transform(self, buf, start=0, stride=1):
        # Fills `magnitude` (points / 2 + 1 bins) from buf[start::stride], mean removed, windowed.
        if self._transform:
            buf[start + stride * (self.points - 1)]  # IndexError now
            self._block[1] = address(buf) + 2 * start
            self._block[2] = 2 * stride
            if self._transform(self._at) == _SILENCE:
                self._silence()
            else:
                self._magnitudes(self._at)
            return
        scale = self._load(buf, start, stride)
        if scale == 0:
            self._silence()
            return
        half = 1
        while half < len(self._re):
            self._butterflies(half)
            half *= 2
            scale *= self._fit()
        self._unpack(scale * self._amplitude)

    def _silence(self):
        for k in range(len(self.magnitude)):
            self.magnitude[k] = 0.0

    def _load(self, buf, start, stride):
        # Deviations from the mean in bit-reversed order, even samples in re, odd ones in im. Returns counts a unit,
        # 0 for silence. Times `points`, a deviation is an integer: the mean is removed exactly.
        re = self._re
        im = self._im
        order = self._reversed
        n = len(re)
        total = 0
        at = start
        for _ in range(self.points):
            total += buf[at]
            at += stride
        at = start
        for i in range(n):
            j = order[i]
            re[j] = buf[at] * self.points - total
            im[j] = buf[at + stride] * self.points - total
            at += 2 * stride
        scale = self._fit(True) / self.points
        window = self._window
        if window is None:
            return scale
        for i in range(n):
            j = order[i]
            k = 2 * i if 2 * i <= n else self.points - 2 * i
            re[j] *= window[k]
            k = 2 * i + 1 if 2 * i < n else self.points - 2 * i - 1
            im[j] *= window[k]
        return scale * self._fit(True) / (1 << _ONE)

    def _fit(self, grow=False):
        # Scales the block down to _LIMIT, or with `grow` also up to it. Returns what one unit is worth now.
        re = self._re
        im = self._im
        top = max(max(re), -min(re), max(im), -min(im))
        if top == 0:
            return 0
        down = 0
        while top >> down > _LIMIT:
            down += 1
        if down:
            half = 1 << down - 1
            for i in range(len(re)):
                re[i] = re[i] + half >> down
                im[i] = im[i] + half >> down
        up = 0
        while grow and top << up + 1 <= _LIMIT:
            up += 1
        if up:
            for i in range(len(re)):
                re[i] <<= up
                im[i] <<= up
        return (1 << down) / (1 << up)

    def _butterflies(self, half):
        # One radix-2 stage: pairs that lie `half` apart, twiddle exp(-i pi k / half).
        re = self._re
        im = self._im
        n = len(re)
        stride = n // half
        step = 2 * half
        for k in range(half):
            c = self._cos[k * stride]
            s = self._sin[k * stride]
            a = k
            while a < n:
                b = a + half
                x = re[b]
                y = im[b]
                u = x * c + y * s + _HALF >> _ONE
                v = y * c - x * s + _HALF >> _ONE
                x = re[a]
                y = im[a]
                re[a] = x + u
                im[a] = y + v
                re[b] = x - u
                im[b] = y - v
                a += step

    def _unpack(self, scale):
        # The spectrum of the even samples plus that of the odd ones, a sample later: exp(-i pi k / n).
        re = self._re
        im = self._im
        n = len(re)
        magnitude = self.magnitude
        magnitude[0] = abs(re[0] + im[0]) * scale / 2
        magnitude[n] = abs(re[0] - im[0]) * scale / 2
        for k in range(1, n):
            m = n - k
            c = self._cos[k]
            s = self._sin[k]
            x = im[k] + im[m] + 1 >> 1
            y = re[m] - re[k] + 1 >> 1
            u = (re[k] + re[m] + 1 >> 1) + (x * c + y * s + _HALF >> _ONE)
            v = (im[k] - im[m] + 1 >> 1) + (y * c - x * s + _HALF >> _ONE)
            x = u * scale
            y = v * scale
            magnitude[k] = sqrt(x * x + y * y)
