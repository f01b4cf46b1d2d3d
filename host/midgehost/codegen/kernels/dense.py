"""FULLY_CONNECTED: an inner product of unsigned bytes an output. Parameters: portable/dense.py.

Scratch  the input vector in offset binary.
"""

from __future__ import annotations

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels.parts import Stage, Word, inner_product, rows_left, word


def fully_connected(b: Builder) -> None:
    params, row, vector = word(b, Word.PARAMS), word(b, Word.ROW0), word(b, Word.SCRATCH)
    depth, units = b.load32(params, 0), b.load32(params, 4)
    batch = b.quotient(row, units)
    unit = row - batch * units
    source = word(b, Word.IN0) + batch * depth
    weights = word(b, Word.WEIGHTS) + unit * depth
    stage = Stage(b, params + 8, units, unit)
    out = word(b, Word.OUT) + row
    start, stale = b.const(0), b.const(1)
    with b.repeat_if_any(rows_left(b)):
        with b.when(stale.differs(0)), b.seldom():
            start.set(_offset_binary(b, source, vector, depth))
            stale.set(0)
        total = b.copy(start)
        inner_product(b, total, vector, weights, depth)
        b.store8(stage.output(total), out)
        out += 1
        unit += 1
        with b.when(unit.equals(units)), b.seldom():
            unit.set(0)
            weights.set(word(b, Word.WEIGHTS))
            source += depth
            stage.restart()
            stale.set(1)
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
