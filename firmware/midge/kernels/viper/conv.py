# CONV_2D and DEPTHWISE_CONV_2D at the viper level. Parameters: see portable/conv.py.
#
# Scratch  int32 sums of the held output pixels, then (CONV_2D) what the window sees in offset binary, the zero point
#          where it leaves the image: the inner loop has no bounds to test.

from .fixed import multiply, rescale


@micropython.viper
def conv_2d(block, arena, weights, params) -> int:
    blk = ptr32(block)
    stage = int(blk[5]) + 17
    p = ptr32(int(ptr32(params)) + (int(blk[5]) << 2))
    in_h = int(p[0])
    in_w = int(p[1])
    out_h = int(p[2])
    out_w = int(p[3])
    height = int(p[4])
    width = int(p[5])
    channels = int(p[12])
    filters = int(p[13])
    depth = int(p[14])
    zero = int(p[15])
    held = int(p[16])
    per_group = filters * depth // channels
    size = height * width * depth
    sums = int(blk[6])
    vector = sums + ((held * filters) << 2)
    row = int(blk[7])
    while row < int(blk[8]):
        image = int(ptr8(arena)) + int(blk[1]) + row // out_h * in_h * in_w * channels
        top = row % out_h * int(p[6]) - int(p[10])
        column = 0
        n = 0
        while column < out_w:
            left = column * int(p[7]) - int(p[11])
            group = 0
            at = sums + ((n * filters) << 2)
            weight = int(blk[4])
            while group < channels:
                x = ptr8(int(ptr8(arena)) + vector)
                total = 0
                j = 0
                y = top
                while j < height:
                    i = 0
                    c = left
                    while i < width:
                        k = 0
                        if y >= 0 and y < in_h and c >= 0 and c < in_w:
                            source = ptr8(image + (y * in_w + c) * channels + group)
                            while k < depth:
                                b = int(source[k]) ^ 128
                                x[k] = b
                                total += b
                                k += 1
                        else:
                            total += zero * depth
                            while k < depth:
                                x[k] = zero
                                k += 1
                        x = ptr8(int(x) + depth)
                        i += 1
                        c += int(p[9])
                    j += 1
                    y += int(p[8])
                multiply(arena, weights, total, vector, weight, at, per_group, size)
                at += per_group << 2
                weight += per_group * size
                group += depth
            column += 1
            n += 1
            if n == held or column == out_w:
                out = int(blk[3]) + (row * out_w + column - n) * filters
                rescale(sums, out, 0, arena, params, stage, n * filters, filters)
                n = 0
        row += 1
    return 0


@micropython.viper
def _depthwise(x: ptr8, w: ptr8, s: ptr32, block, arena, weights, params) -> int:
    # x, w and s are set below: they are parameters to live in registers, see fixed.py.
    blk = ptr32(block)
    stage = int(blk[5]) + 17
    p = ptr32(int(ptr32(params)) + (int(blk[5]) << 2))
    in_h = int(p[0])
    in_w = int(p[1])
    out_h = int(p[2])
    out_w = int(p[3])
    height = int(p[4])
    width = int(p[5])
    channels = int(p[12])
    filters = int(p[13])
    multiplier = int(p[14])
    zero = int(p[15])
    held = int(p[16])
    sums = int(blk[6])
    row = int(blk[7])
    while row < int(blk[8]):
        image = int(ptr8(arena)) + int(blk[1]) + row // out_h * in_h * in_w * channels
        top = row % out_h * int(p[6]) - int(p[10])
        column = 0
        n = 0
        while column < out_w:
            left = column * int(p[7]) - int(p[11])
            pixel = int(ptr8(arena)) + sums + ((n * filters) << 2)
            s = ptr32(pixel)
            f = filters
            while f > 0:
                s[0] = 0
                s = ptr32(int(s) + 4)
                f -= 1
            w = ptr8(int(ptr8(weights)) + int(blk[4]))
            j = 0
            y = top
            while j < height:
                i = 0
                c = left
                while i < width:
                    if y >= 0 and y < in_h and c >= 0 and c < in_w:
                        x = ptr8(image + (y * in_w + c) * channels)
                        s = ptr32(pixel)
                        f = filters
                        if multiplier == 1:
                            while f >= 4:
                                s[0] = int(s[0]) + ((int(x[0]) ^ 128) - zero) * (int(w[0]) - 128)
                                s[1] = int(s[1]) + ((int(x[1]) ^ 128) - zero) * (int(w[1]) - 128)
                                s[2] = int(s[2]) + ((int(x[2]) ^ 128) - zero) * (int(w[2]) - 128)
                                s[3] = int(s[3]) + ((int(x[3]) ^ 128) - zero) * (int(w[3]) - 128)
                                x = ptr8(int(x) + 4)
                                w = ptr8(int(w) + 4)
                                s = ptr32(int(s) + 16)
                                f -= 4
                        m = multiplier
                        while f > 0:
                            s[0] = int(s[0]) + ((int(x[0]) ^ 128) - zero) * (int(w[0]) - 128)
                            w = ptr8(int(w) + 1)
                            s = ptr32(int(s) + 4)
                            m -= 1
                            if m == 0:
                                m = multiplier
                                x = ptr8(int(x) + 1)
                            f -= 1
                    else:
                        w = ptr8(int(w) + filters)
                    i += 1
                    c += int(p[9])
                j += 1
                y += int(p[8])
            column += 1
            n += 1
            if n == held or column == out_w:
                out = int(blk[3]) + (row * out_w + column - n) * filters
                rescale(sums, out, 0, arena, params, stage, n * filters, filters)
                n = 0
        row += 1
    return 0


def depthwise_conv_2d(block, arena, weights, params):
    return _depthwise(arena, weights, arena, block, arena, weights, params)


KERNELS = {0x20: conv_2d, 0x21: depthwise_conv_2d}
