# Table kernels at the viper level. Parameters: see portable/table.py. Viper has no floats: quantising them stays there.

from ..portable.table import quantize_float32


@micropython.viper
def lookup_int8(block, arena, weights, params) -> int:
    blk = ptr32(block)
    size = int(ptr32(params)[int(blk[5])])
    skip = int(blk[7]) * size
    a = ptr8(int(ptr8(arena)) + int(blk[1]) + skip)
    o = ptr8(int(ptr8(arena)) + int(blk[3]) + skip)
    table = ptr8(int(ptr8(weights)) + int(blk[4]))
    n = (int(blk[8]) - int(blk[7])) * size
    i = 0
    while i < n:
        o[i] = table[int(a[i])]
        i += 1
    return 0


@micropython.viper
def lookup_float32(block, arena, weights, params) -> int:
    blk = ptr32(block)
    size = int(ptr32(params)[int(blk[5])])
    skip = int(blk[7]) * size
    a = ptr8(int(ptr8(arena)) + int(blk[1]) + skip)
    o = ptr32(int(ptr8(arena)) + int(blk[3]) + (skip << 2))
    table = ptr32(int(ptr8(weights)) + int(blk[4]))
    n = (int(blk[8]) - int(blk[7])) * size
    i = 0
    while i < n:
        o[i] = table[int(a[i])]
        i += 1
    return 0


KERNELS = {0x60: lookup_int8, 0x61: lookup_float32, 0x62: quantize_float32}
