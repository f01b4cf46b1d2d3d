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
    """What a call has to do: output values, `terms` that they are made of (MACs, bytes), and inner loops entered.

    For CONV_2D and FULLY_CONNECTED these are the values gathered, a window's position counting as three more; for
    other windows its lines, a pixel counting as three channels more; for walks the dimensions of all rows, and rows
    count as outputs.
    """

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
            groups = p[12] // p[14]
            return Work(pixels * p[13], pixels * size * p[13] * p[14], pixels * size * (p[12] + 3 * groups))
        case Kernel.DEPTHWISE_CONV_2D | Kernel.AVERAGE_POOL_2D | Kernel.MAX_POOL_2D:
            channels = p[13] if kernel == Kernel.DEPTHWISE_CONV_2D else p[12]
            lines, columns = (_inside(*p[axis:12:2]) for axis in (0, 1))
            images = rows // p[2]
            outputs = images * channels * p[2] * p[3]
            return Work(outputs, images * channels * lines * columns, images * (channels + 3) * lines * p[3])
        case Kernel.MEAN:
            inner = p[2 + 2 * p[1] :]  # the walk over what an output averages: n, then n times (size, stride)
            return Work(rows, rows * p[0], rows * (p[0] // inner[1] if inner[0] else 1))
        case Kernel.ADD | Kernel.MUL | Kernel.MAXIMUM | Kernel.MINIMUM:
            return Work(rows, rows * p[8], rows * p[9])
        case Kernel.FILL:
            return Work(rows, rows * p[1])
        case Kernel.COPY:
            strides = (*p[5::3], *p[6::3]) if p[2] == p[3] == 1 else (1,)
            offsets = [place.offset for place in (call.in0, call.out) if place]
            words = all(n % 4 == 0 for n in (*strides, *offsets))
            return Work(rows, rows * (p[0] // 4 + p[0] % 4 if words else p[0]), rows * p[1])
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
        Kernel.FULLY_CONNECTED: (250, 106.3, 5.39, 11.1),
        Kernel.CONV_2D: (863, 139.0, 5.43, 25.9),
        Kernel.DEPTHWISE_CONV_2D: (718, 126.2, 12.92, 18.0),
        Kernel.AVERAGE_POOL_2D: (466, 171.7, 7.55, 2.0),
        Kernel.MAX_POOL_2D: (608, 58.5, 9.81, 1.0),
        Kernel.MEAN: (102, 81.3, 7.92, 109.1),
        Kernel.ADD: (181, 0.0, 36.74, 178.0),
        Kernel.MUL: (199, 0.0, 76.61, 93.1),
        Kernel.MAXIMUM: (144, 0.0, 23.05, 140.5),
        Kernel.MINIMUM: (132, 8.7, 22.98, 118.8),
        Kernel.COPY: (72, 0.0, 9.07, 113.5),
        Kernel.FILL: (51, 0.8, 1.50, 0.0),
        Kernel.LOOKUP_INT8: (47, 3.3, 7.23, 0.0),
        Kernel.LOOKUP_FLOAT32: (40, 0.0, 12.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (85, 0.0, 280.77, 0.0),
        Kernel.SOFTMAX: (80, 345.1, 85.65, 0.0),
    },
    "armv7emsp": {
        Kernel.FULLY_CONNECTED: (182, 76.6, 4.94, 12.1),
        Kernel.CONV_2D: (560, 88.3, 4.56, 20.9),
        Kernel.DEPTHWISE_CONV_2D: (497, 95.1, 12.94, 11.1),
        Kernel.AVERAGE_POOL_2D: (217, 51.1, 6.89, 5.4),
        Kernel.MAX_POOL_2D: (413, 35.2, 9.88, 1.6),
        Kernel.MEAN: (98, 87.8, 7.94, 40.8),
        Kernel.ADD: (96, 28.7, 32.00, 57.1),
        Kernel.MUL: (102, 25.5, 44.01, 52.2),
        Kernel.MAXIMUM: (63, 16.0, 21.00, 60.0),
        Kernel.MINIMUM: (62, 16.0, 21.00, 59.9),
        Kernel.COPY: (64, 30.5, 7.59, 26.1),
        Kernel.FILL: (55, 0.0, 1.75, 0.0),
        Kernel.LOOKUP_INT8: (47, 1.1, 4.75, 0.0),
        Kernel.LOOKUP_FLOAT32: (40, 0.0, 12.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (5, 64.1, 311.17, 0.0),
        Kernel.SOFTMAX: (61, 187.2, 59.77, 0.0),
    },
    "rv32imc": {
        Kernel.FULLY_CONNECTED: (104, 46.9, 3.82, 7.7),
        Kernel.CONV_2D: (286, 46.4, 3.72, 9.8),
        Kernel.DEPTHWISE_CONV_2D: (284, 39.9, 9.63, 6.0),
        Kernel.AVERAGE_POOL_2D: (90, 31.0, 4.33, 3.2),
        Kernel.MAX_POOL_2D: (211, 21.3, 5.28, 2.1),
        Kernel.MEAN: (68, 37.0, 5.00, 23.1),
        Kernel.ADD: (51, 11.2, 21.61, 14.1),
        Kernel.MUL: (61, 9.7, 28.53, 14.4),
        Kernel.MAXIMUM: (29, 12.8, 11.50, 13.0),
        Kernel.MINIMUM: (48, 9.5, 11.27, 15.1),
        Kernel.COPY: (36, 23.1, 4.95, 14.0),
        Kernel.FILL: (32, 0.4, 1.00, 0.0),
        Kernel.LOOKUP_INT8: (28, 0.7, 5.00, 0.0),
        Kernel.LOOKUP_FLOAT32: (25, 0.0, 9.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (53, 0.0, 180.41, 0.0),
        Kernel.SOFTMAX: (26, 136.4, 41.88, 0.0),
    },
    "xtensawin": {
        Kernel.FULLY_CONNECTED: (137, 53.7, 3.70, 5.9),
        Kernel.CONV_2D: (357, 62.7, 3.39, 13.9),
        Kernel.DEPTHWISE_CONV_2D: (363, 68.0, 8.67, 8.9),
        Kernel.AVERAGE_POOL_2D: (200, 103.8, 3.70, 1.5),
        Kernel.MAX_POOL_2D: (239, 23.4, 4.10, 3.0),
        Kernel.MEAN: (63, 30.3, 4.01, 60.6),
        Kernel.ADD: (54, 0.0, 21.92, 102.4),
        Kernel.MUL: (67, 0.0, 33.77, 91.5),
        Kernel.MAXIMUM: (0, 0.0, 11.12, 77.8),
        Kernel.MINIMUM: (30, 0.9, 11.02, 69.0),
        Kernel.COPY: (0, 0.0, 3.02, 87.1),
        Kernel.FILL: (32, 2.8, 0.49, 0.0),
        Kernel.LOOKUP_INT8: (29, 0.5, 4.50, 0.0),
        Kernel.LOOKUP_FLOAT32: (27, 0.0, 7.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (52, 0.0, 132.68, 0.0),
        Kernel.SOFTMAX: (27, 141.1, 38.88, 0.0),
    },
}
