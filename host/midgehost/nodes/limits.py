"""What numbers and texts a board can work with: the limits that `schema` and `drivers` hang on their keys."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from midgehost.errors import NodeFileError

LARGEST_FLOAT = 3.4028234e38  # a board's floats are single precision
LARGEST_COUNT = 0x0FFFFFFF  # as firmware/midge/sampling.py counts: small ints with room for a sum
LARGEST_SIGNAL = 1_000_000_000_000  # firmware/midge/anomaly/finite.py: no sensor says more
SLOWEST_HZ, FASTEST_HZ = 0.00001, 1000  # firmware/midge/sampling.py: what a timer callback in bytecode keeps up with
LONGEST_S = 100_000  # one sample at SLOWEST_HZ; ticks_ms tells 149 hours apart
LAST_PIN = 54  # ESP32-P4; no supported board numbers its pins higher


@dataclass(frozen=True)
class Within:
    """A number from `low` to `high`; with `or_zero` also 0, which then means absent. `do` is what an error advises."""

    low: float
    high: float
    do: str = ""
    or_zero: bool = False

    def check(self, where: str, value: float) -> None:
        if self.low <= value <= self.high or (self.or_zero and value == 0):
            return
        size = "small" if value < self.low else "large"
        raise NodeFileError(where, f"{value} is too {size}", self.do or f"Write {self.low} to {self.high}.")


@dataclass(frozen=True)
class Text:
    """A text of at most `longest` characters; printable ones unless it is `free`, and not empty if it is `needed`."""

    longest: int
    free: bool = False
    needed: bool = True

    def check(self, where: str, value: str) -> None:
        if self.needed and not value:
            raise NodeFileError(where, "it is empty", "Write a text.")
        if len(value) > self.longest:
            what = f"its {len(value):,} characters are too many"
            raise NodeFileError(where, what, f"Write at most {self.longest}.")
        if not (self.free or value.isprintable()):
            raise NodeFileError(where, f"{value!r} has characters that do not print", "Leave them out.")


def check_number(where: str, value: float) -> None:
    """Refuses what is no number on a board: infinity, NaN, what single precision cannot hold. Raises NodeFileError."""
    if isinstance(value, float) and not isfinite(value):
        what = f"{value} is no number to work with"
    elif abs(value) > LARGEST_FLOAT:
        what = "the number is too large"  # and may have more digits than anyone wants to read
    else:
        return
    raise NodeFileError(where, what, "Write a finite number, of at most 3.4e38.")
