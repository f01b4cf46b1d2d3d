"""What kernels are made of: the block's words, rescaling to int8, inner products, walks and windows.

Parameters are those of firmware/midge/kernels/portable/, where a kernel's own file says nothing else.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from midgehost.codegen.ir.code import Builder, Reg

_UNROLLED: Final = 8
WORK_BYTES: Final = 16  # at the start of the scratch of kernels that use `digits` or `dense_outputs`


class Word(IntEnum):
    """The words of a call's block."""

    ABI, IN0, IN1, OUT, WEIGHTS, PARAMS, SCRATCH, ROW0, ROW1 = range(9)


def word(b: Builder, which: Word) -> Reg:
    """A word of the block."""
    return b.load32(b.block, 4 * which)


def rows_left(b: Builder) -> Reg:
    """The number of rows of this slice."""
    return word(b, Word.ROW1) - word(b, Word.ROW0)


class Mantissa:
    """The mantissa of a quantised multiplier, 0 to 2^31 - 1: where products have no high word, in 16-bit limbs."""

    def __init__(self, b: Builder, value: Reg) -> None:
        self._b = b
        self._limbs = [value] if b.features.mulh else [value & 0xFFFF, value.shifted_right(16)]

    def product(self, x: Reg) -> Reg:
        """floor(x * mantissa / 2^31 + 1/2), exactly: gemmlowp's SaturatingRoundingDoublingHighMul."""
        b = self._b
        if b.features.mulh:
            high = b.high_product(x, self._limbs[0])
            low = (x * self._limbs[0]).shifted_right(30)
            low += 1
            high <<= 1
            return high + low.shifted_right(1)
        m0, m1 = self._limbs
        x0, x1 = x & 0xFFFF, x >> 16
        middle = (x0 * m0).shifted_right(16)
        x0 *= m1
        middle += x0
        middle += x1 * m0
        with b.when(x1 < 0):  # the middle fits an int32, else a uint32
            middle >>= 14
        with b.otherwise():
            middle.set(middle.shifted_right(14))
        middle += 1
        middle >>= 1
        x1 *= m1
        x1 <<= 1
        return x1 + middle


def divide_by_power(b: Builder, x: Reg, less: Reg) -> None:
    """x /= 2^(less + 1), to nearest, ties away from zero; not at all where `less` is negative."""
    with b.when(less >= 0):
        x += x >> 31
        x >>= less
        x += 1
        x >>= 1


def rescale(b: Builder, x: Reg, mantissa: Reg, shift: Reg) -> Reg:
    """TFLM's MultiplyByQuantizedMultiplier with double rounding, for shift -31 to 30; x is spent."""
    with b.when(shift > 0), b.seldom():
        x <<= shift
    scaled = Mantissa(b, mantissa).product(x)
    divide_by_power(b, scaled, -1 - shift)
    return scaled


class Stage:
    """From sums to output bytes (portable/fixed.py), channel after channel."""

    def __init__(self, b: Builder, at: Reg, channels: Reg, channel: Reg) -> None:
        self._b = b
        self._zero, self._low, self._high = b.load32(at, 0), b.load32(at, 4), b.load32(at, 8)
        self._step = b.load32(at, 12) << 2
        self._first_bias = at + 16
        self._first_scale = self._first_bias + (channels << 2)
        self._bias = self._first_bias + (channel << 2)
        self._scale = self._first_scale + channel * self._step

    def output(self, total: Reg) -> Reg:
        """The output byte of the current channel, whose sum (without its bias) is spent; then the next channel."""
        b = self._b
        total += b.load32(self._bias)
        value = rescale(b, total, b.load32(self._scale, 0), b.load32(self._scale, 4))
        value += self._zero
        b.clamp(value, self._low, self._high)
        self._bias += 4
        self._scale += self._step
        return value

    def restart(self) -> None:
        """Back to channel 0."""
        self._bias.set(self._first_bias)
        self._scale.set(self._first_scale)


def dense_outputs(
    b: Builder, stage: Stage, start: Reg, vector: Reg, weights: Reg, depth: Reg, count: Reg, out: Reg, sums: Reg
) -> None:
    """`count` outputs: inner products of unsigned bytes, the vector's with rows of `depth` weights, added to `start`.

    Two rows at a time share the loads of the vector; a last one is computed twice. `weights` and `out` move on; `sums`
    are two words to work in.
    """
    left = b.copy(count)
    with b.loop_while(left > 0):
        rows, second = b.copy(1), b.copy(weights)
        with b.when(left > 1):
            rows.set(2)
            second += depth
        totals = b.copy(start), b.copy(start)
        x, pointers = b.copy(vector), (b.copy(weights), second)
        with b.repeat_if_any(depth.shifted_right(3)):
            _multiply(b, totals, x, pointers, _UNROLLED)
        with b.repeat_if_any(depth & b.const(_UNROLLED - 1)):
            _multiply(b, totals, x, pointers, 1)
        weights.set(second)
        for i, total in enumerate(totals):
            b.store32(total, sums, 4 * i)
        at = b.copy(sums)
        with b.repeat(rows):
            b.store8(stage.output(b.load32(at)), out)
            out += 1
            at += 4
            left -= 1


