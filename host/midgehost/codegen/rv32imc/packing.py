"""Two multiply-accumulates in one: the packing and the proof that it does not overflow.

A word holds two small numbers as a plain signed sum, low + 65536 * high. Multiplied by a third number w it holds both
products, and a sum of such products holds both sums, modulo 2^32. While each of the two sums stays within
FLOOR..TOP they can be told apart:

    sum + BIAS = (sum of lows - FLOOR) + 65536 * (sum of highs - 128)

where the first term is a 16-bit unsigned number and the second factor a 16-bit signed one. So the terms are cut into
chunks that no x of -128..127 drives out of FLOOR..TOP, whatever its values. At the end of each chunk the sum T is
flushed: T += BIAS; A += T; B += T >> 16. A started at `a_start` and B at `b_start` end with

    B = sum of highs,   A - (B << 16) = sum of lows        (int32 arithmetic, modulo 2^32)

Any two weights of -128..127 fit one chunk: their products reach -32512..32768.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.models.quant import INT8_MAX, INT8_MIN

FLOOR, TOP = -0x7F80, 0x807F
BIAS: Final = -FLOOR - (128 << 16)


def chunks(weights: NDArray[Any], longest: int) -> list[int]:
    """The lengths of the chunks into which K terms are cut, for rows of weights [rows, K] that share them."""
    wide = weights.astype(np.int64)
    ends = wide * INT8_MIN, wide * INT8_MAX
    # Both grow along a row, so that a search finds how far a chunk may go.
    tops = np.cumsum(np.pad(np.maximum(*ends), ((0, 0), (1, 0))), axis=1)
    floors = np.cumsum(np.pad(-np.minimum(*ends), ((0, 0), (1, 0))), axis=1)
    terms = wide.shape[1]
    lengths: list[int] = []
    at = 0
    while at < terms:
        reach = at + longest
        for top, floor in zip(tops, floors, strict=True):
            reach = min(reach, int(np.searchsorted(top, top[at] + TOP, "right")) - 1)
            reach = min(reach, int(np.searchsorted(floor, floor[at] - FLOOR, "right")) - 1)
        lengths.append(min(reach, terms) - at)
        at += lengths[-1]
    return lengths


def a_start(flushes: int) -> int:
    """What A starts at, as an int32."""
    return (-flushes * BIAS + (1 << 31)) % (1 << 32) - (1 << 31)


def b_start(flushes: int) -> int:
    """What B starts at."""
    return 128 * flushes
