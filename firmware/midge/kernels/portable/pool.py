# AVERAGE_POOL_2D, MAX_POOL_2D and MEAN.
#
# Pools   params  0-11 the window (conv.py)  12 channels  13 low  14 high. A row is one row of output pixels.
# MEAN    params  elements averaged, the walk over outputs: n, then n times (size, stride), then the walk over what an
#         output averages, the same way; both fastest dimension first; then the stage (fixed.py) of one channel, whose
#         bias holds the zero points. A row is one output.

from .fixed import output


def _pool(block, arena, params, average):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    in_h, in_w, out_h, out_w, height, width, stride_h, stride_w, dil_h, dil_w, pad_h, pad_w = params[p : p + 12]
    channels, low, high = params[p + 12 : p + 15]
    o = out + row0 * out_w * channels
    for row in range(row0, row1):
        image = in0 + row // out_h * in_h * in_w * channels
        top = row % out_h * stride_h - pad_h
        for column in range(out_w):
            left = column * stride_w - pad_w
            for c in range(channels):
                total = 0
                largest = -128
                count = 0
                for y in range(max(top, 0), min(top + height, in_h)):
                    for x in range(max(left, 0), min(left + width, in_w)):
                        v = (arena[image + (y * in_w + x) * channels + c] ^ 128) - 128
                        total += v
                        largest = max(largest, v)
                        count += 1
                v = largest
                if average:  # to nearest, halves away from zero
                    v = (total + count // 2) // count if total > 0 else -((count // 2 - total) // count)
                arena[o] = (low if v < low else high if v > high else v) & 255
                o += 1
    return 0


def average_pool_2d(block, arena, weights, params):
    return _pool(block, arena, params, True)


def max_pool_2d(block, arena, weights, params):
    return _pool(block, arena, params, False)


def mean(block, arena, weights, params):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    outer = p + 2
    inner = outer + 2 * params[p + 1] + 1
    stage = inner + 2 * params[inner - 1]
    for row in range(row0, row1):
        base = in0 + _offset(params, outer, inner - 1, row)
        total = 0
        for i in range(params[p]):
            total += (arena[base + _offset(params, inner, stage, i)] ^ 128) - 128
        arena[out + row] = output(params, stage, 1, 0, total)
    return 0


def _offset(params, start, end, index):
    offset = 0
    for d in range(start, end, 2):
        offset += index % params[d] * params[d + 1]
        index //= params[d]
    return offset


KERNELS = {0x30: average_pool_2d, 0x31: max_pool_2d, 0x32: mean}
