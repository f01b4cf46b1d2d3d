"""FULLY_CONNECTED: an inner product of unsigned bytes an output. Parameters: portable/dense.py.

Scratch  two sums, then (from byte 16 on) the input vector in offset binary.
"""

from __future__ import annotations

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels.parts import WORK_BYTES, Stage, Word, dense_outputs, rows_left, word


def fully_connected(b: Builder) -> None:
    params, row, sums = word(b, Word.PARAMS), word(b, Word.ROW0), word(b, Word.SCRATCH)
    depth, units = b.load32(params, 0), b.load32(params, 4)
    batch = b.quotient(row, units)
    unit = row - batch * units
    source = word(b, Word.IN0) + batch * depth
    weights = word(b, Word.WEIGHTS) + unit * depth
    stage = Stage(b, params + 8, units, unit)
    out, left = word(b, Word.OUT) + row, rows_left(b)
    vector = sums + WORK_BYTES
    with b.loop_while(left > 0):
        with b.seldom():
            start = _offset_binary(b, source, vector, depth)
            count = units - unit
            b.lower(count, left)
            left -= count
        dense_outputs(b, stage, start, vector, weights, depth, count, out, sums)
        unit.set(0)
        weights.set(word(b, Word.WEIGHTS))
        source += depth
        stage.restart()
    b.finish()


def _offset_binary(b: Builder, source: Reg, vector: Reg, depth: Reg) -> Reg:
    """Copies the input; -128 times its sum takes the weights' offset out of an inner product."""
    sign, total = b.const(128), b.copy(0)
    at, into = b.copy(source), b.copy(vector)
    with b.repeat(depth):
        value = b.load8u(at) ^ sign
        b.store8(value, into)
        total += value
        at += 1
        into += 1
    return -(total << 7)
