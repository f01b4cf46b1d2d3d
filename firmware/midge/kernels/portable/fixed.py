# TensorFlow Lite Micro's fixed-point rescaling, on Python integers.


def wrap(x):
    # What an int32 holds after overflow.
    return (x + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def rescale(x, mantissa, shift):
    # MultiplyByQuantizedMultiplier with double rounding: x * mantissa * 2^(shift - 31), first rounded to a 32-bit high
    # product (ties away from zero), then divided by a power of two (ties away from zero). A left shift wraps as int32.
    if shift > 0:
        x = wrap(x << shift)
        shift = 0
    x *= mantissa
    x = (x + 0x40000000) >> 31 if x >= 0 else -((0x3FFFFFFF - x) >> 31)
    if not shift:
        return x
    mask = (1 << -shift) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> -shift) + ((x & mask) > threshold)


def output(params, stage, channels, channel, total):
    # The output byte of a channel's int32 sum. The stage: zero point, low, high, step, a bias per channel, then
    # (mantissa, shift) once (step 0) or per channel (step 2).
    zero, low, high, step = params[stage : stage + 4]
    scale = stage + 4 + channels + channel * step
    v = wrap(zero + rescale(wrap(total + params[stage + 4 + channel]), params[scale], params[scale + 1]))
    return (low if v < low else high if v > high else v) & 255
