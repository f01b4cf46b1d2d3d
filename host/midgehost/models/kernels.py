"""Kernel numbers: what a plan calls and the board looks up. Append-only: a number never changes its meaning.

The family (number >> 4) is the file under firmware/midge/kernels/{portable,viper}/ that holds the kernel. What each
takes as parameters is written above the device function and in the op file that lowers to it.
"""

from __future__ import annotations

from enum import IntEnum


class Kernel(IntEnum):
    # dense
    FULLY_CONNECTED = 0x10
    # conv
    CONV_2D = 0x20
    DEPTHWISE_CONV_2D = 0x21
    # pool
    AVERAGE_POOL_2D = 0x30
    MAX_POOL_2D = 0x31
    MEAN = 0x32
    # elementwise
    ADD = 0x40
    MUL = 0x41
    MAXIMUM = 0x42
    MINIMUM = 0x43
    # move
    COPY = 0x50
    FILL = 0x51
    # table
    LOOKUP_INT8 = 0x60
    LOOKUP_FLOAT32 = 0x61
    QUANTIZE_FLOAT32 = 0x62
    # softmax
    SOFTMAX = 0x70


_FAMILIES = ("", "dense", "conv", "pool", "elementwise", "move", "table", "softmax")


def family_module(kernel: int) -> str:
    """The device module, below kernels/<level>/, that holds a kernel."""
    return _FAMILIES[kernel >> 4]
