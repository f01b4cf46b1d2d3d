"""The cost model in one place: what a general kernel's call costs, and what counts mean in milliseconds on a board.

Hand-written kernels know their own cost; the general ones are fitted here to counts on the emulated cores, by
`tools/fit_costs.py`: so much a call, an output, a term of an output, an inner loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call

CLOCK_MHZ: Final[Mapping[str, int]] = {  # Pico, Pico 2, ESP32-C3 and ESP32, as MicroPython starts them
    "armv6m": 125,
    "armv7emsp": 150,
    "rv32imc": 160,
    "xtensawin": 160,
}
# Counts of RV32 and Xtensa are instructions. Judged from published times of ESP-NN, which are 0.98 to 1.2 times its
# instructions on the emulated core.
CYCLES_A_COUNT: Final[Mapping[str, float]] = {"armv6m": 1.0, "armv7emsp": 1.0, "rv32imc": 1.2, "xtensawin": 1.2}


@dataclass(frozen=True)
class Work:
    """What a call has to do: output values, `terms` that they are made of (MACs, bytes), and inner loops entered or,
    for CONV_2D, values that are gathered. A walk's rows count as outputs."""

    outputs: int
    terms: int
    loops: int = 0


def work(call: Call) -> Work:
    """A call's work, from its parameters (written above each device kernel)."""
    p, rows, kernel = call.params, call.rows, Kernel(call.kernel)
    match kernel:
        case Kernel.FULLY_CONNECTED:
            return Work(rows, rows * p[0], rows // p[1] * p[0])
        case Kernel.CONV_2D:
            pixels, size = rows * p[3], p[4] * p[5]
            return Work(pixels * p[13], pixels * size * p[13] * p[14], pixels * size * p[12])
        case Kernel.DEPTHWISE_CONV_2D | Kernel.AVERAGE_POOL_2D | Kernel.MAX_POOL_2D:
            channels = p[13] if kernel == Kernel.DEPTHWISE_CONV_2D else p[12]
            lines, columns = (_inside(*p[axis:12:2]) for axis in (0, 1))
            images = rows // p[2] * channels
            return Work(images * p[2] * p[3], images * lines * columns, images * lines * p[3])
        case Kernel.MEAN:
            return Work(rows, rows * p[0])
        case Kernel.ADD | Kernel.MUL | Kernel.MAXIMUM | Kernel.MINIMUM:
            return Work(rows, rows * p[8])
        case Kernel.FILL:
            return Work(rows, rows * p[1])
        case Kernel.COPY:
            return Work(rows, rows * p[0], rows * p[1])
        case Kernel.LOOKUP_INT8 | Kernel.LOOKUP_FLOAT32 | Kernel.QUANTIZE_FLOAT32 | Kernel.SOFTMAX:
            return Work(rows, rows * p[0])


def _inside(size: int, out: int, window: int, stride: int, dilation: int, padding: int) -> int:
    """How many positions of a window lie inside of the image, over all outputs of an axis."""
    return sum(0 <= o * stride - padding + k * dilation < size for o in range(out) for k in range(window))


def general(call: Call, arch: str) -> float:
    """What a call costs on the general kernels of an arch, in its core's unit."""
    a_call, an_output, a_term, a_loop = _COSTS[arch][Kernel(call.kernel)]
    done = work(call)
    return a_call + an_output * done.outputs + a_term * done.terms + a_loop * done.loops


def milliseconds(count: float, arch: str, clock_mhz: float) -> float:
    """How long a count of an arch's core takes at a clock, memory never waiting."""
    return count * CYCLES_A_COUNT[arch] / (clock_mhz * 1000)


def call_limit(ms: float, arch: str, clock_mhz: float) -> float:
    """The estimated count that a kernel call may have to take no more than `ms`, estimates being off by a tenth."""
    return 0.9 * ms * clock_mhz * 1000 / CYCLES_A_COUNT[arch]


# (a call, an output, a term, a loop) as `tools/fit_costs.py` prints them.
_COSTS: Final[Mapping[str, Mapping[Kernel, tuple[float, float, float, float]]]] = {
    "armv6m": {
        Kernel.FULLY_CONNECTED: (201, 119.9, 6.52, 11.7),
        Kernel.CONV_2D: (612, 172.7, 7.26, 34.1),
        Kernel.DEPTHWISE_CONV_2D: (1026, 122.7, 20.70, 22.1),
        Kernel.AVERAGE_POOL_2D: (400, 189.3, 7.74, 0.0),
        Kernel.MAX_POOL_2D: (774, 51.5, 10.60, 1.9),
        Kernel.MEAN: (102, 209.7, 8.80, 0.0),
        Kernel.ADD: (83, 114.2, 84.61, 0.0),
        Kernel.MUL: (74, 126.8, 85.26, 0.0),
        Kernel.MAXIMUM: (59, 104.0, 39.79, 0.0),
        Kernel.MINIMUM: (66, 90.1, 40.76, 0.0),
        Kernel.COPY: (154, 32.5, 3.63, 88.0),
        Kernel.FILL: (51, 0.8, 1.50, 0.0),
        Kernel.LOOKUP_INT8: (48, 3.0, 7.23, 0.0),
        Kernel.LOOKUP_FLOAT32: (40, 0.0, 12.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (83, 0.0, 281.54, 0.0),
        Kernel.SOFTMAX: (74, 445.4, 107.37, 0.0),
    },
    "armv7emsp": {
        Kernel.FULLY_CONNECTED: (160, 80.6, 5.63, 12.2),
        Kernel.CONV_2D: (425, 121.7, 4.52, 18.8),
        Kernel.DEPTHWISE_CONV_2D: (710, 89.3, 13.05, 15.8),
        Kernel.AVERAGE_POOL_2D: (258, 56.8, 8.01, 3.6),
        Kernel.MAX_POOL_2D: (531, 32.0, 10.17, 0.6),
        Kernel.MEAN: (75, 136.8, 8.87, 0.0),
        Kernel.ADD: (63, 65.4, 47.03, 0.0),
        Kernel.MUL: (58, 68.3, 45.83, 0.0),
        Kernel.MAXIMUM: (48, 58.9, 20.95, 0.0),
        Kernel.MINIMUM: (51, 55.0, 21.30, 0.0),
        Kernel.COPY: (145, 27.6, 3.31, 31.1),
        Kernel.FILL: (56, 0.0, 1.74, 0.0),
        Kernel.LOOKUP_INT8: (47, 1.1, 4.75, 0.0),
        Kernel.LOOKUP_FLOAT32: (40, 0.0, 12.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (68, 0.8, 311.34, 0.0),
        Kernel.SOFTMAX: (61, 187.8, 59.63, 0.0),
    },
    "rv32imc": {
        Kernel.FULLY_CONNECTED: (113, 44.4, 4.41, 7.9),
        Kernel.CONV_2D: (257, 67.0, 3.71, 12.5),
        Kernel.DEPTHWISE_CONV_2D: (406, 34.6, 9.51, 10.1),
        Kernel.AVERAGE_POOL_2D: (176, 31.5, 5.05, 2.4),
        Kernel.MAX_POOL_2D: (291, 21.7, 5.39, 1.1),
        Kernel.MEAN: (77, 60.2, 5.67, 0.0),
        Kernel.ADD: (29, 31.9, 31.90, 0.0),
        Kernel.MUL: (29, 34.2, 28.60, 0.0),
        Kernel.MAXIMUM: (12, 28.7, 11.65, 0.0),
        Kernel.MINIMUM: (51, 25.0, 11.46, 0.0),
        Kernel.COPY: (92, 26.1, 2.00, 15.2),
        Kernel.FILL: (32, 0.4, 1.00, 0.0),
        Kernel.LOOKUP_INT8: (28, 0.7, 5.00, 0.0),
        Kernel.LOOKUP_FLOAT32: (25, 0.0, 9.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (44, 0.0, 182.00, 0.0),
        Kernel.SOFTMAX: (26, 136.7, 41.82, 0.0),
    },
    "xtensawin": {
        Kernel.FULLY_CONNECTED: (116, 50.7, 4.20, 6.1),
        Kernel.CONV_2D: (307, 84.5, 3.50, 10.4),
        Kernel.DEPTHWISE_CONV_2D: (531, 62.5, 8.31, 14.0),
        Kernel.AVERAGE_POOL_2D: (176, 114.0, 3.91, 0.0),
        Kernel.MAX_POOL_2D: (362, 22.5, 4.45, 1.8),
        Kernel.MEAN: (62, 105.9, 4.50, 0.0),
        Kernel.ADD: (29, 57.8, 37.19, 0.0),
        Kernel.MUL: (19, 64.5, 38.16, 0.0),
        Kernel.MAXIMUM: (21, 51.3, 13.01, 0.0),
        Kernel.MINIMUM: (26, 46.6, 13.24, 0.0),
        Kernel.COPY: (85, 12.8, 1.88, 39.2),
        Kernel.FILL: (32, 2.8, 0.49, 0.0),
        Kernel.LOOKUP_INT8: (29, 0.5, 4.50, 0.0),
        Kernel.LOOKUP_FLOAT32: (27, 0.0, 7.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (44, 0.0, 134.11, 0.0),
        Kernel.SOFTMAX: (26, 141.4, 38.82, 0.0),
    },
}
