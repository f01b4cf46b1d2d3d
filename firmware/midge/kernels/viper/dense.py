# FULLY_CONNECTED at the viper level. Parameters: see portable/dense.py.
#
# Scratch  int32 sums of up to 64 outputs, then the input vector in offset binary.

from .fixed import multiply, rescale


@micropython.viper
def fully_connected(block, arena, weights, params) -> int:
    blk = ptr32(block)
    stage = int(blk[5]) + 2
    depth = int(ptr32(params)[int(blk[5])])
    units = int(ptr32(params)[int(blk[5]) + 1])
    sums = int(blk[6])
    held = 64
    if units < held:
        held = units
    vector = sums + (held << 2)
    x = ptr8(int(ptr8(arena)) + vector)
    row = int(blk[7])
    end = int(blk[8])
    while row < end:
        batch = row // units
        unit = row - batch * units
        source = ptr8(int(ptr8(arena)) + int(blk[1]) + batch * depth)
        total = 0
        k = 0
        while k < depth:
            b = int(source[k]) ^ 128
            x[k] = b
            total += b
            k += 1
        stop = row - unit + units
        if stop > end:
            stop = end
        while row < stop:
            n = stop - row
            if n > held:
                n = held
            multiply(arena, weights, total, vector, int(blk[4]) + unit * depth, sums, n, depth)
            rescale(sums, int(blk[3]) + row, unit, arena, params, stage, n, units)
            row += n
            unit += n
    return 0


KERNELS = {0x10: fully_connected}
