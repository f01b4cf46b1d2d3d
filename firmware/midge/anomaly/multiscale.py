# The everyday detector: exponential z-scores at four time scales, 48 bytes of state (`b4` in the research notes).
#
# It learns for 300 samples, then finds spikes, steps and slow drifts alike, and adapts to what stays.
# The score is a squared ratio to each scale's own limit: above 1 is unusual.

from ..kernels.signal import ALARM, ALARMED, SCORE, THRESHOLD, UNUSABLE, block, routine, updater
from .finite import require_finite, unusable
from .scales import Scales


class MultiscaleZScore:
    def __init__(self, holdoff=200, resolution=0.0, threshold=1.0):
        # holdoff: samples from one alarm to the next at least. resolution: the sensor's step, in units of the signal;
        # without it a quantised signal that rests alarms on its first step.
        if not 1 <= holdoff <= 0x3FFFFFFF:
            raise ValueError("holdoff must be at least 1")
        if threshold <= 0:
            raise ValueError("threshold must be above 0")
        self.alarm = False
        self.holdoff = holdoff
        self._scales = Scales(resolution)
        step = routine("multiscale", "step")
        self._io = self._scales.exchange() if step else None
        self.threshold = threshold
        if step:
            self._block = block(self._io, *self._scales.state())
            self.update = updater(step, self._block, self._io, self._follow)

    @property
    def threshold(self):
        return self._threshold

    @threshold.setter
    def threshold(self, value):
        self._threshold = value
        if self._io:
            self._io[THRESHOLD] = value

    def reset(self):
        # Forgets every sample; the parameters stay.
        self.alarm = False
        if self._io:
            self._io[ALARMED] = 0.0
        self._scales.reset()

    def update(self, x):
        # The score of x, or None for the first 300 samples. ValueError: x is no usable number.
        require_finite(x)
        score = self._scales.step(x)
        self.alarm = score is not None and score > self.threshold and self._scales.fire(self.holdoff)
        return score

    def _follow(self, status, x):
        # After a step of machine code.
        if status == UNUSABLE:
            raise unusable(x)
        self.alarm = status == ALARM and self._scales.fire(self.holdoff)
        return self._io[SCORE]
