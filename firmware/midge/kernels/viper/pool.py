# AVERAGE_POOL_2D, MAX_POOL_2D and MEAN at the viper level. Parameters: see portable/pool.py.
#
# Scratch  (MEAN) one int32 sum.

from .fixed import rescale


@micropython.viper
def _pool(block, arena, params, average: int) -> int:
    blk = ptr32(block)
    p = ptr32(int(ptr32(params)) + (int(blk[5]) << 2))
    one = 1
    sign = one << 31  # restores the sign of a zero-extended load, see elementwise.py
    in_h = int(p[0])
    in_w = int(p[1])
    out_h = int(p[2])
    out_w = int(p[3])
    channels = int(p[12])
    low = (int(p[13]) ^ sign) - sign
    high = (int(p[14]) ^ sign) - sign
    row = int(blk[7])
    o = ptr8(int(ptr8(arena)) + int(blk[3]) + row * out_w * channels)
    while row < int(blk[8]):
        image = int(ptr8(arena)) + int(blk[1]) + row // out_h * in_h * in_w * channels
        top = row % out_h * int(p[6]) - int(p[10])
        bottom = top + int(p[4])
        if top < 0:
            top = 0
        if bottom > in_h:
            bottom = in_h
        column = 0
        while column < out_w:
            left = column * int(p[7]) - int(p[11])
            right = left + int(p[5])
            if left < 0:
                left = 0
            if right > in_w:
                right = in_w
            count = (bottom - top) * (right - left)
            c = 0
            while c < channels:
                v = 0
                largest = 0
                y = top
                while y < bottom:
                    a = ptr8(image + (y * in_w + left) * channels + c)
                    n = right - left
                    while n > 0:
                        b = int(a[0]) ^ 128
                        v += b
                        if b > largest:
                            largest = b
                        a = ptr8(int(a) + channels)
                        n -= 1
                    y += 1
                if average == 1:
                    v -= count << 7
                    if v > 0:
                        v = (v + (count >> 1)) // count
                    else:
                        v = 0 - ((count >> 1) - v) // count
                else:
                    v = largest - 128
                if v < low:
                    v = low
                if v > high:
                    v = high
                o[0] = v
                o = ptr8(int(o) + 1)
                c += 1
            column += 1
        row += 1
    return 0


def average_pool_2d(block, arena, weights, params):
    return _pool(block, arena, params, 1)


def max_pool_2d(block, arena, weights, params):
    return _pool(block, arena, params, 0)


@micropython.viper
def mean(block, arena, weights, params) -> int:
    blk = ptr32(block)
    p = ptr32(int(ptr32(params)) + (int(blk[5]) << 2))
    count = int(p[0])
    outer_end = 2 + 2 * int(p[1])
    inner = outer_end + 1
    end = inner + 2 * int(p[outer_end])
    sums = ptr32(int(ptr8(arena)) + int(blk[6]))
    row = int(blk[7])
    while row < int(blk[8]):
        base = int(ptr8(arena)) + int(blk[1])
        rest = row
        d = 2
        while d < outer_end:
            base += rest % int(p[d]) * int(p[d + 1])
            rest = rest // int(p[d])
            d += 2
        total = 0 - (count << 7)
        i = 0
        while i < count:
            a = base
            rest = i
            d = inner
            while d < end:
                a += rest % int(p[d]) * int(p[d + 1])
                rest = rest // int(p[d])
                d += 2
            total += int(ptr8(a)[0]) ^ 128
            i += 1
        sums[0] = total
        rescale(int(blk[6]), int(blk[3]) + row, 0, arena, params, int(blk[5]) + end, 1, 1)
        row += 1
    return 0


KERNELS = {0x30: average_pool_2d, 0x31: max_pool_2d, 0x32: mean}
