"""CONV_2D and DEPTHWISE_CONV_2D. Parameters 0 to 15: portable/conv.py.

CONV_2D            a row is some filters of one group at one output pixel. 16 filters a row  17 bytes a filter
                   18 rows a group  19 groups  20 out width  21 out height  22 the stage.
                   Scratch: what the window sees in offset binary, from byte 16 on.
DEPTHWISE_CONV_2D  a row is one output pixel. 16 out width  17 out height  18 the stage.

Scratch begins with the row's digits, its number in mixed radix, where sums lie later.
"""

from __future__ import annotations

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels.parts import WORK_BYTES, Pixels, Stage, Word, dense_outputs, digits, rows_left, word

_FILTERS, _DEPTH, _ZERO = 13, 14, 15
_PER_ROW, _SIZE, _ROWS_A_GROUP, _CONV_SIZES, _CONV_STAGE = 16, 17, 18, 18, 22
_DEPTHWISE_SIZES, _DEPTHWISE_STAGE = 16, 18


def conv_2d(b: Builder) -> None:
    params, scratch = word(b, Word.PARAMS), word(b, Word.SCRATCH)
    image = digits(b, word(b, Word.ROW0), params + 4 * _CONV_SIZES, 4, scratch)
    member, group = b.load32(scratch, 0), b.load32(scratch, 4)
    pixels = Pixels(b, params, b.load32(scratch, 8), b.load32(scratch, 12), image)
    rows_a_group, per_row = pixels.get(_ROWS_A_GROUP), pixels.get(_PER_ROW)
    channel = (group * rows_a_group + member) * per_row
    stage = Stage(b, params + 4 * _CONV_STAGE, pixels.get(_FILTERS), channel)
    weights = word(b, Word.WEIGHTS) + channel * pixels.get(_SIZE)
    out = word(b, Word.OUT) + word(b, Word.ROW0) * per_row
    left = rows_a_group - member  # rows of this group
    group *= pixels.get(_DEPTH)  # its first channel
    vector = scratch + WORK_BYTES
    start, stale = b.const(0), b.const(1)
    with b.repeat_if_any(rows_left(b)):
        with b.when(stale.differs(0)), b.seldom():
            start.set(_look(b, pixels, params, group, vector))
            stale.set(0)
        size, per_row = pixels.get(_SIZE), pixels.get(_PER_ROW)
        dense_outputs(b, stage, start, vector, weights, size, per_row, out, word(b, Word.SCRATCH))
        left -= 1
        with b.when(left.equals(0)), b.seldom():
            left.set(pixels.get(_ROWS_A_GROUP))
            stale.set(1)
            group += pixels.get(_DEPTH)
            with b.when(group.equals(pixels.get(Pixels.CHANNELS))):
                group.set(0)
                pixels.advance()
                stage.restart()
                weights.set(word(b, Word.WEIGHTS))
    b.finish()


def _look(b: Builder, pixels: Pixels, params: Reg, group: Reg, vector: Reg) -> Reg:
    """Copies what the window sees of a group; -128 times its sum takes the weights' offset out of inner products."""
    into, total, line = b.copy(vector), b.copy(0), b.copy(pixels.top)
    with b.repeat(pixels.get(Pixels.HEIGHT)):
        column = b.copy(pixels.left)
        with b.repeat(pixels.get(Pixels.WIDTH)):
            # Outside of the image: the zero point, which is in offset binary already, again and again.
            source, step, sign = params + 4 * _ZERO, b.copy(0), b.copy(0)
            with b.when(line.below(pixels.get(Pixels.IN_H))), b.when(column.below(pixels.get(Pixels.IN_W))):
                source.set(pixels.address(line, column) + group)
                step.set(1)
                sign.set(128)
            with b.repeat(pixels.get(_DEPTH)):
                value = b.load8u(source) ^ sign
                b.store8(value, into)
                total += value
                source += step
                into += 1
            column += pixels.get(Pixels.DIL_W)
        line += pixels.get(Pixels.DIL_H)
    return -(total << 7)


def depthwise_conv_2d(b: Builder) -> None:
    params, scratch, row = word(b, Word.PARAMS), word(b, Word.SCRATCH), word(b, Word.ROW0)
    image = digits(b, row, params + 4 * _DEPTHWISE_SIZES, 2, scratch)
    pixels = Pixels(b, params, b.load32(scratch, 0), b.load32(scratch, 4), image)
    filters = pixels.get(_FILTERS)
    out = word(b, Word.OUT) + row * filters
    stage = Stage(b, params + 4 * _DEPTHWISE_STAGE, filters, b.const(0))
    minus_zero = 128 - pixels.get(_ZERO)
    with b.repeat_if_any(rows_left(b)):
        lines, columns = pixels.lines(), pixels.columns()
        with b.when(columns.count <= 0):
            lines.count.set(0)
        first = pixels.address(lines.position, columns.position)
        skipped = lines.skipped * pixels.get(Pixels.WIDTH)
        skipped += columns.skipped
        weight = word(b, Word.WEIGHTS) + skipped * filters
        # From a tap to the next one, and from the end of a line of taps to the next line.
        step = pixels.get(Pixels.DIL_W) * pixels.get(Pixels.CHANNELS)
        line_step = pixels.get(Pixels.DIL_H) * pixels.get(Pixels.IN_W)
        line_step *= pixels.get(Pixels.CHANNELS)
        line_step -= columns.count * step
        line_weights = (pixels.get(Pixels.WIDTH) - columns.count) * filters
        copies = pixels.get(_DEPTH)
        with b.repeat(filters):
            total, x, w = b.copy(0), b.copy(first), b.copy(weight)
            with b.repeat_if_any(lines.count):
                with b.repeat(columns.count):
                    value = b.load8s(x)
                    value += minus_zero
                    total += value * (b.load8u(w) - 128)
                    x += step
                    w += filters
                x += line_step
                w += line_weights
            b.store8(stage.output(total), out)
            out += 1
            weight += 1
            copies -= 1
            with b.when(copies.equals(0)):
                copies.set(pixels.get(_DEPTH))
                first += 1
        stage.restart()
        pixels.advance()
    b.finish()
