# An int8 input has 256 values: every unary operator is a table that the host computed exactly.
#
# LOOKUP_INT8       params  elements a row; the table is 256 bytes at `weights`, by the input's byte
# LOOKUP_FLOAT32    params  elements a row; the table is 256 float32 at `weights` (DEQUANTIZE)
# QUANTIZE_FLOAT32  params  elements a row, zero point, scale (the bits of a float32). Status 4: not a number.

import struct
from array import array

NOT_A_NUMBER = 4


def lookup_int8(block, arena, weights, params):
    size = params[block[5]]
    a = block[1] + block[7] * size
    o = block[3] + block[7] * size
    table = block[4]
    for i in range((block[8] - block[7]) * size):
        arena[o + i] = weights[table + arena[a + i]]
    return 0


def lookup_float32(block, arena, weights, params):
    size = params[block[5]]
    a = block[1] + block[7] * size
    o = block[3] + 4 * block[7] * size
    table = block[4]
    for i in range((block[8] - block[7]) * size):
        t = table + 4 * arena[a + i]
        arena[o : o + 4] = weights[t : t + 4]
        o += 4
    return 0


def quantize_float32(block, arena, weights, params):
    p = block[5]
    size = params[p]
    zero = params[p + 1]
    scale = struct.unpack("<f", struct.pack("<i", params[p + 2]))[0]
    single = array("f", [0.0])  # rounds a quotient to float32 where floats are double
    a = block[1] + 4 * block[7] * size
    o = block[3] + block[7] * size
    for i in range((block[8] - block[7]) * size):
        single[0] = struct.unpack_from("<f", arena, a + 4 * i)[0] / scale
        x = single[0]
        if x != x:
            return NOT_A_NUMBER
        x = -512.0 if x < -512 else 512.0 if x > 512 else x
        v = int(x)  # towards zero; the fraction is exact, so a half goes away from zero as TfLiteRound has it
        v += zero + (x - v >= 0.5) - (v - x >= 0.5)
        arena[o + i] = (-128 if v < -128 else 127 if v > 127 else v) & 255
    return 0


KERNELS = {0x60: lookup_int8, 0x61: lookup_float32, 0x62: quantize_float32}
