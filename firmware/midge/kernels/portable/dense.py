# FULLY_CONNECTED.
#
# params  depth, units, then the stage that rescales sums (fixed.py, `output`)
# Weights lie [units][depth] in offset binary (w + 128). Biases hold the input's zero point (models/ops/weighted.py).
# A row is one output: unit number `row % units` of input vector number `row // units`.

from .fixed import output


def fully_connected(block, arena, weights, params):
    abi, in0, in1, out, weight, p, scratch, row0, row1 = block
    depth = params[p]
    units = params[p + 1]
    for row in range(row0, row1):
        unit = row % units
        x = in0 + row // units * depth
        w = weight + unit * depth
        total = 0
        for k in range(depth):
            total += (arena[x + k] ^ 128) * (weights[w + k] - 128)
        arena[out + row] = output(params, p + 2, units, unit, total)
    return 0


KERNELS = {0x10: fully_connected}
