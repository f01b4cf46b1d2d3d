# SOFTMAX at the viper level. Parameters: see portable/softmax.py.
#
# Scratch  a stage of one channel for `rescale` (fixed.py: 7 words), a word and a byte that `rescale` works on, then the
#          row's exps.

from .fixed import rescale


@micropython.viper
def softmax(block, arena, weights, params) -> int:
    blk = ptr32(block)
    p = ptr32(int(ptr32(params)) + (int(blk[5]) << 2))
    depth = int(p[0])
    table = ptr32(int(p) + 4)
    one = 1
    sign = one << 31
    unit = one << 29  # 1 with two integer bits
    pattern = 0x10001
    scratch = int(blk[6])
    stage = ptr32(int(ptr8(arena)) + scratch)
    value = ptr32(int(stage) + 28)
    exps = ptr32(int(stage) + 36)
    stage[3] = 0
    stage[4] = 0
    row = int(blk[7])
    while row < int(blk[8]):
        x = ptr8(int(ptr8(arena)) + int(blk[1]) + row * depth)
        largest = 0
        i = 0
        while i < depth:
            if (int(x[i]) ^ 128) > largest:
                largest = int(x[i]) ^ 128
            i += 1
        total = 0
        i = 0
        while i < depth:
            e = int(table[largest - (int(x[i]) ^ 128)])
            exps[i] = e
            total += (e >> 12) + ((e >> 11) & 1)
            i += 1
        # 1 / total as portable/softmax.py computes it: `rescale` with shift 0 and no limits multiplies.
        shift = -34
        while total < unit << 1:
            total = total << 1
            shift += 1
        stage[0] = 0
        stage[1] = sign
        stage[2] = sign - 1
        stage[6] = 0
        stage[5] = total
        value[0] = 0 - 0x3C3C * pattern
        rescale(scratch + 28, scratch + 32, 0, arena, arena, scratch >> 2, 1, 1)
        estimate = 0x5A5A * pattern + (int(value[0]) ^ sign) - sign
        i = 0
        while i < 3:
            value[0] = total
            stage[5] = estimate
            rescale(scratch + 28, scratch + 32, 0, arena, arena, scratch >> 2, 1, 1)
            value[0] = unit - int(value[0])
            rescale(scratch + 28, scratch + 32, 0, arena, arena, scratch >> 2, 1, 1)
            estimate += ((int(value[0]) ^ sign) - sign) << 2
            i += 1
        stage[0] = -128
        stage[1] = -128
        stage[2] = 127
        stage[5] = estimate << 1
        if estimate >= unit << 1:
            stage[5] = sign - 1
        stage[6] = shift
        if shift < -31:  # no output reaches half a step
            stage[5] = 0
            stage[6] = 0
        rescale(scratch + 36, int(blk[3]) + row * depth, 0, arena, arena, scratch >> 2, depth, 1)
        row += 1
    return 0


KERNELS = {0x70: softmax}
