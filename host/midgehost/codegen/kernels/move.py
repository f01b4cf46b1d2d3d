"""COPY and FILL. Parameters: portable/move.py. Whole words are moved where both ends lie at one."""

from __future__ import annotations

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels.parts import Word, rows_left, walk, word

_INNER, _DIMENSIONS, _STEP_IN, _STEP_OUT, _WALK = range(5)


def copy(b: Builder) -> None:
    params, row = word(b, Word.PARAMS), word(b, Word.ROW0)
    source = word(b, Word.IN0)
    with b.when(source.equals(0)):
        source.set(word(b, Word.WEIGHTS))
    step_in, step_out = b.load32(params, 4 * _STEP_IN), b.load32(params, 4 * _STEP_OUT)
    with b.repeat_if_any(rows_left(b)):
        at, into, left = b.copy(source), word(b, Word.OUT), b.load32(params, 4 * _INNER)
        walk(b, row, params + 4 * _WALK, b.load32(params, 4 * _DIMENSIONS), [at, into])
        # In `scattered` the lowest two bits are 0 where words can be moved.
        scattered = (at | into) | ((step_in ^ 1) | (step_out ^ 1))
        with b.when((scattered << 30).equals(0)), b.when((step_in + step_out).equals(2)):
            with b.repeat_if_any(left.shifted_right(2)):
                b.store32(b.load32(at), into)
                at += 4
                into += 4
            left &= 3
        with b.repeat_if_any(left):
            b.store8(b.load8u(at), into)
            at += step_in
            into += step_out
        row += 1
    b.finish()


def fill(b: Builder) -> None:
    params = word(b, Word.PARAMS)
    size = b.load32(params, 4)
    value = b.load32(params, 0)
    at = word(b, Word.OUT) + word(b, Word.ROW0) * size
    left = rows_left(b) * size
    with b.forever() as loop:
        loop.exit_if(left <= 0)
        loop.exit_if((at << 30).equals(0))
        _put(b, value, at)
        left -= 1
    pattern = value | (value << 8)
    pattern |= pattern << 16
    with b.repeat_if_any(left >> 2):
        b.store32(pattern, at)
        at += 4
    with b.repeat_if_any(left & 3):
        _put(b, value, at)
    b.finish()


def _put(b: Builder, value: Reg, at: Reg) -> None:
    b.store8(value, at)
    at += 1
