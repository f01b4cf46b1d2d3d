"""The recording of the first samples: firmware/midge/anomaly/probation.py."""

from __future__ import annotations

from typing import Final

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.signal import float32
from midgehost.codegen.signal.float32 import Float

_BASE, _STEP, _LOW, _HIGH = 0, 4, 8, 12  # byte offsets in its floats
_MOST: Final = 255  # the highest code
_MIDDLE: Final = 128
_FIRST_POWER: Final = -6  # the first move spans 64 codes


class Recording:
    """Values of codes."""

    def __init__(self, b: Builder, ranges: Reg) -> None:
        self._b = b
        self._base = float32.unpack(b, b.load32(ranges, _BASE))
        self._step = float32.unpack(b, b.load32(ranges, _STEP))

    def value(self, code: Reg) -> Float:
        """The value of a code."""
        return float32.add(self._b, self._base, float32.multiply_by_byte(self._b, self._step, code))


def record(b: Builder, ranges: Reg, codes: Reg, count: Reg, y: Float) -> None:
    """Appends the code of y to the `count` that are there."""
    stored = float32.pack(b, y)
    order = _ordered(stored)
    with b.when(order < _ordered(b.load32(ranges, _LOW))), b.seldom():
        b.store32(stored, ranges, _LOW)
    with b.when(order > _ordered(b.load32(ranges, _HIGH))), b.seldom():
        b.store32(stored, ranges, _HIGH)
    with b.when(b.load32(ranges, _STEP).equals(0)), b.when(stored.differs(0)), b.seldom():
        _begin(b, ranges, codes, count, y)
    code = b.copy(0)
    with b.when(b.load32(ranges, _STEP).differs(0)):
        base, step = Float(b.register(), b.register()), Float(b.register(), b.register())
        with b.forever() as loop:
            base.assign(float32.unpack(b, b.load32(ranges, _BASE)))
            step.assign(float32.unpack_positive(b, b.load32(ranges, _STEP)))
            span = float32.multiply(b, step, float32.constant(b, _MOST))
            carry = b.copy(_MOST + 1)
            with b.when(order >= _ordered(b.load32(ranges, _BASE))):
                carry.set(1)
                top = float32.pack(b, float32.add(b, base, span))
                loop.exit_if(order <= _ordered(top))
            with b.when(carry.differs(1)), b.seldom():
                b.store32(float32.pack(b, float32.subtract(b, base, span)), ranges, _BASE)
            _double(b, ranges, codes, count, carry)
        share = float32.divide(b, float32.subtract(b, y, base), step)
        code.set(float32.to_integer(b, float32.add(b, share, float32.constant(b, 0.5))))
    b.store8(code, codes + count)


def _begin(b: Builder, ranges: Reg, codes: Reg, count: Reg, y: Float) -> None:
    """The first move: it spans 64 codes, from the middle."""
    sign = y.mantissa >> 31
    magnitude = (y.mantissa ^ sign) - sign
    b.store32(float32.pack(b, Float(y.exponent + _FIRST_POWER, magnitude)), ranges, _STEP)
    b.store32(float32.pack(b, Float(y.exponent + 1, -magnitude)), ranges, _BASE)
    at, middle = b.copy(codes), b.const(_MIDDLE)
    with b.repeat_if_any(count):
        b.store8(middle, at)
        at += 1


def _double(b: Builder, ranges: Reg, codes: Reg, count: Reg, carry: Reg) -> None:
    """A code spans twice as much from now on."""
    with b.seldom():
        b.store32(b.load32(ranges, _STEP) + b.const(1 << 23), ranges, _STEP)
        at = b.copy(codes)
        with b.repeat_if_any(count):
            b.store8((b.load8u(at) + carry).shifted_right(1), at)
            at += 1


def _ordered(stored: Reg) -> Reg:
    """An integer that compares as the stored value does."""
    return stored ^ (stored >> 31).shifted_right(1)
