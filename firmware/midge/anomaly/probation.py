# A recording of the first samples in one byte each, whose range grows to fit: it lives until the detector has learnt.

from array import array

_BASE = 0  # the value of code 0
_STEP = 1  # from one code to the next; 0 until the signal has moved
_LOW = 2
_HIGH = 3


class Probation:
    def __init__(self, size):
        self._codes = bytearray(size)
        self._floats = array("f", bytes(16))
        self._count = 0

    def add(self, y):
        # Records y; the first one is taken as 0. Returns whether the recording is full.
        f = self._floats
        codes = self._codes
        if y < f[_LOW]:
            f[_LOW] = y
        elif y > f[_HIGH]:
            f[_HIGH] = y
        if f[_STEP] == 0 and y != 0:
            # The first move: it spans 64 codes, from the middle.
            f[_STEP] = abs(y) / 64
            f[_BASE] = -128 * f[_STEP]
            for i in range(self._count):
                codes[i] = 128
        while f[_STEP] > 0 and not f[_BASE] <= y <= f[_BASE] + 255 * f[_STEP]:
            self._double(y < f[_BASE])
        codes[self._count] = int((y - f[_BASE]) / f[_STEP] + 0.5) if f[_STEP] > 0 else 0
        self._count += 1
        return self.full()

    def state(self):
        return self._codes, self._floats

    def full(self):
        return self._count == len(self._codes)

    def _double(self, downwards):
        f = self._floats
        codes = self._codes
        if downwards:
            f[_BASE] -= 255 * f[_STEP]
        f[_STEP] *= 2
        carry = 256 if downwards else 1
        for i in range(self._count):
            codes[i] = codes[i] + carry >> 1

    def value(self, i):
        return self._floats[_BASE] + self._codes[i] * self._floats[_STEP]

    def low(self):
        return self._floats[_LOW]

    def range(self):
        return self._floats[_HIGH] - self._floats[_LOW]
