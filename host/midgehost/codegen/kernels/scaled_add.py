"""ADD without a multiplication: both tables hold values in fractions of an output step, and a sum is shifted down.

TFLM rounds a sum's product twice, halves away from zero; here a sum is rounded once. The two can differ only where a
sum lies next to a rounding's edge, and there are 65,536 sums: the host compares them all, for as many bits of fraction
as fit, with a nudge or without. Where none agrees everywhere (none of thousands of operators tried) the kernel is the
exact one of `elementwise.add`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from midgehost.models.quant import INT32_MAX, multiply_by_quantized_multiplier

_MOST_BITS, _LEAST_BITS = 26, 8
_NUDGES: Final = (0, 1, -1, 2, -2)


def scaled(params: Sequence[int], tables_at: int) -> list[int] | None:
    """ADD's parameters with 3 the rounding and the zero point, 4 the bits of fraction, and scaled tables; or None."""
    low, high, zero, mantissa, shift = params[1:6]
    tables = np.array(params[tables_at:], np.int64).reshape(2, 256)
    sums = tables[0][:, None] + tables[1][None, :]
    wanted = np.clip(multiply_by_quantized_multiplier(sums, mantissa, shift) + zero, low, high)
    for bits in range(_MOST_BITS, _LEAST_BITS - 1, -1):
        down = 31 - shift - bits  # at least 5: the shift is never to the left
        fine = (tables * mantissa + (1 << down >> 1)) >> down  # below 2^60: a table's values are below 2^28
        reach = int(np.abs(fine).max(axis=1).sum()) + (abs(zero) + 1 << bits)
        if reach + 2 > INT32_MAX:
            continue
        values = fine[0][:, None] + fine[1][None, :]
        values += values >> 31  # halves go away from zero
        for nudge in _NUDGES:
            rounding = (1 << bits >> 1) + (zero << bits) + nudge
            if np.array_equal(np.clip((values + rounding) >> bits, low, high), wanted):
                return [*params[:3], rounding, bits, *params[5:tables_at], *fine.reshape(-1).tolist()]
    return None
