"""Walks: how a kernel steps through strided operands, as few and as long inner loops as the shapes allow.

The device side is in firmware/midge/kernels/*/elementwise.py and move.py: rows of `inner` elements, and for a row's
number its place in the outer dimensions by division, fastest dimension first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

_LONGEST_ROW = 256  # rows are what a plan can cut: not one row for a whole tensor


@dataclass(frozen=True)
class Dimension:
    """One nested loop: how often, and how far each operand moves."""

    size: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Walk:
    """`rows` times an inner loop. `words` is the walk as kernels read it."""

    inner: Dimension
    outer: tuple[Dimension, ...]  # fastest first

    @property
    def rows(self) -> int:
        return prod(d.size for d in self.outer)

    @property
    def words(self) -> list[int]:
        flat = [self.inner.size, len(self.outer), *self.inner.strides]
        for dimension in self.outer:
            flat += [dimension.size, *dimension.strides]
        return flat


def contiguous_strides(shape: Sequence[int]) -> list[int]:
    """Row-major strides in elements."""
    return [prod(shape[i + 1 :]) for i in range(len(shape))]


def broadcast_strides(shape: Sequence[int], target: Sequence[int]) -> list[int]:
    """The strides with which a tensor of `shape` is read as `target` (numpy's broadcasting; 0 repeats)."""
    padded = [1] * (len(target) - len(shape)) + list(shape)
    return [0 if n == 1 else s for n, s in zip(padded, contiguous_strides(padded), strict=True)]


def merge(dimensions: Iterable[Dimension]) -> list[Dimension]:
    """Dimensions given slowest first; what all operands can walk as one is one. Fastest first."""
    merged: list[Dimension] = []
    for dimension in reversed(list(dimensions)):
        last = merged[-1] if merged else None
        if dimension.size == 1:
            continue
        if last is not None and all(a == b * last.size for a, b in zip(dimension.strides, last.strides, strict=True)):
            merged[-1] = Dimension(last.size * dimension.size, last.strides)
        else:
            merged.append(dimension)
    return merged


def plan_walk(shape: Sequence[int], *strides: Sequence[int]) -> Walk:
    """The walk over `shape` with these strides of each operand; a long contiguous run is cut into equal rows."""
    merged = merge(Dimension(n, tuple(steps)) for n, *steps in zip(shape, *strides, strict=True))
    if not merged:
        return Walk(Dimension(1, tuple(0 for _ in strides)), ())
    inner, *outer = merged
    if inner.size > _LONGEST_ROW:
        length = next(n for n in range(_LONGEST_ROW, 0, -1) if inner.size % n == 0)
        if length >= 16:
            outer.insert(0, Dimension(inner.size // length, tuple(s * length for s in inner.strides)))
            inner = Dimension(length, inner.strides)
    return Walk(inner, tuple(outer))
