"""The memory of contexts: what firmware/midge/anomaly/contexts.py and ContextZScore make of one value."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.signal import float32
from midgehost.codegen.signal.float32 import BIAS, Float

_TRACKS: Final = 2
_TRACK_BYTES, _LASTS = 89, 3  # of the events, and of the last levels of a track
_PAIRS, _TRIPLES, _STAYS = 8, 72, 584  # bits
_LONGEST: Final = 1 << 15  # the last stay that has a bit
_SURPRISING: Final = 8  # the first stay that surprises
_LEVEL_BITS: Final = 3
_FORGETTING: Final = 50  # samples that the usual surprise averages over
EXPECTED: Final = 0.05  # an excess up to here is none


class Memory(IntEnum):
    """The floats of ContextZScore."""

    REFERENCE, LOW, PER_UNIT, SMOOTH, USUAL, VALUE, CONTEXT = range(7)


def load(b: Builder, memory: Reg, which: Memory) -> Float:
    """One of the floats."""
    return float32.unpack(b, b.load32(memory, 4 * which))


class Contexts:
    """The floats that one value after another is compared with, kept in registers."""

    def __init__(self, b: Builder, memory: Reg, seen: Reg, last: Reg, stay: Reg) -> None:
        self._b = b
        self._memory = memory
        self._tables = (seen, last, stay)
        self._low, self._per_unit = load(b, memory, Memory.LOW), load(b, memory, Memory.PER_UNIT)
        self._smooth, self._usual = load(b, memory, Memory.SMOOTH), load(b, memory, Memory.USUAL)

    def surprise(self, y: Float) -> Float:
        """How much more surprising than usual the contexts of y are."""
        b, smooth, usual = self._b, self._smooth, self._usual
        moved = float32.subtract(b, y, smooth)
        smooth.assign(float32.add(b, smooth, Float(moved.exponent - 1, moved.mantissa)))
        points = b.copy(0)
        track = _Track(b, points, *map(b.copy, self._tables))
        on_track = Float(b.copy(y.exponent), b.copy(y.mantissa))
        with b.repeat(_TRACKS):
            track.visit(self._level(on_track))
            track.advance()
            on_track.assign(smooth)
        excess = Float(b.copy(usual.exponent), -usual.mantissa)
        with b.when(points.differs(0)), b.seldom():
            halves = float32.from_integer(b, points)
            excess.assign(float32.add(b, excess, Float(halves.exponent - 1, halves.mantissa)))
        usual.assign(float32.add(b, usual, _share(b, excess)))
        return excess

    def store(self) -> None:
        """Leaves in memory what has changed."""
        b = self._b
        b.store32(float32.pack(b, self._smooth), self._memory, 4 * Memory.SMOOTH)
        b.store32(float32.pack(b, self._usual), self._memory, 4 * Memory.USUAL)

    def _level(self, y: Float) -> Reg:
        """The level of a value, 0 to 7."""
        b = self._b
        above = float32.multiply(b, float32.subtract(b, y, self._low), self._per_unit)
        level = b.copy(0)
        with b.when(above.mantissa > 0):
            with b.when(above.exponent >= BIAS + _LEVEL_BITS):
                level.set((1 << _LEVEL_BITS) - 1)
            with b.otherwise():
                level.set(float32.to_integer(b, above))
                b.lower(level, (1 << _LEVEL_BITS) - 1)
        return level


def _share(b: Builder, excess: Float) -> Float:
    """excess / 50."""
    sign = excess.mantissa >> 31
    magnitude = Float(excess.exponent, (excess.mantissa ^ sign) - sign)
    share = float32.divide_by(b, magnitude, _FORGETTING)
    return Float(share.exponent, (share.mantissa ^ sign) - sign)


class _Track:
    """The events of a track: bits that are set once, and what the first time is worth, in half-points."""

    def __init__(self, b: Builder, points: Reg, seen: Reg, last: Reg, stay: Reg) -> None:
        self._b = b
        self._points = points
        self._seen, self._last, self._stay = seen, last, stay

    def advance(self) -> None:
        """To the next track."""
        self._seen += _TRACK_BYTES
        self._last += _LASTS
        self._stay += 2

    def visit(self, level: Reg) -> None:
        """The track is at a level."""
        b = self._b
        before = b.load8u(self._last)
        with b.when(level.differs(before)):
            earlier = b.load8u(self._last, 1)
            b.store8(level, self._last)
            b.store8(before, self._last, 1)
            b.store8(earlier, self._last, 2)
            b.store16(b.const(1), self._stay)
            pair = (before << _LEVEL_BITS) | level
            self._meet(level, 2)
            self._meet(pair + _PAIRS, 4)
            self._meet(((earlier << 2 * _LEVEL_BITS) | pair) + _TRIPLES, 1)
        with b.otherwise():
            stay = b.load16u(self._stay)
            with b.when(stay.differs(b.const(_LONGEST))):
                stay += 1
                b.store16(stay, self._stay)
                with b.when((stay & (stay - 1)).equals(0)), b.seldom():
                    self._stayed(level, stay)

    def _stayed(self, level: Reg, stay: Reg) -> None:
        """The stay has reached a power of 2."""
        b = self._b
        event, left, points = (level << 4) + b.const(_STAYS - 1), b.copy(stay), b.copy(self._points)
        with b.loop_while(left.differs(0)):
            left.set(left.shifted_right(1))
            event += 1
        self._meet(event, 2)
        with b.when(stay < _SURPRISING):
            self._points.set(points)

    def _meet(self, event: Reg, worth: int) -> None:
        """Adds `worth` if the event is new."""
        b = self._b
        at = self._seen + event.shifted_right(3)
        mask = b.const(1) << (event & b.const(7))
        bits = b.load8u(at)
        with b.when((bits & mask).equals(0)), b.seldom():
            b.store8(bits | mask, at)
            self._points += worth
