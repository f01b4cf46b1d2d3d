# Moving bytes at the viper level. Parameters: see portable/move.py.


@micropython.viper
def copy(block, arena, weights, params) -> int:
    blk = ptr32(block)
    p = ptr32(int(ptr32(params)) + (int(blk[5]) << 2))
    one = 1
    sign = one << 31  # restores the sign of a zero-extended load, see viper/elementwise.py
    inner = int(p[0])
    last = 4 + 3 * int(p[1])
    step_in = (int(p[2]) ^ sign) - sign
    step_out = (int(p[3]) ^ sign) - sign
    source = ptr8(arena)
    base = (int(blk[1]) ^ sign) - sign
    if base < 0:
        source = ptr8(weights)
        base = int(blk[4])
    target = ptr8(int(ptr8(arena)) + int(blk[3]))
    row = int(blk[7])
    end = int(blk[8])
    while row < end:
        a = base
        o = 0
        rest = row
        d = 4
        while d < last:
            size = int(p[d])
            i = rest % size
            rest = rest // size
            a += i * ((int(p[d + 1]) ^ sign) - sign)
            o += i * ((int(p[d + 2]) ^ sign) - sign)
            d += 3
        n = inner
        while n > 0:
            target[o] = source[a]
            a += step_in
            o += step_out
            n -= 1
        row += 1
    return 0


@micropython.viper
def fill(block, arena, weights, params) -> int:
    blk = ptr32(block)
    p = ptr32(int(ptr32(params)) + (int(blk[5]) << 2))
    value = int(p[0])
    size = int(p[1])
    target = ptr8(arena)
    i = int(blk[3]) + int(blk[7]) * size
    end = int(blk[3]) + int(blk[8]) * size
    while i < end:
        target[i] = value
        i += 1
    return 0


KERNELS = {0x50: copy, 0x51: fill}
