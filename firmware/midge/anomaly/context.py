# The thorough detector: the four scales of "multiscale", and a memory of the contexts that a signal has shown.
#
# State: 264 bytes, and one byte a sample while it learns (`b4+ctx` in the research notes). It says nothing during the
# first `probation` samples; then it replays them from their recording to fill its memory, a few with every new sample,
# and lets the recording go. Until then, an eighth of the probation, it judges new samples by their values alone.
# The score weighs what is unusual now and what was a moment ago, in value and in context: above 1 is an alarm.

from array import array
from math import sqrt

from ..kernels.signal import (
    ALARM,
    ALARMED,
    LEARNT,
    LEARNT_ALARM,
    LEARNT_CALM,
    RECORDED,
    SCORE,
    THRESHOLD,
    UNUSABLE,
    block,
    routine,
    updater,
)
from .contexts import Contexts
from .finite import require_finite, unusable
from .probation import Probation
from .scales import Scales

_REFERENCE = 0  # the first sample
_LOW = 1  # where level 0 begins, from the reference
_PER_UNIT = 2  # levels a unit; 0 disables the contexts (the signal never moved)
_SMOOTH = 3  # the second track
_USUAL = 4  # surprise a sample, averaged
_VALUE = 5  # what is left of the latest unusual value
_CONTEXT = 6  # what is left of the latest surprise

_REPLAYED = 8  # recorded samples with every new one

_CODES = 8  # the word of its block that has the recording's address, or 0


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
        self._probation = probation
        self.holdoff = holdoff or (27 * probation + 99) // 100
        self._fading = max(probation - 20, 0) / probation  # half gone after 0.035 of the probation
        self._scales = Scales(resolution)
        self._contexts = Contexts()
        self._floats = array("f", bytes(28))
        self._recording = None
        self._step = routine("context", "step")
        self._io = self._scales.exchange(self._fading) if self._step else None
        self.threshold = threshold
        self.reset()

    @property
    def threshold(self):
        return self._threshold

    @threshold.setter
    def threshold(self, value):
        self._threshold = value
        if self._io:
            self._io[THRESHOLD] = value

    def reset(self):
        # Forgets every sample and learns anew; the parameters stay.
        self.alarm = False
        if self._io:
            self._io[ALARMED] = 0.0
        self._scales.reset()
        self._contexts.reset()
        for i in range(len(self._floats)):
            self._floats[i] = 0.0
        self._floats[_USUAL] = 1.0
        self._recording = Probation(self._probation)
        self._replayed = 0
        self._first = True
        if self._step:
            memory = (self._floats,) + self._contexts.state()
            numbers = (0, self._probation, 0)
            self._block = block(self._io, *(self._scales.state() + memory + self._recording.state() + numbers))
            self.update = updater(self._step, self._block, self._io, self._follow)

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
        context = 0.0
        if self._recording is None:
            context = max(f[_CONTEXT] * self._fading, min(self._surprise(y), 4.0))
            f[_CONTEXT] = context
        elif self._recording.full():
            self._replay()
        else:
            if self._recording.add(y):
                self._prepare()
            return None
        score = 0.7 * value + 0.5 * context
        self.alarm = score > self.threshold and self._scales.fire(self.holdoff)
        if self.alarm:
            f[_VALUE] = f[_CONTEXT] = 0.0
        return score

    def _follow(self, status, x):
        # After a step of machine code.
        if status == UNUSABLE:
            raise unusable(x)
        if status == RECORDED:
            self._prepare()
            if self._recording is None:
                self._block[_CODES] = 0
            return None
        if status in (LEARNT, LEARNT_ALARM, LEARNT_CALM):
            self._recording = None
        self.alarm = status in (ALARM, LEARNT_ALARM) and self._scales.fire(self.holdoff)
        return self._io[SCORE]

    def _prepare(self):
        # Eight levels, four of them inside the range seen. The nudge keeps its ends, which quantised signals hit again
        # and again, off the borders between levels, where the last digit of a float would decide.
        f = self._floats
        recording = self._recording
        span = recording.range()
        if span == 0:
            self._recording = None
            return
        f[_LOW] = recording.low() - span / 2 - span / 1024
        f[_PER_UNIT] = 4 / span
        f[_SMOOTH] = recording.value(0)

    def _replay(self):
        for _ in range(min(_REPLAYED, self._probation - self._replayed)):
            self._surprise(self._recording.value(self._replayed))
            self._replayed += 1
        if self._replayed == self._probation:
            self._recording = None

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
