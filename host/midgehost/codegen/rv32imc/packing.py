"""Two multiply-accumulates in one: the packing and the proof that it does not overflow.

A word holds two small numbers as a plain signed sum, low + 65536 * high. Multiplied by a third number it holds both
products, and a sum T of such products holds both sums, modulo 2^32. While each of the two sums is an int16 they can be
told apart: T + BIAS = (sum of lows + 32768) + 65536 * (sum of highs), where the first term is an unsigned 16-bit
number, so that (T + BIAS) >> 16 is the sum of highs.

The terms are cut into chunks whose sums no x of -128..127 drives out of int16, whatever its values: at the end of each
one T is flushed, A += T and B += (T + BIAS) >> 16. In the end B is the sum of all highs, and A - (B << 16) that of all
lows (int32 arithmetic, modulo 2^32). A chunk of one term always fits, two do unless both weights are -128.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.models.quant import INT8_MAX, INT8_MIN

FLOOR, TOP = -0x8000, 0x7FFF
BIAS: Final = 0x8000


def chunks(weights: NDArray[Any], longest: int) -> list[int]:
    """The lengths of the chunks into which K terms are cut, for rows of weights [rows, K] that share them."""
    greatest, least = _extremes(weights)
    # Both grow along a row, so that a search finds how far a chunk may go.
    tops = np.cumsum(np.pad(greatest, ((0, 0), (1, 0))), axis=1)
    floors = np.cumsum(np.pad(-least, ((0, 0), (1, 0))), axis=1)
    terms = weights.shape[1]
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


def fits(weights: NDArray[Any], chunk_lengths: Sequence[int]) -> bool:
    """Whether one row of weights may be cut into chunks of these lengths."""
    cuts = np.cumsum([0, *chunk_lengths[:-1]])
    greatest, least = (np.add.reduceat(extreme, cuts) for extreme in _extremes(weights))
    return bool((greatest <= TOP).all() and (least >= FLOOR).all())


def _extremes(weights: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The greatest and the least product of each weight."""
    wide = weights.astype(np.int64)
    ends = wide * INT8_MIN, wide * INT8_MAX
    return np.maximum(*ends), np.minimum(*ends)
