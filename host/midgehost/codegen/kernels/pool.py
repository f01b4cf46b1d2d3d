"""AVERAGE_POOL_2D, MAX_POOL_2D and MEAN.

Pools  parameters 0 to 14: portable/pool.py; 15 out width  16 out height. A row is one output pixel.
       Scratch: the digits of a row's number, see conv.py.
MEAN   0 elements of a run  1 their stride  2 runs; then the walk over outputs: n, n times (size, stride); then the walk
       over runs, the same way; then the stage of one channel. A row is one output.
"""

from __future__ import annotations

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels.parts import Pixels, Stage, Word, digits, rows_left, walk, word

_LOW, _HIGH, _SIZES = 13, 14, 15


def average_pool_2d(b: Builder) -> None:
    _pool(b, average=True)


def max_pool_2d(b: Builder) -> None:
    _pool(b, average=False)


def _pool(b: Builder, average: bool) -> None:
    params, scratch, row = word(b, Word.PARAMS), word(b, Word.SCRATCH), word(b, Word.ROW0)
    image = digits(b, row, params + 4 * _SIZES, 2, scratch)
    pixels = Pixels(b, params, b.load32(scratch, 0), b.load32(scratch, 4), image)
    channels = pixels.get(Pixels.CHANNELS)
    out = word(b, Word.OUT) + row * channels
    with b.repeat_if_any(rows_left(b)):
        lines, columns = pixels.lines(), pixels.columns()
        first = pixels.address(lines.position, columns.position)
        count = lines.count * columns.count
        line_step = (pixels.get(Pixels.IN_W) - columns.count) * channels
        with b.when(line_step.equals(0)):  # whole lines: one after another
            columns.count.set(count)
            lines.count.set(1)
        with b.repeat(channels):
            at, value = b.copy(first), b.copy(0 if average else -128)
            with b.repeat(lines.count):
                with b.repeat(columns.count):
                    if average:
                        value += b.load8s(at)
                    else:
                        b.raise_to(value, b.load8s(at))
                    at += channels
                at += line_step
            if average:
                value = _nearest(b, value, count)
            b.clamp(value, pixels.get(_LOW), pixels.get(_HIGH))
            b.store8(value, out)
            out += 1
            first += 1
        pixels.advance()
    b.finish()


def _nearest(b: Builder, total: Reg, count: Reg) -> Reg:
    """total / count to nearest, halves away from zero."""
    sign = total >> 31
    quotient = b.quotient(((total ^ sign) - sign) + count.shifted_right(1), count)
    return (quotient ^ sign) - sign


def mean(b: Builder) -> None:
    params, row = word(b, Word.PARAMS), word(b, Word.ROW0)
    outputs = params + 12
    dimensions = b.load32(outputs)
    outputs += 4
    runs = outputs + (dimensions << 3)
    run_dimensions = b.load32(runs)
    runs += 4
    stage = Stage(b, runs + (run_dimensions << 3), b.const(1), b.const(0))
    out = word(b, Word.OUT) + row
    with b.repeat_if_any(rows_left(b)):
        base = word(b, Word.IN0)
        walk(b, row, outputs, dimensions, [base])
        total, run, count = b.copy(0), b.copy(0), b.load32(params, 8)
        with b.loop_while(run < count):
            at = b.copy(base)
            walk(b, run, runs, run_dimensions, [at])
            stride = b.load32(params, 4)
            with b.repeat(b.load32(params, 0)):
                total += b.load8s(at)
                at += stride
            run += 1
        b.store8(stage.output(total), out)
        stage.restart()
        out += 1
        row += 1
    b.finish()
