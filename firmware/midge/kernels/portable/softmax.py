# SOFTMAX over the last axis.
#
# params  depth, then exp(-d * scale * beta) without integer bits for the differences d = 0..255 to the largest value
# A row is one vector of `depth` values.

from .fixed import rescale


def reciprocal(total):
    # (mantissa, shift) of 1 / total, total a sum of exps with 12 integer bits: gemmlowp's GetReciprocal and its three
    # steps of Newton-Raphson, with the shift that leaves 8 output bits. TFLM aborts where the shift is below -31 (more
    # than 511 values that are nearly equal): there no output reaches half a step.
    headroom = 32
    while total >> (32 - headroom):
        headroom -= 1
    if headroom < 4:
        return 0, 0
    half_denominator = total << (headroom - 1)
    x = 1515870810 + rescale(half_denominator, -1010580540, 0)
    for _ in range(3):
        x += rescale(x, 0x20000000 - rescale(half_denominator, x, 0), 0) << 2
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
