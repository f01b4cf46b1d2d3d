"""Statistics at four time scales: the step of firmware/midge/anomaly/scales.py, operation by operation.

A quotient is computed only where it may be the largest, and a limit only where it may be passed: exponents tell.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.signal import float32
from midgehost.codegen.signal.float32 import BIAS, Float

WARMUP: Final = 300  # samples without a score

_SCALES: Final = 4
_VARIANCE, _MEAN, _REFERENCE = 16, 32, 36  # byte offsets in the floats of Scales; the filters begin at 0
_SEEN, HOLD = 0, 4  # in its counts
_ENOUGH: Final = 1 << 24
_MEAN_POWER, _VARIANCE_POWER = -9, -11  # of 2: the gains
_CLIP, _CLIP_POWER, _CLIP_ROOT = 400, 8, 20  # a limit as a multiple of the variance, and a power of 2 below it
_RECENTRE_POWER: Final = 6
_USABLE: Final = 1e12  # every sample is below this


class Io(IntEnum):
    """The words that a detector and its machine code exchange."""

    SAMPLE, SCORE, THRESHOLD, FLOOR, LIMITS = range(5)  # four limits
    FADING = 8
    ALARMED = 9  # not 0: the last sample raised an alarm


def refuse(b: Builder, sample: Reg, status: int) -> None:
    """Leaves the routine with this status for NaN, infinity and what no sensor says."""
    with b.when(((sample << 1).shifted_right(1)).at_least(b.const(float32.bits(_USABLE)))), b.seldom():
        b.finish(status)


def step(b: Builder, io: Reg, floats: Reg, counts: Reg) -> tuple[Reg, Reg]:
    """Takes the sample: its score as it is stored, which only counts after WARMUP samples, and how many there were."""
    sample = b.load32(io, 4 * Io.SAMPLE)
    seen = _count(b, floats, counts, sample)
    rate = _rate(b, seen)
    y = float32.subtract(b, float32.unpack(b, sample), float32.unpack(b, b.load32(floats, _REFERENCE)))
    mean = float32.unpack(b, b.load32(floats, _MEAN))
    pull = float32.subtract(b, y, mean)
    with b.when(seen > b.const(WARMUP)):
        _clamp(b, pull, float32.unpack_positive(b, b.load32(floats, _VARIANCE)))
    worst, at, limit, gain = b.copy(0), b.copy(floats), b.copy(io), b.copy(BIAS)
    with b.repeat(_SCALES):
        level = float32.unpack(b, b.load32(at))
        moved = float32.subtract(b, y, level)
        _slow(b, moved, gain, rate)
        level = float32.add(b, level, moved)
        b.store32(float32.pack(b, level), at)
        square = float32.square(b, float32.subtract(b, level, mean))
        variance = float32.unpack_positive(b, b.load32(at, _VARIANCE))
        with b.when(seen > b.const(WARMUP)):
            _judge(b, square, variance, b.load32(limit, 4 * Io.LIMITS), worst)
            _clip(b, square, variance)
        moved = float32.subtract(b, square, variance)
        _slow(b, moved, b.const(BIAS + _VARIANCE_POWER), rate)
        stored = float32.pack_positive(b, float32.add(b, variance, moved))
        b.raise_to(stored, b.load32(io, 4 * Io.FLOOR))
        b.store32(stored, at, _VARIANCE)
        at += 4
        limit += 4
        gain -= 2
    _slow(b, pull, b.const(BIAS + _MEAN_POWER), rate)
    mean = float32.add(b, mean, pull)
    b.store32(float32.pack(b, mean), floats, _MEAN)
    with b.when(seen > b.const(WARMUP)):
        _recentre(b, floats, mean)
    return worst, seen


def _count(b: Builder, floats: Reg, counts: Reg, sample: Reg) -> Reg:
    """One sample more seen, one less to hold alarms back."""
    seen = b.load32(counts, _SEEN)
    with b.when(seen.equals(0)), b.seldom():
        b.store32(sample, floats, _REFERENCE)
    with b.when(seen < b.const(_ENOUGH)):
        seen += 1
        b.store32(seen, counts, _SEEN)
    hold = b.load32(counts, HOLD)
    with b.when(hold.differs(0)):
        b.store32(hold - 1, counts, HOLD)
    return seen


def _rate(b: Builder, seen: Reg) -> Float:
    """1 / seen; 0 where every gain is larger."""
    rate = Float(b.copy(0), b.copy(0))
    with b.when(seen < b.const(1 << -_VARIANCE_POWER)), b.seldom():
        rate.assign(float32.divide(b, float32.constant(b, 1), float32.from_integer(b, seen)))
    return rate


def _slow(b: Builder, value: Float, gain: Reg, rate: Float) -> None:
    """value *= the larger of the rate and of the gain, a power of 2 that is given by its exponent."""
    with b.when(gain > rate.exponent):
        value.exponent.set(value.exponent + gain - BIAS)
    with b.otherwise(), b.seldom():
        value.assign(float32.multiply(b, value, rate))


def _clamp(b: Builder, pull: Float, variance: Float) -> None:
    """Limits the pull to 20 deviations, either way."""
    with b.when((pull.exponent << 1) - variance.exponent > BIAS + _CLIP_POWER - 2), b.seldom():
        limit = float32.multiply(b, variance, float32.constant(b, _CLIP))
        with b.when(_compared(b, float32.square(b, pull)) > _compared(b, limit)):
            reach = float32.multiply(b, float32.square_root(b, variance), float32.constant(b, _CLIP_ROOT))
            with b.when(pull.mantissa < 0):
                reach.mantissa.set(-reach.mantissa)
            pull.assign(reach)


def _judge(b: Builder, square: Float, variance: Float, limit: Reg, worst: Reg) -> None:
    """Raises `worst`, as it is stored, to square / (limit * variance)."""
    allowed = float32.unpack_positive(b, limit)
    power = square.exponent - variance.exponent
    power -= allowed.exponent
    power += b.const(2 * BIAS + 1)
    with b.when(power > worst.shifted_right(23)):  # 2^(power - BIAS) is the least that it is not above
        allowed = float32.multiply(b, allowed, variance)
        b.raise_to(worst, _compared(b, float32.divide(b, square, allowed)))


def _clip(b: Builder, square: Float, variance: Float) -> None:
    """Limits the square to what 20 deviations have."""
    with b.when(square.exponent - variance.exponent >= _CLIP_POWER), b.seldom():
        limit = float32.multiply(b, variance, float32.constant(b, _CLIP))
        with b.when(_compared(b, square) > _compared(b, limit)):
            square.assign(limit)


def _recentre(b: Builder, floats: Reg, mean: Float) -> None:
    """Moves the reference to a mean that has gone far."""
    variance = b.load32(floats, _VARIANCE)
    far = (mean.exponent << 1) - variance.shifted_right(23)
    with b.when(far > BIAS + _RECENTRE_POWER - 2), b.seldom():
        variance += b.const(_RECENTRE_POWER << 23)
        with b.when(_compared(b, float32.square(b, mean)) > variance):
            before = float32.unpack(b, b.load32(floats, _REFERENCE))
            after = float32.add(b, before, mean)
            b.store32(float32.pack(b, after), floats, _REFERENCE)
            moved = float32.subtract(b, after, before)
            b.store32(float32.pack(b, float32.subtract(b, mean, moved)), floats, _MEAN)
            at = b.copy(floats)
            with b.repeat(_SCALES):
                level = float32.unpack(b, b.load32(at))
                b.store32(float32.pack(b, float32.subtract(b, level, moved)), at)
                at += 4


def _compared(b: Builder, value: Float) -> Reg:
    """What compares as the value does, which is not negative."""
    return float32.pack_positive(b, value)
