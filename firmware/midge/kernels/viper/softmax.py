# SOFTMAX at the viper level. Parameters: see portable/softmax.py.
#
# Scratch  a stage for `rescale` (7 words; the row's reciprocal is its mantissa and shift), then the row's exps.

import struct

from ..portable.softmax import reciprocal
from .fixed import rescale


@micropython.viper
def _exps(arena, params, table: int, source: int, target: int, depth: int) -> int:
    # Writes the row's exps to `target`, returns their sum with 12 integer bits.
    x = ptr8(int(ptr8(arena)) + source)
    e = ptr32(int(ptr8(arena)) + target)
    t = ptr32(int(ptr32(params)) + (table << 2))
    largest = 0
    i = 0
    while i < depth:
        if (int(x[i]) ^ 128) > largest:
            largest = int(x[i]) ^ 128
        i += 1
    total = 0
    i = 0
    while i < depth:
        value = int(t[largest - (int(x[i]) ^ 128)])
        e[i] = value
        total += (value >> 12) + ((value >> 11) & 1)
        i += 1
    return total


def softmax(block, arena, weights, params):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    depth = params[p]
    exps = scratch + 28
    for row in range(row0, row1):
        mantissa, shift = reciprocal(_exps(arena, params, p + 1, in0 + row * depth, exps, depth))
        struct.pack_into("<7i", arena, scratch, -128, -128, 127, 0, 0, mantissa, shift)
        rescale(arena, arena, scratch // 4, exps, out + row * depth, depth, 1, 0)
    return 0


KERNELS = {0x70: softmax}
