"""The packing's proof, by brute force: what chunks reach, and what the flush makes of the worst inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midgehost.codegen.rv32imc import packing

ROWS = st.lists(st.lists(st.integers(-128, 127), min_size=30, max_size=30), min_size=1, max_size=4)


def _wrap(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _sums(row: list[int], lengths: list[int], low: list[int], high: list[int]) -> tuple[int, int]:
    """Both sums as the kernels compute them, in int32 that wrap."""
    a = b = at = 0
    for length in lengths:
        t = 0
        for k in range(at, at + length):
            t = _wrap(t + row[k] * (low[k] + (high[k] << 16)))
        a = _wrap(a + t)
        b += _wrap(t + packing.BIAS) >> 16
        at += length
    return _wrap(a - (b << 16)), b


@given(ROWS, st.integers(1, 40), st.randoms(use_true_random=False))
def test_no_input_overflows_a_chunk(rows: list[list[int]], longest: int, random) -> None:  # type: ignore[no-untyped-def]
    lengths = packing.chunks(np.array(rows, np.int8), longest)
    assert sum(lengths) == 30
    assert min(lengths) >= 1 and max(lengths) <= longest
    row = random.choice(rows)
    greatest = [-128 if w < 0 else 127 for w in row]
    least = [127 if w < 0 else -128 for w in row]
    noise = [random.randint(-128, 127) for _ in row]
    for low in (greatest, least, noise):
        for high in (greatest, least, noise):
            wanted = tuple(sum(w * x for w, x in zip(row, xs, strict=True)) for xs in (low, high))
            assert _sums(row, lengths, low, high) == wanted


@given(ROWS)
def test_a_chunk_ends_only_where_one_more_term_could_overflow(rows: list[list[int]]) -> None:
    lengths = packing.chunks(np.array(rows, np.int8), 40)
    at = 0
    for length in lengths[:-1]:
        longer = [row[at : at + length + 1] for row in rows]
        tops = [sum(max(-128 * w, 127 * w) for w in row) for row in longer]
        floors = [sum(min(-128 * w, 127 * w) for w in row) for row in longer]
        assert max(tops) > packing.TOP or min(floors) < packing.FLOOR
        at += length


def test_a_chunk_that_is_too_long_is_noticed() -> None:
    """The proof is tight: the sums of one term too many are wrong for the worst input."""
    row, low, high = [127, 127, 3], [127] * 3, [-128] * 3
    assert packing.chunks(np.array([row], np.int8), 40) == [2, 1]
    assert _sums(row, [2, 1], low, high) == (257 * 127, 257 * -128)
    assert _sums(row, [3], low, high) != (257 * 127, 257 * -128)


@pytest.mark.parametrize(
    ("row", "pattern", "fits"),
    [
        ([127] * 9, (2, 2, 2, 2, 1), True),
        ([-128] * 9, (2, 2, 2, 2, 1), False),
        ([-128, 127] * 4 + [-128], (2, 2, 2, 2, 1), True),
        ([85, 85, 86] * 3, (3, 3, 3), True),
        ([85, 86, 86] * 3, (3, 3, 3), False),
    ],
)
def test_patterns_fit_by_their_worst_chunk(row: list[int], pattern: tuple[int, ...], fits: bool) -> None:
    assert packing.fits(np.array(row, np.int8), pattern) == fits