def _multiply(b: Builder, totals: tuple[Reg, Reg], x: Reg, weights: tuple[Reg, Reg], terms: int) -> None:
    """Adds the next terms of two inner products; all pointers move on."""
    for i in range(terms):
        value = b.load8u(x, i)
        for total, weight in zip(totals, weights, strict=True):
            total += b.load8u(weight, i) * value
    x += terms
    for weight in weights:
        weight += terms


def digits(b: Builder, number: Reg, sizes: Reg, count: int, into: Reg) -> Reg:
    """Stores the `count` last digits of a number, smallest first, in mixed radix; what is left is returned."""
    rest, at, size_at = b.copy(number), b.copy(into), b.copy(sizes)
    with b.repeat(count):
        size = b.load32(size_at)
        quotient = b.quotient(rest, size)
        b.store32(rest - quotient * size, at)
        rest.set(quotient)
        at += 4
        size_at += 4
    return rest


def walk(b: Builder, number: Reg, table: Reg, dimensions: Reg, positions: list[Reg]) -> None:
    """Moves each position to where row `number` begins: the table holds (size, stride of each position) a dimension."""
    rest, at = b.copy(number), b.copy(table)
    with b.seldom(), b.repeat_if_any(dimensions):
        size = b.load32(at)
        quotient = b.quotient(rest, size)
        rest -= quotient * size
        for i, position in enumerate(positions):
            position += rest * b.load32(at, 4 + 4 * i)
        rest.set(quotient)
        at += 4 + 4 * len(positions)


class Span:
    """The elements of a window along one axis that lie inside the image."""

    def __init__(self, b: Builder, start: Reg, size: Reg, taps: Reg, dilation: Reg) -> None:
        self.position = b.copy(start)  # of the first of them
        self.skipped = b.copy(0)  # elements before it
        with b.seldom(), b.loop_while(self.position < 0):
            self.position += dilation
            self.skipped += 1
        self.count = taps - self.skipped
        last = self.count * dilation
        last += self.position
        last -= dilation
        with b.seldom(), b.loop_while(last >= size):
            last -= dilation
            self.count -= 1


class Pixels:
    """The window over the output pixels, one after another; its first twelve parameters are those of portable/conv.py.

    `top` and `left` are the window's corner in the image that begins at `image`.
    """

    IN_H, IN_W, OUT_H, OUT_W, HEIGHT, WIDTH, STRIDE_H, STRIDE_W, DIL_H, DIL_W, PAD_H, PAD_W, CHANNELS = range(13)

    def __init__(self, b: Builder, params: Reg, column: Reg, line: Reg, image: Reg) -> None:
        self._b = b
        self._params = params
        self._column, self._line = column, line
        self.left = column * self.get(self.STRIDE_W) - self.get(self.PAD_W)
        self.top = line * self.get(self.STRIDE_H) - self.get(self.PAD_H)
        self.image = word(b, Word.IN0) + image * self._image_bytes()

    def get(self, parameter: int) -> Reg:
        """A parameter."""
        return self._b.load32(self._params, 4 * parameter)

    def columns(self) -> Span:
        return Span(self._b, self.left, self.get(self.IN_W), self.get(self.WIDTH), self.get(self.DIL_W))

    def lines(self) -> Span:
        return Span(self._b, self.top, self.get(self.IN_H), self.get(self.HEIGHT), self.get(self.DIL_H))

    def address(self, line: Reg, column: Reg) -> Reg:
        """Of a pixel of the image."""
        at = line * self.get(self.IN_W)
        at += column
        at *= self.get(self.CHANNELS)
        at += self.image
        return at

    def advance(self) -> None:
        """To the next output pixel."""
        b = self._b
        self._column += 1
        self.left += self.get(self.STRIDE_W)
        with b.when(self._column.equals(self.get(self.OUT_W))), b.seldom():
            self._column.set(0)
            self.left.set(-self.get(self.PAD_W))
            self._line += 1
            self.top += self.get(self.STRIDE_H)
            with b.when(self._line.equals(self.get(self.OUT_H))):
                self._line.set(0)
                self.top.set(-self.get(self.PAD_H))
                self.image += self._image_bytes()

    def _image_bytes(self) -> Reg:
        size = self.get(self.IN_H) * self.get(self.IN_W)
        size *= self.get(self.CHANNELS)
        return size
