# TensorFlow Lite Micro's fixed-point rescaling, on Python integers.


def rescale(x, mantissa, shift):
    # MultiplyByQuantizedMultiplier with double rounding: x * mantissa * 2^(shift - 31), first rounded to a 32-bit high
    # product (ties away from zero), then divided by a power of two (ties away from zero). A left shift wraps as int32.
    if shift > 0:
        x = ((x << shift) + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        shift = 0
    x *= mantissa
    x = (x + 0x40000000) >> 31 if x >= 0 else -((0x3FFFFFFF - x) >> 31)
    if not shift:
        return x
    mask = (1 << -shift) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> -shift) + ((x & mask) > threshold)
