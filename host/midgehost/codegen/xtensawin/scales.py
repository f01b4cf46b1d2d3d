"""Per channel the cheapest exact way from a raw sum to an output, and its three parameter words.

The sums that kernels accumulate are 256 times the raw ones or more: int8 values are widened into the high byte of a
half, which costs fewer instructions than the low one and is the shift to the left that the high word of a product
needs. Where weights are stored as int16 a channel may be scaled by a further power of two, until nothing is left to
round. What does not fit gets TFLM's own steps.

A channel's words: [multiplier, addend, shift | (pre - PRE) << 5 | kind << 8 | extra << 16]. The multiplier's complement
is stored unless the kind is STRAIGHT, so that its sign tells; SSR and SSL look at the lowest five bits of a shift.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.requantise import Channels, MulHigh, fit_mulhigh
from midgehost.models.quant import INT32_MAX, INT32_MIN

PRE: Final = 8  # a sum is the raw sum << PRE, at least
WORDS: Final = 3
# STRAIGHT: out = clamp((high_word(sum * multiplier) + addend) >> shift).
# BENT: y = high_word(..) + addend; y += extra where y >= 0; out = clamp((y >> shift) + zero point).
# EXACT: addend is the folded bias, multiplier the mantissa, extra the shift to the left, shift that to the right.
STRAIGHT, BENT, EXACT = range(3)


@dataclass(frozen=True)
class Scale:
    """A channel's parameters. `pre`: its sums are raw sums << pre."""

    kind: int
    multiplier: int
    addend: int
    shift: int
    extra: int = 0
    pre: int = PRE

    @property
    def words(self) -> list[int]:
        """As int32."""
        multiplier = self.multiplier if self.kind == STRAIGHT else ~self.multiplier
        rest = self.shift | (self.pre - PRE) << 5 | self.kind << 8 | self.extra << 16
        return [_int32(word) for word in (multiplier, self.addend, rest)]


def scales_of(channels: Channels, widest: NDArray[Any] | None = None) -> list[Scale]:
    """One a channel. `widest`: each channel's largest |weight|, where weights are stored as int16."""
    found: list[Scale | None] = [
        None if value is None else Scale(STRAIGHT, 0, value, 0) for value in channels.constants
    ]
    _fit(channels, found, np.full(len(channels), PRE))
    if widest is not None:
        sums = np.maximum(abs(channels.floors), abs(channels.tops))
        room = np.minimum(14 - _top_bit(widest), 30 - PRE - _top_bit(sums))
        _fit(channels, found, PRE + np.clip(room, 0, 7))
    return [scale or _exact(channels, i) for i, scale in enumerate(found)]


def _fit(channels: Channels, found: list[Scale | None], pres: NDArray[Any]) -> None:
    """Fills in lines for channels that have none yet, with these shifts to the left."""
    todo = np.array([scale is None for scale in found])
    for pre in np.unique(pres[todo]):
        for shift in np.unique(channels.shifts[todo & (pres == pre)]):
            rows = np.flatnonzero(todo & (pres == pre) & (channels.shifts == shift))
            post = int(pre) - 1 - int(shift)  # the largest for which every multiplier is an int32
            if not 1 <= post <= 31:
                continue
            some = channels.rows(rows)
            for row, line in zip(rows, fit_mulhigh(some, [post], [int(pre)]), strict=True):
                found[row] = None if line is None else _line(channels, int(row), line)


def _line(channels: Channels, row: int, line: MulHigh) -> Scale | None:
    if not line.delta:
        return Scale(STRAIGHT, line.multiplier, line.addend, line.post, pre=line.pre)
    ends = ((int(raw) << line.pre) * line.multiplier >> 32 for raw in (channels.floors[row], channels.tops[row]))
    values = [_int32(end + line.addend) - line.pivot for end in ends]
    if line.delta > 0xFFFF or min(values) < INT32_MIN or max(values) + line.delta > INT32_MAX:
        return None
    return Scale(BENT, line.multiplier, line.addend - line.pivot, line.post, line.delta, line.pre)


def _exact(channels: Channels, row: int) -> Scale:
    shift = int(channels.shifts[row])
    return Scale(EXACT, int(channels.mantissas[row]), int(channels.biases[row]), max(-shift, 0), max(shift, 0))


def words_of(scales: Iterable[Scale]) -> list[int]:
    """The parameters of channels, in order."""
    return [word for scale in scales for word in scale.words]


def _top_bit(values: NDArray[Any]) -> NDArray[np.int64]:
    """The number of the highest bit that is set; 0 for 0."""
    return np.log2(np.maximum(values, 1)).astype(np.int64)


def _int32(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)
