"""Four rows of int8 weights as a stream of words, a byte a weight: two rows share a word.

A word holds two columns of a row pair, as two halves 256 * a + b of the signed weights a (of the odd row) and b. SMLAD
with two int16 activations adds 256 * a*x + b*x to a sum P; SXTB16 leaves the low bytes b, and SMLAD adds b*x to a sum
B. In the end P - B is 256 * sum(a*x) modulo 2^32, so exact while |sum(a*x)| < 2^23. Four multiply-accumulates take a
load, an extension and two SMLADs; for more pixels only the SMLADs are repeated.

Where sums may be larger, or a = -128 meets b < 0 (then the half is no int16), the matrix is `wide`: the halves hold the
two bytes as they are, and a second SXTB16 takes out a.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen import requantise
from midgehost.codegen.armv7emsp.stage import Line, Stage, exact_stage, line_stage
from midgehost.codegen.requantise import Channels
from midgehost.models.graph import Node

_T = TypeVar("_T")

ROWS: Final = 4  # of a group
COLUMNS: Final = 4  # of a quad: what one word of int8 activations holds


def live_rows(weights: NDArray[Any], channels: Channels) -> NDArray[Any]:
    """The weights [rows, ...] as [rows, columns], with zeros for the rows whose output is constant."""
    dead = np.array([constant is not None for constant in channels.constants])
    return np.where(dead[:, None], np.int8(0), weights.reshape(len(weights), -1))


def first_rows(rows: int) -> list[int]:
    """The first row of each group. The last group computes some rows again where four do not divide them."""
    return [*range(0, rows - ROWS + 1, ROWS), *([rows - ROWS] if rows > ROWS and rows % ROWS else [])] or [0]


@dataclass(frozen=True)
class Matrix:
    """The weights [rows, columns] of a dense layer or a convolution, zeros in rows whose output is constant."""

    weights: NDArray[np.int8]
    stage: Stage
    wide: bool

    @classmethod
    def of(cls, node: Node) -> Matrix | None:
        """The matrix of a FULLY_CONNECTED or CONV_2D, None where no stage fits."""
        channels = requantise.layer(node)
        weights = live_rows(node.input(1).array(), channels)
        line = line_stage(channels)
        odd_halves = any(((rows[1::2] == -128) & (rows[::2] < 0)).any() for _, rows in _grouped(weights))
        for wide, least_pre, sum_bits in ((False, 8, 23), (True, 0, 30)):
            stage = line if line is not None and line.pre >= least_pre else exact_stage(channels, sum_bits)
            if stage is not None and (wide or not odd_halves):
                return cls(weights, stage, wide)
        return None

    @property
    def quads(self) -> int:
        """How many words of int8 activations a row takes."""
        return -(-self.weights.shape[1] // COLUMNS)

    def groups(self, in_order: bool = False) -> list[bytes]:
        """The stream, group by group.

        For `Exact` the sums' start; the weights, a quad of columns at a time (0 and 2, then 1 and 3, unless they stay
        `in_order`); the stage's constants, row by row; the first row's number.
        """
        found: list[bytes] = []
        for first, rows in _grouped(self.weights):
            rows = rows.reshape(2, 2, -1, 2, 2)  # pair, row of it, quad, two, column of them
            low, high = (rows if not in_order else rows.swapaxes(3, 4)).swapaxes(0, 1)
            halves = high * 256 + (low & 255 if self.wide else low)
            found.append(
                self._starts(first)
                + np.ascontiguousarray(halves.transpose(1, 3, 0, 2), "<i2").tobytes()  # quad, word, pair, half
                + _constants(self.stage, first)
                + struct.pack("<i", first)
            )
        return found

    def _starts(self, first: int) -> bytes:
        """The sums P of both row pairs, then the sums B."""
        if isinstance(self.stage, Line):
            return b""
        low0, high0, low1, high1 = _of_group(self.stage.biases, first, 0)
        starts = high0, high1, low0, low1
        if not self.wide:
            starts = 256 * high0 + low0, 256 * high1 + low1, low0, low1
        return struct.pack("<4I", *(start & 0xFFFFFFFF for start in starts))


def _grouped(weights: NDArray[Any]) -> list[tuple[int, NDArray[np.int16]]]:
    """The first row and the rows of each group, with rows and columns of zeros where weights are missing."""
    rows, columns = weights.shape
    padding = (0, max(0, ROWS - rows)), (0, -columns % COLUMNS)
    padded = np.pad(weights.astype(np.int16), padding)
    return [(first, padded[first : first + ROWS]) for first in first_rows(rows)]


def _constants(stage: Stage, first: int) -> bytes:
    empty: tuple[int, ...] = (0, 0) if isinstance(stage, Line) else (0, 0, 1)
    rows: Sequence[tuple[int, ...]] = stage.rows
    words = [word for row in _of_group(rows, first, empty) for word in row]
    return struct.pack(f"<{len(words)}i", *words)


def _of_group(values: Sequence[_T], first: int, empty: _T) -> list[_T]:
    group = list(values[first : first + ROWS])
    return group + [empty] * (ROWS - len(group))
