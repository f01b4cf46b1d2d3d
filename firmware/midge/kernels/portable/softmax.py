# SOFTMAX over the last axis.
#
# params  depth, then exp(-d * scale * beta) without integer bits for the differences d = 0..255 to the largest value
# A row is one vector of `depth` values.

from .fixed import rescale


def _high_mul(a, b):
    # SaturatingRoundingDoublingHighMul for any signs: round(a * b / 2^31), as C's truncating division leaves it.
    product = a * b
    return (product + 0x40000000) >> 31 if product >= 0 else -((0x3FFFFFFF - product) >> 31)


def reciprocal(total):
    # (mantissa, shift) of 1 / total, total a sum of exps with 12 integer bits: gemmlowp's GetReciprocal and its three
    # steps of Newton-Raphson, with the shift that leaves 8 output bits.
    headroom = 32
    while total >> (32 - headroom):
        headroom -= 1
    a = (total << headroom) - 0x80000000
    half_denominator = (a + 0x7FFFFFFF + 1) >> 1
    x = 1515870810 + _high_mul(half_denominator, -1010580540)
    for _ in range(3):
        x += _high_mul(x, 0x20000000 - _high_mul(half_denominator, x)) << 2
    return min(x << 1, 0x7FFFFFFF), headroom - 35


def softmax(block, arena, weights, params):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    depth = params[p]
    for row in range(row0, row1):
        a = in0 + row * depth
        largest = 0
        for i in range(a, a + depth):
            largest = max(largest, arena[i] ^ 128)
        total = 0
        for i in range(a, a + depth):
            total += rescale(params[p + 1 + largest - (arena[i] ^ 128)] << 1, 0x40000000, -12)
        mantissa, shift = reciprocal(total)
        o = out - in0
        for i in range(a, a + depth):
            v = rescale(params[p + 1 + largest - (arena[i] ^ 128)], mantissa, shift) - 128
            arena[o + i] = (127 if v > 127 else v) & 255
    return 0


KERNELS = {0x70: softmax}
