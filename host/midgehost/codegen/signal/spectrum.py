"""The FFT of firmware/midge/fft.py: `transform` leaves the spectrum of the half as many complex numbers, `magnitudes`
unpacks it. Integers throughout; the magnitudes are single precision, operation by operation."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.signal import float32
from midgehost.codegen.signal.float32 import Float

SILENCE: Final = 2  # the status of `transform` where all samples are equal

_ONE: Final = 14  # bits of twiddles and windows behind the point
_LIMIT: Final = 45000


class Word(IntEnum):
    """The words of a block: addresses, and numbers where a comment says so."""

    ABI = 0
    SAMPLES = 1  # of the first one, int16
    STRIDE = 2  # bytes from one sample to the next
    RE = 3
    IM = 4
    COS = 5
    SIN = 6
    REVERSED = 7
    WINDOW = 8  # 0: rectangular
    MAGNITUDE = 9
    HALF = 10  # half the points
    AMPLITUDE = 11  # as it is stored: what a unit of the spectrum is worth before it is scaled
    POWER = 12  # the scale's power of 2, from `transform` to `magnitudes`


def transform(b: Builder) -> None:
    """Spectrum.transform up to the last stage."""
    _load(b)
    power = _fit(b, grow=True)
    with b.when(_word(b, Word.WINDOW).differs(0)):
        _taper(b)
        power += _fit(b, grow=True)
        power -= _ONE
    half = b.copy(1)
    with b.loop_while(half < _word(b, Word.HALF)):
        _stage(b, half)
        power += _fit(b, grow=False)
        half <<= 1
        power -= 1  # the scale begins as 1 / points: twice as many as stages
    power -= 1
    b.store32(power, b.block, 4 * Word.POWER)
    b.finish()


def magnitudes(b: Builder) -> None:
    """Spectrum._unpack."""
    amplitude = _word(b, Word.AMPLITUDE)
    amplitude += _word(b, Word.POWER) << 23
    scale = float32.unpack_positive(b, amplitude)
    re, im, out = _word(b, Word.RE), _word(b, Word.IM), _word(b, Word.MAGNITUDE)
    count = _word(b, Word.HALF)
    end = count << 2
    x, y = b.load32(re), b.load32(im)
    b.store32(_half_of(b, x + y, scale), out)
    last = out + end
    b.store32(_half_of(b, x - y, scale), last)
    right_re, right_im = re + end, im + end
    cos, sin = _word(b, Word.COS), _word(b, Word.SIN)
    with b.repeat(count - 1):
        re += 4
        im += 4
        right_re -= 4
        right_im -= 4
        cos += 2
        sin += 2
        out += 4
        x, y = b.load32(im), b.load32(right_re)
        u, v = b.load32(re) + y, x - b.load32(right_im)
        x += b.load32(right_im)
        y -= b.load32(re)
        turned = _turned(b, _halved(x), _halved(y), b.load16s(cos), b.load16s(sin))
        u, v = _halved(u) + turned[0], _halved(v) + turned[1]
        b.store32(_length(b, u, v, scale), out)
    b.finish()


def _word(b: Builder, which: Word) -> Reg:
    return b.load32(b.block, 4 * which)


def _load(b: Builder) -> None:
    """Deviations from the mean times `points`, in bit-reversed order; even samples in re, odd ones in im."""
    stride, count = _word(b, Word.STRIDE), _word(b, Word.HALF)
    points = count << 1
    total, at = b.copy(0), _word(b, Word.SAMPLES)
    with b.repeat(points):
        total += b.load16s(at, 0)
        at += stride
    at.set(_word(b, Word.SAMPLES))
    re, im, order = _word(b, Word.RE), _word(b, Word.IM), _word(b, Word.REVERSED)
    with b.repeat(count):
        place = b.load16u(order) << 2
        order += 2
        for part in (re, im):
            b.store32(b.load16s(at) * points - total, part + place)
            at += stride


def _taper(b: Builder) -> None:
    """Multiplies with the window, of which only the first half and its middle are kept."""
    count, order = _word(b, Word.HALF), _word(b, Word.REVERSED)
    at, step = _word(b, Word.WINDOW), b.copy(2)
    middle = at + (count << 1)
    re, im = _word(b, Word.RE), _word(b, Word.IM)
    with b.repeat(count):
        place = b.load16u(order) << 2
        order += 2
        for part in (re, im):
            with b.when(at.equals(middle)):
                step.set(-2)
            into = part + place
            b.store32(b.load32(into) * b.load16s(at), into)
            at += step


def _fit(b: Builder, grow: bool) -> Reg:
    """Scales the block down to _LIMIT, or with `grow` also up to it: the power of 2 that a unit is worth now.

    Leaves the routine if all is 0 and it may grow.
    """
    re, im, count = _word(b, Word.RE), _word(b, Word.IM), _word(b, Word.HALF)
    low, high = b.copy(0), b.copy(0)
    for part in (re, im):
        at = b.copy(part)
        with b.repeat(count):
            value = b.load32(at)
            b.raise_to(high, value)
            b.lower(low, value)
            at += 4
    b.raise_to(high, -low)
    limit, power = b.const(_LIMIT), b.copy(0)
    with b.loop_while(high > limit):
        high.set(high.shifted_right(1))
        power += 1
    with b.when(power > 0):
        half = b.const(1) << (power - 1)
        for part in (re, im):
            at = b.copy(part)
            with b.repeat(count):
                b.store32((b.load32(at) + half) >> power, at)
                at += 4
    if grow:
        with b.when(high.equals(0)), b.seldom():
            b.finish(SILENCE)
        with b.loop_while(high <= b.const(_LIMIT >> 1)):
            high <<= 1
            power -= 1
        with b.when(power < 0):
            for part in (re, im):
                at = b.copy(part)
                with b.repeat(count):
                    b.store32(b.load32(at) << -power, at)
                    at += 4
    return power


def _stage(b: Builder, half: Reg) -> None:
    """One radix-2 stage: pairs that lie `half` apart, twiddle exp(-i pi k / half)."""
    step = b.quotient(_word(b, Word.HALF), half)  # of the twiddles, and how many pairs share one
    cos, sin = _word(b, Word.COS), _word(b, Word.SIN)
    re, im = _word(b, Word.RE), _word(b, Word.IM)
    with b.repeat(half):
        c, s = b.load16s(cos), b.load16s(sin)
        a_re, a_im, apart = b.copy(re), b.copy(im), half << 2
        with b.repeat(step.shifted_right(1)):
            b_re, b_im = a_re + apart, a_im + apart
            x, y = b.load32(b_re), b.load32(b_im)
            u, v = _turned(b, x, y, c, s)
            x.set(b.load32(a_re))
            b.store32(x + u, a_re)
            b.store32(x - u, b_re)
            y.set(b.load32(a_im))
            b.store32(y + v, a_im)
            b.store32(y - v, b_im)
            a_re += apart << 1
            a_im += apart << 1
        re += 4
        im += 4
        cos += step << 1
        sin += step << 1


def _turned(b: Builder, x: Reg, y: Reg, c: Reg, s: Reg) -> tuple[Reg, Reg]:
    """(x + i y) (c - i s) / 2^14, rounded."""
    u = x * c
    u += y * s
    v = y * c
    v -= x * s
    for part in (u, v):
        part += b.const(1 << _ONE - 1)
        part >>= _ONE
    return u, v


def _halved(value: Reg) -> Reg:
    """value / 2, rounded; spent."""
    value += 1
    value >>= 1
    return value


def _magnitude(b: Builder, number: Reg, scale: Float) -> Float:
    """|number| * scale."""
    sign = number >> 31
    return float32.multiply(b, float32.from_integer(b, (number ^ sign) - sign), scale)


def _half_of(b: Builder, number: Reg, scale: Float) -> Reg:
    """|number| * scale / 2, as it is stored."""
    found = _magnitude(b, number, scale)
    return float32.pack_positive(b, Float(found.exponent - 1, found.mantissa))


def _length(b: Builder, u: Reg, v: Reg, scale: Float) -> Reg:
    """scale * sqrt(u^2 + v^2), as it is stored."""
    x, y = (float32.square(b, _magnitude(b, part, scale)) for part in (u, v))
    return float32.pack_positive(b, float32.square_root(b, float32.add(b, x, y)))
