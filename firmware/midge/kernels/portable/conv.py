# CONV_2D and DEPTHWISE_CONV_2D on NHWC images.
#
# params  0-11 the window: in height, in width, out height, out width, height, width, stride height, stride width,
#         dilation height, dilation width, padding above, padding left
#         12 channels  13 filters  14 depth of a filter (CONV_2D) or filters a channel (DEPTHWISE_CONV_2D)
#         15 the input's zero point in offset binary  16 output pixels whose sums are held  17 the stage (fixed.py)
# Weights are in offset binary (w + 128): CONV_2D [filters][height][width][depth], its biases hold the input's zero
# point; DEPTHWISE_CONV_2D [height][width][filters].
# A row is one row of output pixels: number `row % out height` of image `row // out height`.

from .fixed import output


def conv_2d(block, arena, weights, params):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    in_h, in_w, out_h, out_w, height, width, stride_h, stride_w, dil_h, dil_w, pad_h, pad_w = params[p : p + 12]
    channels, filters, depth, zero = params[p + 12 : p + 16]
    per_group = filters * depth // channels
    o = out + row0 * out_w * filters
    for row in range(row0, row1):
        image = in0 + row // out_h * in_h * in_w * channels
        top = row % out_h * stride_h - pad_h
        for column in range(out_w):
            left = column * stride_w - pad_w
            w = weight
            for f in range(filters):
                group = f // per_group * depth
                total = 0
                for y in range(top, top + height * dil_h, dil_h):
                    for x in range(left, left + width * dil_w, dil_w):
                        if 0 <= y < in_h and 0 <= x < in_w:
                            a = image + (y * in_w + x) * channels + group
                            for k in range(depth):
                                total += (arena[a + k] ^ 128) * (weights[w + k] - 128)
                        else:
                            for k in range(depth):
                                total += zero * (weights[w + k] - 128)
                        w += depth
                arena[o] = output(params, p + 17, filters, f, total)
                o += 1
    return 0


def depthwise_conv_2d(block, arena, weights, params):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    in_h, in_w, out_h, out_w, height, width, stride_h, stride_w, dil_h, dil_w, pad_h, pad_w = params[p : p + 12]
    channels, filters, multiplier, zero = params[p + 12 : p + 16]
    o = out + row0 * out_w * filters
    for row in range(row0, row1):
        image = in0 + row // out_h * in_h * in_w * channels
        top = row % out_h * stride_h - pad_h
        for column in range(out_w):
            left = column * stride_w - pad_w
            for f in range(filters):
                a = image + f // multiplier
                w = weight + f
                total = 0
                for y in range(top, top + height * dil_h, dil_h):
                    for x in range(left, left + width * dil_w, dil_w):
                        if 0 <= y < in_h and 0 <= x < in_w:
                            total += ((arena[a + (y * in_w + x) * channels] ^ 128) - zero) * (weights[w] - 128)
                        w += filters
                arena[o] = output(params, p + 17, filters, f, total)
                o += 1
    return 0


KERNELS = {0x20: conv_2d, 0x21: depthwise_conv_2d}
