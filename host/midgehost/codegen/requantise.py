"""Cheap requantise, proved exact: from raw sums to int8 with one or two multiplies instead of TFLM's double rounding.

A channel's output is a monotone function of its sum with at most 255 steps. A cheap function that is monotone too and
steps at the same sums is the same function: so a fit is proved by the true and the cheap function at every step, at
the sum before each step and at both ends of what the sums can reach, not by samples. Every cheap function here is a
line with a floor (`Line`); the shapes differ in how a core computes it.

A raw sum is sum(w * x) over int8 x without any bias; what is left (bias, input zero point) is the folded bias:
accumulator = raw + folded bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Node
from midgehost.models.ops import weighted
from midgehost.models.ops.requantise import Requantise
from midgehost.models.quant import INT32_MAX, INT32_MIN, Ints, wrap_int32
from midgehost.models.ranges import bounds

TABLE_FRACTION: Final = 12
TABLE_POST: Final = 19
CLAMP_FIRST_POSTS: Final = (21, 22)
MULHIGH_POSTS: Final = (16, 17, 15, 18, 14)  # tried in this order
_NEIGHBOURS: Final = 12  # multipliers tried on both sides of the true slope,
_STEPS_A_SUM: Final = 256  # so far apart that this many turn the line by one raw sum between first and last step
_FAR: Final = 1 << 40  # beyond any bound of an addend

Bools = NDArray[np.bool_]


def layer(node: Node) -> Channels:
    """The channels of a dense or convolution layer whose kernel sums w * x over int8 x, the zero point for padding."""
    weights = node.input(1).array()
    if node.kind == "DEPTHWISE_CONV_2D":
        weights = np.moveaxis(weights, 3, 0)
    weights = weights.reshape(len(weights), -1)
    sums = weights.sum(axis=1, dtype=np.int64)
    biases = weighted.biases(node, len(weights)) - node.input(0).zero_point * sums
    return Channels.of(weighted.stage(node), biases, *bounds(weights))


@dataclass(frozen=True)
class Channels:
    """The channels of a layer: int64 arrays of one value each, and what they share.

    `floors` and `tops` are the least and the greatest raw sum; low..high is the activation's range.
    """

    mantissas: Ints
    shifts: Ints
    biases: Ints  # folded: accumulator = raw sum + bias
    floors: Ints
    tops: Ints
    zero_point: int
    low: int
    high: int

    @classmethod
    def of(cls, stage: Requantise, biases: Ints, floors: Ints, tops: Ints) -> Channels:
        """The channels of this stage (a multiplier per tensor or per channel) with these folded biases and bounds."""
        count, biases = len(biases), wrap_int32(floors + biases) - floors
        mantissas = np.broadcast_to(np.array(stage.mantissas, np.int64), count)
        shifts = np.broadcast_to(np.array(stage.shifts, np.int64), count)
        return cls(mantissas, shifts, biases, floors, tops, stage.zero_point, stage.low, stage.high)

    def __len__(self) -> int:
        return len(self.biases)

    def rows(self, rows: Ints | slice) -> Channels:
        """Some of the channels."""
        arrays = {name: getattr(self, name)[rows] for name in ("mantissas", "shifts", "biases", "floors", "tops")}
        return replace(self, **arrays)

    @cached_property
    def stage(self) -> Requantise:
        """The true function, on accumulators."""
        return Requantise(self.mantissas.tolist(), self.shifts.tolist(), self.zero_point, self.low, self.high)

    def outputs(self, raw: Ints) -> Ints:
        """The true outputs of raw sums [channels, n]."""
        return self.stage((raw + self.biases[:, None]).T).T.astype(np.int64)

    @cached_property
    def monotone(self) -> Bools:
        """Where nothing wraps an int32 between floor and top: only there is the true function monotone."""
        small = np.maximum(abs(self.floors), abs(self.tops)) < 1 << 31
        return small & self.stage.monotone(self.floors + self.biases, self.tops + self.biases)

    @cached_property
    def constants(self) -> list[int | None]:
        """The output of each channel that has but one (zeros for weights, or all sums saturate); None for others."""
        low, high = self.outputs(np.stack([self.floors, self.tops], axis=1)).T
        same = (low == high) & (self.monotone | (self.floors == self.tops))
        return [int(value) if constant else None for value, constant in zip(low, same, strict=True)]

    @cached_property
    def steps(self) -> Steps:
        """Where the true function steps."""
        return Steps.of(self)

    def clamped(self) -> Channels:
        """The same channels for raw sums clamped to [sum before the first step, sum of the last step]."""
        first, last = self.steps.ends
        return replace(self, floors=first, tops=last)


@dataclass(frozen=True)
class Steps:
    """The steps of each channel: [channels, n] arrays; the unused places of a row are in neither mask.

    Where `reach`, `sums` is the least raw sum whose output is at least `outputs`; where `below`, the output of
    `sums - 1` is less. The ends of the reachable range are steps with one side only.
    """

    outputs: Ints
    sums: Ints
    reach: Bools
    below: Bools
    known: Bools  # [channels]; checked on the true function: no fit without
    ends: tuple[Ints, Ints]  # per channel the sum before the first step and that of the last

    @classmethod
    def of(cls, channels: Channels) -> Steps:
        first, last = channels.outputs(np.stack([channels.floors, channels.tops], axis=1)).T
        count = np.where(channels.monotone, last - first, 0)
        column = np.arange(int(count.max(initial=0)) + 2)
        outputs = first[:, None] + column
        inner = (column >= 1) & (column <= count[:, None])
        sums = np.clip(_inverse(channels, outputs), (channels.floors + 1)[:, None], channels.tops[:, None])
        at, before = channels.outputs(sums), channels.outputs(sums - 1)
        known = channels.monotone & np.where(inner, (at >= outputs) & (before < outputs), True).all(axis=1)
        begin, end = column == 0, column == count[:, None] + 1
        edge = sums[:, 1], np.take_along_axis(sums, np.maximum(count, 1)[:, None], axis=1)[:, 0]
        sums = np.where(begin, channels.floors[:, None], np.where(end, channels.tops[:, None] + 1, sums))
        return cls(
            outputs,
            sums,
            reach=inner | (begin & (first > channels.low)[:, None]),
            below=inner | (end & (last < channels.high)[:, None]),
            known=known,
            ends=(np.where(count > 0, edge[0] - 1, channels.floors), np.where(count > 0, edge[1], channels.tops)),
        )

    def rows(self, rows: Ints) -> Steps:
        """Those of some of the channels."""
        first, last = self.ends
        arrays = {name: getattr(self, name)[rows] for name in ("outputs", "sums", "reach", "below", "known")}
        return Steps(**arrays, ends=(first[rows], last[rows]))


def _inverse(channels: Channels, outputs: Ints) -> Ints:
    """The least raw sum whose unclamped output is at least this: TFLM's two roundings, solved for the sum.

    The first, floor((a * m + 2^30) / 2^31), takes ties up; the second, x / 2^e, takes them away from zero.
    """
    mantissas = np.maximum(channels.mantissas, 1)[:, None]
    exponents, lefts = np.maximum(-channels.shifts, 0)[:, None], np.maximum(channels.shifts, 0)[:, None]
    wanted = outputs - channels.zero_point
    half = (np.int64(1) << exponents) >> 1
    scaled = (wanted << exponents) - half + ((wanted <= 0) & (exponents > 0))
    scaled = np.clip(scaled, INT32_MIN, INT32_MAX)
    accumulators = -(((1 << 30) - (scaled << 31)) // mantissas)
    return -((-accumulators) >> lefts) - channels.biases[:, None]


@dataclass(frozen=True)
class Line:
    """y = floor(raw * multiplier / 2^fraction) + addend; from `pivot` on y + delta; output = y >> post, clamped.

    `delta` is 0 where no output is below the zero point: ties go away from zero. `addend` holds the folded bias.
    """

    multiplier: int
    addend: int
    delta: int
    pivot: int
    fraction: int
    post: int


@dataclass(frozen=True)
class MulHigh(Line):
    """A line by one 32 x 32 -> high 32 multiply (SMMLA, mulh, MULSH); raw << pre and y are int32, no sum wraps but
    the one with the addend may modulo 2^32 on its way:

        y = high_word((raw << pre) * multiplier) + addend
        if y >= pivot: y += delta           (left out where delta is 0; pivot = zero point << post)
        out = clamp(y >> post, low, high)   (y >> post may be any int32; the zero point is in it)
    """

    pre: int


@dataclass(frozen=True)
class Table(Line):
    """A line by two 32-bit multiplies, multiplier = (coarse << 12) + fine, and a table of clamped outputs. raw * fine
    and v are int32; the other terms may wrap modulo 2^32 on the way.

        v = raw * coarse + addend + ((raw * fine) >> 12)
        if v >= 0: v += delta               (left out where delta is 0)
        out = table[v >> 19]                table[i] = clamp(zero point + i, low, high), first <= i <= last
    """

    first: int
    last: int

    @property
    def coarse(self) -> int:
        return self.multiplier >> TABLE_FRACTION

    @property
    def fine(self) -> int:
        return self.multiplier & ((1 << TABLE_FRACTION) - 1)


@dataclass(frozen=True)
class ClampFirst(Line):
    """A line by two 32-bit multiplies on a clamped sum; int32 as in `Table`. No table and no clamp follow: the output
    is within low..high.

        raw = min(max(raw, floor), top)
        v = raw * coarse + addend + ((raw * fine) >> 12)
        if v >= pivot: v += delta           (left out where delta is 0; pivot = zero point << post)
        out = v >> post                     (the zero point is in it)
    """

    floor: int
    top: int

    @property
    def coarse(self) -> int:
        return self.multiplier >> TABLE_FRACTION

    @property
    def fine(self) -> int:
        return self.multiplier & ((1 << TABLE_FRACTION) - 1)


def fit_mulhigh(
    channels: Channels, posts: Sequence[int] = MULHIGH_POSTS, pres: Sequence[int] | None = None
) -> list[MulHigh | None]:
    """One line per channel by a multiply that keeps the high word; all of a layer have the same `pre` and `post`.

    They are the first that fit all channels, or else those that fit most. None where a line does not fit, and for
    constants. A kernel that has some `pres` only names them.
    """
    live = np.array([constant is None for constant in channels.constants], bool)
    widest = np.maximum(abs(channels.floors), abs(channels.tops))[live & channels.steps.known]
    rooms = sorted({31 - int(width).bit_length() for width in widest}, reverse=True)
    best: list[MulHigh | None] = [None] * len(channels)
    for post in posts:
        for pre in rooms if pres is None else pres:
            lines = _mulhigh(channels, post, pre)
            if _count(lines) > _count(best):
                best = lines
            if _count(best) == live.sum():
                return best
    return best


def _count(lines: Sequence[Line | None]) -> int:
    return sum(line is not None for line in lines)


def _mulhigh(channels: Channels, post: int, pre: int) -> list[MulHigh | None]:
    lines = _lines(channels, Shape(32 - pre, post, channels.zero_point << post))
    found: list[MulHigh | None] = []
    for i, line in enumerate(lines):
        fits = _int32(int(channels.floors[i]) << pre, int(channels.tops[i]) << pre)
        found.append(MulHigh(**vars(line), pre=pre) if line is not None and fits else None)
    return found


def fit_table(channels: Channels) -> list[Table | None]:
    """One line per channel by two multiplies and a table. None where nothing fits, and for constants."""
    found: list[Table | None] = []
    for i, line in enumerate(_lines(channels, Shape(TABLE_FRACTION, TABLE_POST, 0))):
        ends = int(channels.floors[i]), int(channels.tops[i])
        if line is None or not _fine_product_fits(line, *ends):
            found.append(None)
            continue
        first, last = (_value(line, raw) >> TABLE_POST for raw in ends)
        found.append(Table(**vars(line), first=first, last=last))
    return found


def fit_clamp_first(channels: Channels) -> list[ClampFirst | None]:
    """One line per channel by two multiplies on a clamped sum. None where nothing fits, and for constants."""
    found: list[ClampFirst | None] = [None] * len(channels)
    clamped = channels.clamped()
    for post in CLAMP_FIRST_POSTS:
        lines = _lines(clamped, Shape(TABLE_FRACTION, post, channels.zero_point << post))
        for i, line in enumerate(lines):
            ends = int(clamped.floors[i]), int(clamped.tops[i])
            if found[i] is None and line is not None and _fine_product_fits(line, *ends):
                found[i] = ClampFirst(**vars(line), floor=ends[0], top=ends[1])
    return found


def _fine_product_fits(line: Line, *ends: int) -> bool:
    fine = line.multiplier & ((1 << TABLE_FRACTION) - 1)
    return _int32(*(raw * fine for raw in ends))


def _value(line: Line, raw: int) -> int:
    y = int(wrap_int32(np.array(((raw * line.multiplier) >> line.fraction) + line.addend)))
    return y + line.delta if y >= line.pivot else y


def _int32(*values: int) -> bool:
    return all(INT32_MIN <= value <= INT32_MAX for value in values)


@dataclass(frozen=True)
class Shape:
    """What the lines of a layer share, see `Line`. The pivot is also the value y that the zero point has."""

    fraction: int
    post: int
    pivot: int


def _lines(channels: Channels, shape: Shape) -> list[Line | None]:
    """A line per channel, proved; None where none was found, and for constants."""
    lines: list[Line | None] = [None] * len(channels)
    slopes = channels.mantissas * 2.0 ** (shape.fraction + shape.post - 31 + channels.shifts)
    first, last = channels.steps.ends
    apart = np.maximum(1, slopes / (_STEPS_A_SUM * np.maximum(last - first, 1)))
    todo = np.array([constant is None for constant in channels.constants], bool) & channels.steps.known
    todo &= slopes + _NEIGHBOURS * apart < INT32_MAX
    for distance in sorted(range(-_NEIGHBOURS, _NEIGHBOURS + 1), key=abs):
        rows = np.flatnonzero(todo)
        if not len(rows):
            break
        multipliers = np.rint(slopes[rows] + distance * np.floor(apart[rows])).astype(np.int64)
        tried = _lines_of(channels.rows(rows), channels.steps.rows(rows), multipliers, shape)
        for row, line in zip(rows, tried, strict=True):
            if line is not None:
                lines[row] = line
                todo[row] = False
    return lines


def _lines_of(channels: Channels, steps: Steps, multipliers: Ints, shape: Shape) -> list[Line | None]:
    """The lines with these multipliers, proved.

    Every step bounds the addend from both sides; a step to an output above the zero point bounds addend + delta.
    """
    slope = multipliers[:, None]
    target = ((steps.outputs - channels.zero_point) << shape.post) + shape.pivot
    least = target - ((steps.sums * slope) >> shape.fraction)
    most = target - 1 - (((steps.sums - 1) * slope) >> shape.fraction)
    above = steps.outputs > channels.zero_point
    low0, high0 = _common(least, most, steps.reach & ~above, steps.below & ~above)
    low1, high1 = _common(least, most, steps.reach & above, steps.below & above)
    straight = np.maximum(low0, low1) <= np.minimum(high0, high1)
    natural = np.floor(2.0 ** (shape.post + channels.shifts)).astype(np.int64)
    delta = np.where(straight, 0, np.clip(natural, low1 - high0, high1 - low0))
    low, high = np.maximum(low0, low1 - delta), np.minimum(high0, high1 - delta)
    addends = (low + high) >> 1
    fits = (multipliers >= 0) & (delta >= 0) & proved(channels, steps, multipliers, addends, delta, shape)
    return [
        Line(int(multiplier), int(addend), int(bend), shape.pivot, shape.fraction, shape.post) if fit else None
        for multiplier, addend, bend, fit in zip(multipliers, wrap_int32(addends), delta, fits, strict=True)
    ]


def _common(least: Ints, most: Ints, reach: Bools, below: Bools) -> tuple[Ints, Ints]:
    """The range that all steps of a row leave; far apart where nothing bounds it."""
    return np.where(reach, least, -_FAR).max(axis=1), np.where(below, most, _FAR).min(axis=1)


def proved(channels: Channels, steps: Steps, multipliers: Ints, addends: Ints, delta: Ints, shape: Shape) -> Bools:
    """The proof: where line and true function agree at every step, before it and at both ends, and no y overflows."""
    ends = np.stack([channels.floors, channels.tops], axis=1)
    inner = steps.reach & steps.below
    sums, before = np.where(inner, steps.sums, ends[:, :1]), np.where(inner, steps.sums - 1, ends[:, 1:])
    raw = np.concatenate([sums, before, ends], axis=1)
    y = ((raw * multipliers[:, None]) >> shape.fraction) + addends[:, None]
    bent = np.where(y >= shape.pivot, y + delta[:, None], y)
    outputs = ((bent - shape.pivot) >> shape.post) + channels.zero_point
    same = np.clip(outputs, channels.low, channels.high) == channels.outputs(raw)
    return (same & (y >= INT32_MIN) & (bent <= INT32_MAX)).all(axis=1)
