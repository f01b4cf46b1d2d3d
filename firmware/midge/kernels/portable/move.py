# Moving bytes: CONCATENATION, PAD, TRANSPOSE and STRIDED_SLICE are walks over strided copies.
#
# COPY    params  inner, n, in stride, out stride, then n times (size, in stride, out stride), fastest dimension first.
#         A row is `inner` bytes; strides count bytes. in0 = -1: the source is a constant, at `weights`.
# FILL    params  value (0-255), bytes a row


def copy(block, arena, weights, params):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    inner, dims, step_in, step_out = params[p : p + 4]
    source = arena
    if in0 < 0:
        source = weights
        in0 = weight
    for row in range(row0, row1):
        a = in0
        o = out
        for d in range(p + 4, p + 4 + 3 * dims, 3):
            i = row % params[d]
            row //= params[d]
            a += i * params[d + 1]
            o += i * params[d + 2]
        for _ in range(inner):
            arena[o] = source[a]
            a += step_in
            o += step_out
    return 0


def fill(block, arena, weights, params):
    p = block[5]
    value = params[p]
    size = params[p + 1]
    for i in range(block[3] + block[7] * size, block[3] + block[8] * size):
        arena[i] = value
    return 0


KERNELS = {0x50: copy, 0x51: fill}
