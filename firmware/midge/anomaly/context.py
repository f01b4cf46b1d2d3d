# The thorough detector: the four scales of "multiscale", and a memory of the contexts that a signal has shown.
#
# State: 264 bytes, and one byte a sample while it learns (`b4+ctx` in the research notes). It says nothing during the
# first `probation` samples; then it replays them from their recording to fill its memory, which on a slow board takes
# as long as a second, and lets the recording go.
# The score weighs what is unusual now and what was a moment ago, in value and in context: above 1 is an alarm.

from array import array
from math import sqrt

from .contexts import Contexts
from .finite import require_finite
from .probation import Probation
from .scales import Scales

_REFERENCE = 0  # the first sample
_LOW = 1  # where level 0 begins, from the reference
_PER_UNIT = 2  # levels a unit; 0 disables the contexts (the signal never moved)
_SMOOTH = 3  # the second track
_USUAL = 4  # surprise a sample, averaged
_VALUE = 5  # what is left of the latest unusual value
_CONTEXT = 6  # what is left of the latest surprise


class ContextZScore:
    def __init__(self, probation=750, holdoff=0, resolution=0.0, threshold=1.0):
        # probation: samples to learn from. holdoff: samples from one alarm to the next, 0 for 0.27 of the probation.
        # resolution: the sensor's step, in units of the signal.
        if not 2 <= probation <= 0xFFFF:
            raise ValueError("probation must lie in 2..65535")
        if not 0 <= holdoff <= 0x3FFFFFFF:
            raise ValueError("holdoff must not be below 0")
        if threshold <= 0:
            raise ValueError("threshold must be above 0")
        self.threshold = threshold
        self._probation = probation
        self.holdoff = holdoff or (27 * probation + 99) // 100
        self._fading = max(probation - 20, 0) / probation  # half gone after 0.035 of the probation
        self._scales = Scales(resolution)
        self._contexts = Contexts()
        self._floats = array("f", bytes(28))
        self._recording = None
        self.reset()

    def reset(self):
        # Forgets every sample and learns anew; the parameters stay.
        self.alarm = False
        self._scales.reset()
        self._contexts.reset()
        for i in range(len(self._floats)):
            self._floats[i] = 0.0
        self._floats[_USUAL] = 1.0
        self._recording = Probation(self._probation)
        self._first = True

    def update(self, x):
        # The score of x, or None during the probation. ValueError: x is no usable number.
        require_finite(x)
        f = self._floats
        if self._first:
            f[_REFERENCE] = x
            self._first = False
        unusual = self._scales.step(x)
        unusual = 0.0 if unusual is None else min(sqrt(unusual), 2.0)
        value = max(f[_VALUE] * self._fading, unusual)
        f[_VALUE] = value
        y = x - f[_REFERENCE]
        if self._recording is not None:
            if self._recording.add(y):
                self._learn()
            return None
        context = max(f[_CONTEXT] * self._fading, min(self._surprise(y), 4.0))
        f[_CONTEXT] = context
        score = 0.7 * value + 0.5 * context
        self.alarm = score > self.threshold and self._scales.fire(self.holdoff)
        if self.alarm:
            f[_VALUE] = f[_CONTEXT] = 0.0
        return score

    def _learn(self):
        # Eight levels, four of them inside the range seen. The nudge keeps its ends, which quantised signals hit again
        # and again, off the borders between levels, where the last digit of a float would decide.
        f = self._floats
        recording = self._recording
        self._recording = None
        span = recording.range()
        if span == 0:
            return
        f[_LOW] = recording.low() - span / 2 - span / 1024
        f[_PER_UNIT] = 4 / span
        f[_SMOOTH] = recording.value(0)
        for i in range(self._probation):
            self._surprise(recording.value(i))

    def _surprise(self, y):
        # How much more surprising than usual this sample's contexts are.
        f = self._floats
        if f[_PER_UNIT] == 0:
            return 0.0
        f[_SMOOTH] += (y - f[_SMOOTH]) / 2
        points = self._contexts.surprise(0, self._level(y)) + self._contexts.surprise(1, self._level(f[_SMOOTH]))
        excess = points / 2 - f[_USUAL]
        f[_USUAL] += excess / 50
        return excess if excess > 0.05 else 0.0

    def _level(self, y):
        level = (y - self._floats[_LOW]) * self._floats[_PER_UNIT]
        if level < 1:
            return 0
        return int(level) if level < 7 else 7
