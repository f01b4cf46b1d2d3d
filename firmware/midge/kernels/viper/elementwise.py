# ADD, MUL, MAXIMUM and MINIMUM at the viper level. Parameters: see portable/elementwise.py.


@micropython.viper
def elementwise(block, arena, weights, params) -> int:
    blk = ptr32(block)
    p = ptr32(int(ptr32(params)) + (int(blk[5]) << 2))
    # ptr32 loads are zero-extended where words have 64 bits: the xor and subtraction restore the sign, and change
    # nothing on a 32-bit board.
    one = 1
    sign = one << 31
    mode = int(p[0])
    low = (int(p[1]) ^ sign) - sign
    high = (int(p[2]) ^ sign) - sign
    zero = (int(p[3]) ^ sign) - sign
    mantissa_high = int(p[4]) >> 16
    mantissa_low = int(p[4]) & 0xFFFF
    shift = (int(p[5]) ^ sign) - sign
    zero0 = (int(p[6]) ^ sign) - sign
    zero1 = (int(p[7]) ^ sign) - sign
    inner = int(p[8])
    dims = int(p[9])
    step0 = (int(p[10]) ^ sign) - sign
    step1 = (int(p[11]) ^ sign) - sign
    left = 0
    right = 0
    if shift > 0:
        left = shift
    else:
        right = 0 - shift
    mask = (one << right) - 1
    half = mask >> 1
    table0 = ptr32(int(p) + ((12 + 3 * dims) << 2))
    table1 = ptr32(int(table0) + 1024)
    first = ptr8(arena)
    base0 = int(blk[1])
    base1 = (int(blk[2]) ^ sign) - sign
    second = ptr8(arena)
    if base1 < 0:
        second = ptr8(weights)
        base1 = int(blk[4])
    o = ptr8(int(ptr8(arena)) + int(blk[3]) + int(blk[7]) * inner)
    row = int(blk[7])
    end = int(blk[8])
    while row < end:
        a = base0
        b = base1
        rest = row
        d = 12
        last = 12 + 3 * dims
        while d < last:
            size = int(p[d])
            i = rest % size
            rest = rest // size
            a += i * ((int(p[d + 1]) ^ sign) - sign)
            b += i * ((int(p[d + 2]) ^ sign) - sign)
            d += 3
        n = inner
        while n > 0:
            x = int(first[a])
            y = int(second[b])
            v = 0
            if mode == 0:
                v = ((int(table0[x]) ^ sign) - sign) + ((int(table1[y]) ^ sign) - sign)
            else:
                x = (x ^ 128) - 128
                y = (y ^ 128) - 128
                if mode == 1:
                    v = ((x - zero0) * (y - zero1)) << left
                elif mode == 2:
                    v = x if x > y else y
                else:
                    v = x if x < y else y
            if mode < 2:
                # |v| * mantissa >> 31 in 16-bit limbs, every partial product below 2^32; a negative product rounds
                # one below the half (portable/fixed.py has the plain form).
                negative = 0
                if v < 0:
                    negative = 1
                    v = 0 - v
                v1 = v >> 16
                v0 = v & 0xFFFF
                bottom = uint(v0 * mantissa_low)
                middle = uint(v1 * mantissa_low + v0 * mantissa_high) + (bottom >> 16)
                if negative == 1 and int(bottom & 0xFFFF) == 0:
                    middle = middle + 16383
                else:
                    middle = middle + 16384
                v = ((v1 * mantissa_high) << 1) + int(middle >> 15)
                if negative == 1:
                    v = 0 - v
                if right > 0:
                    remainder = v & mask
                    v = v >> right
                    if remainder > half + negative:
                        v += 1
                v += zero
            if v < low:
                v = low
            if v > high:
                v = high
            o[0] = v
            o = ptr8(int(o) + 1)
            a += step0
            b += step1
            n -= 1
        row += 1
    return 0


KERNELS = {0x40: elementwise, 0x41: elementwise, 0x42: elementwise, 0x43: elementwise}
