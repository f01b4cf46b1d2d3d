# SOFTMAX at the viper level. Parameters: see portable/softmax.py.
#
# Scratch  a stage for `rescale` (7 words; the row's reciprocal is its mantissa and shift), then the row's exps.

import struct

from .fixed import rescale


@micropython.viper
def _exps(arena, params, table: int, source: int, scratch: int, depth: int):
    # Writes the row's exps behind the stage, and their sum with 12 integer bits where the mantissa comes: as a number
    # it might not fit a board's small int.
    x = ptr8(int(ptr8(arena)) + source)
    stage = ptr32(int(ptr8(arena)) + scratch)
    e = ptr32(int(stage) + 28)
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
    stage[5] = total


@micropython.viper
def _reciprocal(arena, scratch: int):
    # `reciprocal` of portable/softmax.py on the stage's words: the sum becomes mantissa and shift. All seven products
    # pass through one place, in 16-bit limbs (elementwise.py explains them): half * (48/17 - 32/17 * half), then three
    # times half * x and x * what that leaves to 1.
    stage = ptr32(int(ptr8(arena)) + scratch)
    one = 1
    top = one << 30  # made at run time, like all that follow: such constants do not fit a board's small int
    total = int(stage[5])
    headroom = 1
    while total < top:
        total = total << 1
        headroom += 1
    half = total
    x = 0x5A5A
    x += x << 16
    u = half
    v = 0x3C3C
    v += v << 16
    negative = 1
    product = 0
    while product < 7:
        u1 = u >> 16
        u0 = u & 0xFFFF
        v1 = v >> 16
        v0 = v & 0xFFFF
        bottom = uint(u0 * v0)
        middle = uint(u1 * v0 + u0 * v1) + (bottom >> 16)
        if negative == 1 and int(bottom & 0xFFFF) == 0:
            middle = middle + 16383
        else:
            middle = middle + 16384
        high = ((u1 * v1) << 1) + int(middle >> 15)
        if negative == 1:
            high = 0 - high
        if product & 1:
            u = x
            v = (1 << 29) - high
            negative = 0
            if v < 0:
                v = 0 - v
                negative = 1
        else:
            if product > 0:
                high = high << 2
            x += high
            u = half
            v = x
            negative = 0
        product += 1
    if x >= top:
        stage[5] = (top - 1 << 1) + 1
    else:
        stage[5] = x << 1
    stage[6] = headroom - 35


def softmax(block, arena, weights, params):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    depth = params[p]
    struct.pack_into("<5i", arena, scratch, -128, -128, 127, 0, 0)
    for row in range(row0, row1):
        _exps(arena, params, p + 1, in0 + row * depth, scratch, depth)
        _reciprocal(arena, scratch)
        rescale(arena, arena, scratch // 4, scratch + 28, out + row * depth, depth, 1, 0)
    return 0


KERNELS = {0x70: softmax}
