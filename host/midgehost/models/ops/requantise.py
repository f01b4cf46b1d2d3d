"""From int32 sums to int8 outputs: the last stage of every kernel that multiplies and accumulates.

On the board the stage is a run of parameters: zero point, low, high, step, then a bias per channel, then (mantissa,
shift) once (step 0) or per channel (step 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midgehost.models.quant import (
    INT8_MAX,
    INT8_MIN,
    INT32_MAX,
    INT32_MIN,
    Ints,
    multiply_by_quantized_multiplier,
    wrap_int32,
)

# Outputs whose int32 sums are held at a time: enough to make a call to the rescaling kernel cheap.
HELD_SUMS = 64


@dataclass(frozen=True)
class Requantise:
    """(sum + bias) * mantissa * 2^(shift - 31) + zero point, within low..high, along the last axis.

    Every step is an int32 that wraps, as TFLM's is on its hosts and the kernels' on boards.
    """

    mantissas: Sequence[int]  # one, or one per channel
    shifts: Sequence[int]
    zero_point: int
    low: int = INT8_MIN
    high: int = INT8_MAX

    def __call__(self, sums: Ints) -> NDArray[Any]:
        """The int8 outputs of int32 sums that already hold their bias."""
        mantissas, shifts = np.array(self.mantissas, np.int64), np.array(self.shifts, np.int64)
        scaled = multiply_by_quantized_multiplier(wrap_int32(sums), mantissas, shifts)
        return np.clip(wrap_int32(scaled + self.zero_point), self.low, self.high).astype(np.int8)

    def monotone(self, lows: Ints, highs: Ints) -> NDArray[np.bool_]:
        """Per channel: whether nothing wraps an int32 for sums within lows..highs, so that outputs rise with them."""
        mantissas, shifts = np.array(self.mantissas, np.int64), np.array(self.shifts, np.int64)
        safe = (np.minimum(lows, -highs) > INT32_MIN) & (np.maximum(-lows, highs) <= INT32_MAX)
        shifted = [np.where(safe, end, 0) << np.clip(shifts, 0, 30) for end in (lows, highs)]
        # A result is no larger than the shifted sum: what is left of the int32 has room for the zero point.
        room = np.maximum(abs(shifted[0]), abs(shifted[1])) < INT32_MAX - 256
        return (mantissas == 0) | (safe & room & (mantissas > 0) & (shifts >= -31) & (shifts <= 30))

    def span(self, lows: Ints, highs: Ints) -> tuple[Ints, Ints]:
        """The least and the greatest output of each channel for sums within lows..highs, which wrap an int32."""
        lows, highs = wrap_int32(lows), highs + wrap_int32(lows) - lows
        known = self.monotone(lows, highs) | (lows == highs)
        ends = self(lows).astype(np.int64), self(highs).astype(np.int64)
        return np.where(known, ends[0], self.low), np.where(known, ends[1], self.high)

    def words(self, biases: Ints) -> list[int]:
        """The stage's parameters for these biases, which wrap as the board's sums do."""
        step = 0 if len(self.mantissas) == 1 else 2
        scales = [word for scale in zip(self.mantissas, self.shifts, strict=True) for word in scale]
        return [self.zero_point, self.low, self.high, step, *(int(b) for b in wrap_int32(biases)), *scales]
