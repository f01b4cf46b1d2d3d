# The two inner loops that dense and convolution kernels share: sums of products, and their rescaling to int8.
# Offsets, not addresses, are passed between viper functions: an address may not fit a board's small int.


@micropython.viper
def multiply(arena, weights, vector: int, weight: int, sums: int, rows: int, depth: int):
    # sums[i] = sum over k of (weight[i][k] - 128) * vector[k], both unsigned bytes: the 128 is taken out once a row.
    x = ptr8(int(ptr8(arena)) + vector)
    total = 0
    k = 0
    while k < depth:
        total += int(x[k])
        k += 1
    total = 0 - (total << 7)
    s = ptr32(int(ptr8(arena)) + sums)
    w = ptr8(int(ptr8(weights)) + weight)
    i = 0
    while i < rows:
        acc = total
        a = x
        k = depth
        while k >= 4:
            acc += int(a[0]) * int(w[0]) + int(a[1]) * int(w[1]) + int(a[2]) * int(w[2]) + int(a[3]) * int(w[3])
            a = ptr8(int(a) + 4)
            w = ptr8(int(w) + 4)
            k -= 4
        while k > 0:
            acc += int(a[0]) * int(w[0])
            a = ptr8(int(a) + 1)
            w = ptr8(int(w) + 1)
            k -= 1
        s[i] = acc
        i += 1


@micropython.viper
def rescale(arena, params, stage: int, sums: int, out: int, count: int, channels: int, channel: int):
    # `count` int32 sums to int8 outputs, for channels `channel`, `channel` + 1, ... and round again. The stage and the
    # plain form of the arithmetic are in portable/fixed.py, that of the 16-bit limbs in elementwise.py.
    one = 1
    sign = one << 31
    word = (sign << 1) - 1
    p = ptr32(int(ptr32(params)) + (stage << 2))
    zero = (int(p[0]) ^ sign) - sign
    low = (int(p[1]) ^ sign) - sign
    high = (int(p[2]) ^ sign) - sign
    step = int(p[3])
    biases = ptr32(int(p) + 16)
    scales = ptr32(int(biases) + (channels << 2))
    s = ptr32(int(ptr8(arena)) + sums)
    o = ptr8(int(ptr8(arena)) + out)
    c = channel
    i = 0
    while i < count:
        scale = ptr32(int(scales) + ((c * step) << 2))
        mantissa_high = int(scale[0]) >> 16
        mantissa_low = int(scale[0]) & 0xFFFF
        shift = (int(scale[1]) ^ sign) - sign
        v = (((int(s[i]) + int(biases[c])) & word) ^ sign) - sign
        if shift > 0:
            v = (((v << shift) & word) ^ sign) - sign
            shift = 0
        negative = 0
        if v < 0:
            negative = 1
            v = 0 - v
        v1 = int(uint(v) >> 16)
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
        if shift < 0:
            shift = 0 - shift
            mask = (one << shift) - 1
            remainder = v & mask
            v = v >> shift
            if remainder > (mask >> 1) + negative:
                v += 1
        v += zero
        if v < low:
            v = low
        if v > high:
            v = high
        o[i] = v
        i += 1
        c += 1
        if c == channels:
            c = 0
