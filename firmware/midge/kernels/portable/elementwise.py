# ADD (SUB is ADD with a negated table), MUL, MAXIMUM and MINIMUM over two int8 operands, with broadcasting.
#
# params  0 mode (0 add, 1 mul, 2 max, 3 min)  1 low  2 high  3 output zero point  4 mantissa  5 shift
#         6, 7 zero points of in0 and in1 (mul)  8 the walk (see below), then for add two tables of 256 words:
#         the rescaled value of in0 and of in1 by their byte
# walk    inner, n, stride0, stride1, then n times (size, stride0, stride1), fastest dimension first. A row is `inner`
#         elements; the output is contiguous. Strides count elements; 0 repeats.
# in1 = -1: the second operand is a constant, at `weights`.

from .fixed import rescale


def elementwise(block, arena, weights, params):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    mode, low, high, zero, mantissa, shift, zero0, zero1, inner, dims, step0, step1 = params[p : p + 12]
    second = arena
    if in1 < 0:
        second = weights
        in1 = weight
    table0 = p + 12 + 3 * dims
    table1 = table0 + 256
    out += row0 * inner
    for row in range(row0, row1):
        a = in0
        b = in1
        for d in range(p + 12, table0, 3):
            i = row % params[d]
            row //= params[d]
            a += i * params[d + 1]
            b += i * params[d + 2]
        for _ in range(inner):
            x = arena[a]
            y = second[b]
            if mode == 0:
                v = zero + rescale(params[table0 + x] + params[table1 + y], mantissa, shift)
            else:
                x = (x ^ 128) - 128
                y = (y ^ 128) - 128
                if mode == 1:
                    v = zero + rescale((x - zero0) * (y - zero1), mantissa, shift)
                elif mode == 2:
                    v = x if x > y else y
                else:
                    v = x if x < y else y
            arena[out] = (low if v < low else high if v > high else v) & 255
            a += step0
            b += step1
            out += 1
    return 0


KERNELS = {0x40: elementwise, 0x41: elementwise, 0x42: elementwise, 0x43: elementwise}
