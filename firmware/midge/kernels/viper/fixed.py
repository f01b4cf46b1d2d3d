# The two inner loops that dense and convolution kernels share: sums of products, and their rescaling to int8.
#
# Only the first three locals of a viper function live in registers, and parameters come first: here and in conv.py
# they are the pointers of the innermost loop. Buffers and offsets are passed from function to function, never
# addresses, which may not fit a board's small int.


@micropython.viper
def multiply(x: ptr8, w: ptr8, total: int, vector: int, weight: int, sums: int, rows: int, depth: int):
    # sums[i] = sum over k of (weight[i][k] - 128) * vector[k], both unsigned bytes, x the arena and w the weights.
    # `total` is the sum of the vector: the 128 is taken out once a row.
    s = ptr32(int(x) + sums)
    first = int(x) + vector
    w = ptr8(int(w) + weight)
    start = 0 - (total << 7)
    i = 0
    while i < rows:
        x = ptr8(first)
        total = start
        k = depth
        while k >= 8:
            total += (
                x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3]
                + x[4] * w[4] + x[5] * w[5] + x[6] * w[6] + x[7] * w[7]
            )  # fmt: skip
            x = ptr8(int(x) + 8)
            w = ptr8(int(w) + 8)
            k -= 8
        while k > 0:
            total += x[0] * w[0]
            x = ptr8(int(x) + 1)
            w = ptr8(int(w) + 1)
            k -= 1
        s[i] = total
        i += 1


@micropython.viper
def rescale(sums: int, out: int, channel: int, arena, params, stage: int, count: int, channels: int):
    # `count` int32 sums to int8 outputs, for channels `channel`, `channel` + 1, ... and round again. The stage and the
    # plain form of the arithmetic are in portable/fixed.py. Outputs also replace their sums, as words.
    one = 1
    sign = one << 31
    word = (sign << 1) - 1  # all bits of an int32: -1 on a board
    p = ptr32(int(ptr32(params)) + (stage << 2))
    zero = (int(p[0]) ^ sign) - sign
    low = (int(p[1]) ^ sign) - sign
    high = (int(p[2]) ^ sign) - sign
    step = int(p[3]) << 2
    first_bias = int(p) + 16
    first_scale = first_bias + (channels << 2)
    bias = first_bias + (channel << 2)
    scale = first_scale + channel * step
    sums += int(ptr8(arena))
    out += int(ptr8(arena))
    while count > 0:
        v = int(ptr32(sums)[0]) + int(ptr32(bias)[0])
        shift = (int(ptr32(scale)[1]) ^ sign) - sign
        if shift > 0:
            v = v << shift
            shift = 0
        v = ((v & word) ^ sign) - sign
        shift = 0 - shift
        negative = 0
        if v < 0:
            negative = 1
            v = 0 - v
        # |v| * mantissa >> 31 in 16-bit limbs, every partial product below 2^32; a negative product rounds one below
        # the half. Then to nearest, halves away from zero, which for a magnitude is up.
        v1 = int(uint(v) >> 16)
        v0 = v & 0xFFFF
        m1 = int(uint(ptr32(scale)[0]) >> 16)
        m0 = int(ptr32(scale)[0]) & 0xFFFF
        bottom = uint(v0 * m0)
        middle = uint(v1 * m0 + v0 * m1) + (bottom >> 16) + 0x4000
        if negative:
            if not int(bottom & 0xFFFF):
                middle -= 1
        v = ((v1 * m1) << 1) + int(middle >> 15)
        v = int(uint(v + ((one << shift) >> 1)) >> shift)
        if negative:
            v = 0 - v
        v = (((v + zero) & word) ^ sign) - sign
        if v < low:
            v = low
        if v > high:
            v = high
        ptr32(sums)[0] = v
        ptr8(out)[0] = v
        sums += 4
        out += 1
        bias += 4
        scale += step
        if bias == first_scale:
            bias = first_bias
            scale = first_scale
        count -= 1
