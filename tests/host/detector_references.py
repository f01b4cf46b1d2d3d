"""The three detectors again, in double precision and written from their formulas (research notes), not from the device.

Windows are recomputed from scratch, contexts are sets: slow, plain, and independent of the code under test.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

Judgement = tuple[float | None, bool]  # score, alarm


def window(x: Sequence[float], size: int = 100, threshold: float = 3.0, warmup: int = 10) -> list[Judgement]:
    """|x - mean| / (std + 1e-7) over the last `size` values."""
    found: list[Judgement] = []
    for i in range(len(x)):
        held = np.asarray(x[max(0, i + 1 - size) : i + 1], dtype=np.float64)
        if len(held) < warmup:
            found.append((None, False))
            continue
        score = abs(held[-1] - held.mean()) / (held.std() + 1e-7)
        found.append((float(score), bool(score > threshold)))
    return found


class Multiscale:
    """Exponential z-scores at four scales; no reference level: doubles need none."""

    def __init__(self, resolution: float = 0.0) -> None:
        self.floor = max((resolution / 2) ** 2, 1e-14)
        self.n = 0
        self.f = [0.0] * 4
        self.v = [self.floor] * 4
        self.mean = 0.0

    def step(self, x: float) -> float | None:
        """The largest d^2 / (t^2 V), None for 300 samples."""
        self.n += 1
        n, best = self.n, 0.0
        pull = x - self.mean
        if n > 300:
            reach = 20 * math.sqrt(self.v[0])
            pull = max(-reach, min(reach, pull))
        for k in range(4):
            self.f[k] += max(4.0**-k, 1 / n) * (x - self.f[k])
            d2 = (self.f[k] - self.mean) ** 2
            best = max(best, d2 / ((8 * 4 ** (-0.2 * k)) ** 2 * self.v[k]))
            clipped = min(d2, 400 * self.v[k]) if n > 300 else d2
            self.v[k] = max(self.floor, self.v[k] + max(1 / 2048, 1 / n) * (clipped - self.v[k]))
        if n == 1:  # before the first sample there is no mean to differ from
            self.v = [self.floor] * 4
        self.mean += max(1 / 512, 1 / n) * pull
        return best if n > 300 else None


def multiscale(x: Sequence[float], holdoff: int = 200, resolution: float = 0.0) -> list[Judgement]:
    """Alarms where the score passes 1, `holdoff` samples apart at least."""
    scales, found, last = Multiscale(resolution), [], -math.inf
    for i, value in enumerate(x):
        score = scales.step(value)
        alarm = score is not None and score > 1 and i - last >= holdoff
        last = i if alarm else last
        found.append((score, alarm))
    return found


class Recording:
    """8-bit codes whose scale doubles until every value fits."""

    def __init__(self) -> None:
        self.base = self.step = 0.0
        self.codes: list[int] = []

    def add(self, y: float) -> None:
        """y counts from the first sample."""
        if self.step == 0 and y != 0:
            self.step = abs(y) / 64
            self.base = -128 * self.step
            self.codes = [128] * len(self.codes)
        while self.step and not self.base <= y <= self.base + 255 * self.step:
            wider = self.base - 255 * self.step if y < self.base else self.base
            self.codes = [math.floor((self.base + c * self.step - wider) / (2 * self.step) + 0.5) for c in self.codes]
            self.base, self.step = wider, 2 * self.step
        self.codes.append(math.floor((y - self.base) / self.step + 0.5) if self.step else 0)


class Track:
    """What one track of levels has shown."""

    def __init__(self) -> None:
        self.seen: dict[str, set[tuple[int, ...]]] = defaultdict(set)
        self.last = [0, 0, 0]
        self.stay = 0

    def surprise(self, level: int) -> float:
        """Points for what is new."""
        if level != self.last[0]:
            self.last = [level, *self.last[:2]]
            self.stay = 1
            return (
                self._new("level", (level,))
                + 2 * self._new("pair", (level, self.last[1]))
                + 0.5 * self._new("triple", tuple(self.last))
            )
        self.stay += 1
        power = math.log2(self.stay)
        return float(power.is_integer() and 3 <= power <= 15 and self._new("stay", (level, int(power))))

    def _new(self, kind: str, what: tuple[int, ...]) -> bool:
        fresh = what not in self.seen[kind]
        self.seen[kind].add(what)
        return fresh


def context(x: Sequence[float], probation: int = 750) -> list[Judgement]:
    """The four scales and the memory of contexts."""
    scales, recording, tracks, found = Multiscale(), Recording(), (Track(), Track()), []
    replay: list[float] = []
    low = per_unit = smooth = value = surprise = 0.0
    usual, last, fading = 1.0, -math.inf, 1 - 1 / (0.05 * probation)
    seen: list[float] = []

    def judge(y: float) -> float:
        nonlocal smooth, usual
        smooth += (y - smooth) / 2
        points = sum(
            track.surprise(min(7, max(0, math.floor((v - low) * per_unit))))
            for track, v in zip(tracks, (y, smooth), strict=True)
        )
        excess = points - usual
        usual += excess / 50
        return excess if excess > 0.05 else 0.0

    for i, sample in enumerate(x):
        unusual = scales.step(sample)
        value = max(value * fading, 0.0 if unusual is None else min(math.sqrt(unusual), 2.0))
        y = sample - x[0]
        if i < probation:
            recording.add(y)
            seen.append(y)
            found.append((None, False))
            span = max(seen) - min(seen)
            if i == probation - 1 and span > 0:
                low, per_unit = min(seen) - span / 2 - span / 1024, 4 / span
                replay = [recording.base + c * recording.step for c in recording.codes]
                smooth = replay[0]
            continue
        if replay:  # eight of the recording instead of the sample itself
            for past in replay[:8]:
                judge(past)
            del replay[:8]
        else:
            surprise = max(surprise * fading, min(judge(y), 4.0) if per_unit else 0.0)
        score = 0.7 * value + 0.5 * surprise
        alarm = score > 1 and i - last >= math.ceil(0.27 * probation)
        found.append((score, alarm))
        if alarm:
            last, value, surprise = i, 0.0, 0.0
    return found
