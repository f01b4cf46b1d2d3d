"""From sums to int8 outputs, in registers: two ways, both exact.

`Line` is a proved fit (`codegen.requantise`): SMMLA, a shift, SSAT. It is for layers whose channels all have one, use
the whole int8 range, and have outputs on one side of the zero point. `Exact` is TFLM's own arithmetic, two
instructions longer: SRDHM(acc, m) = floor((acc * m + 2^30) / 2^31) is SMMULR of twice the accumulator, and
RoundingDivideByPOT(v, s) = floor((v - (v < 0) + 2^(s - 1)) / 2^s) for s >= 1; the zero point is in the addend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from midgehost.codegen import requantise
from midgehost.codegen.requantise import Channels
from midgehost.models.quant import INT8_MAX, INT8_MIN

_MOST_SHIFT: Final = 22  # the addend, 2^(s - 1) + (zero point << s), is an int32


@dataclass(frozen=True)
class Line:
    """y = high word of (sum << pre) * multiplier + addend, output = y >> post; rows of (multiplier, addend)."""

    pre: int
    post: int
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Exact:
    """TFLM's arithmetic: rows of (mantissa, addend, shift), a bias to start each sum from, and the range of outputs."""

    rows: tuple[tuple[int, int, int], ...]
    biases: tuple[int, ...]
    low: int
    high: int

    @property
    def clamps(self) -> bool:
        """Whether outputs have less than the range of int8."""
        return (self.low, self.high) != (INT8_MIN, INT8_MAX)


Stage = Line | Exact


def line_stage(channels: Channels, pre: int | None = None, post: int | None = None) -> Line | None:
    """The fits of all channels, None unless there are. `pre` and `post` are asked for, or found."""
    if (channels.low, channels.high) != (INT8_MIN, INT8_MAX):
        return None
    posts = requantise.MULHIGH_POSTS if post is None else (post,)
    lines = requantise.fit_mulhigh(channels, posts, None if pre is None else (pre,))
    shape = next(((line.pre, line.post) for line in lines if line is not None), (8, 16))
    rows: list[tuple[int, int]] = []
    for line, constant in zip(lines, channels.constants, strict=True):
        if constant is not None:
            rows.append((0, constant << shape[1]))
        elif line is None or line.delta:
            return None
        else:
            rows.append((line.multiplier, line.addend))
    return Line(*shape, tuple(rows))


def exact_stage(channels: Channels, sum_bits: int) -> Exact | None:
    """The channels' own multipliers, None where one shifts left or too far, or has a sum of 2^sum_bits or more.

    `sum_bits` is 30 at most: SMMULR takes twice the sum.
    """
    rows: list[tuple[int, int, int]] = []
    biases: list[int] = []
    for i, constant in enumerate(channels.constants):
        mantissa, shift, bias = int(channels.mantissas[i]), -int(channels.shifts[i]), int(channels.biases[i])
        if constant is not None:
            rows.append((0, 2 * constant, 1))
            biases.append(0)
            continue
        ends = int(channels.floors[i]) + bias, int(channels.tops[i]) + bias
        if mantissa < 0 or not 1 <= shift <= _MOST_SHIFT or max(map(abs, ends)) >= 1 << sum_bits:
            return None
        rows.append((mantissa, (1 << shift - 1) + (channels.zero_point << shift), shift))
        biases.append(bias)
    return Exact(tuple(rows), tuple(biases), channels.low, channels.high)
