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
        Kernel.FULLY_CONNECTED: (212, 112.2, 6.50, 17.0),
        Kernel.CONV_2D: (482, 123.8, 5.66, 34.8),
        Kernel.DEPTHWISE_CONV_2D: (691, 126.2, 13.16, 18.0),
        Kernel.AVERAGE_POOL_2D: (378, 171.2, 6.54, 4.7),
        Kernel.MAX_POOL_2D: (681, 47.6, 9.43, 3.3),
        Kernel.MEAN: (97, 80.3, 7.92, 113.4),
        Kernel.ADD: (192, 0.0, 36.58, 142.9),
        Kernel.MUL: (202, 0.0, 77.43, 118.1),
        Kernel.MAXIMUM: (147, 0.0, 22.73, 140.1),
        Kernel.MINIMUM: (129, 12.6, 23.00, 114.3),
        Kernel.COPY: (113, 0.0, 8.08, 148.3),
        Kernel.FILL: (51, 0.8, 1.50, 0.0),
        Kernel.LOOKUP_INT8: (48, 3.0, 7.23, 0.0),
        Kernel.LOOKUP_FLOAT32: (40, 0.0, 12.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (83, 0.0, 281.54, 0.0),
        Kernel.SOFTMAX: (78, 342.5, 85.47, 0.0),
    },
    "armv7emsp": {
        Kernel.FULLY_CONNECTED: (161, 78.9, 5.61, 18.4),
        Kernel.CONV_2D: (317, 91.1, 4.76, 18.0),
        Kernel.DEPTHWISE_CONV_2D: (484, 95.0, 12.91, 11.5),
        Kernel.AVERAGE_POOL_2D: (237, 44.4, 7.00, 5.9),
        Kernel.MAX_POOL_2D: (472, 29.0, 9.51, 2.6),
        Kernel.MEAN: (96, 65.3, 7.94, 63.9),
        Kernel.ADD: (96, 28.7, 32.00, 57.0),
        Kernel.MUL: (102, 25.3, 44.00, 52.3),
        Kernel.MAXIMUM: (63, 15.9, 21.00, 60.0),
        Kernel.MINIMUM: (62, 16.3, 21.01, 59.6),
        Kernel.COPY: (66, 26.9, 7.66, 50.4),
        Kernel.FILL: (56, 0.0, 1.74, 0.0),
        Kernel.LOOKUP_INT8: (47, 1.1, 4.75, 0.0),
        Kernel.LOOKUP_FLOAT32: (40, 0.0, 12.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (68, 0.8, 311.34, 0.0),
        Kernel.SOFTMAX: (61, 187.8, 59.63, 0.0),
    },
    "rv32imc": {
        Kernel.FULLY_CONNECTED: (113, 44.4, 4.41, 7.9),
        Kernel.CONV_2D: (188, 53.5, 3.99, 9.4),
        Kernel.DEPTHWISE_CONV_2D: (283, 38.0, 9.70, 6.9),
        Kernel.AVERAGE_POOL_2D: (106, 27.3, 4.62, 3.3),
        Kernel.MAX_POOL_2D: (249, 20.8, 5.09, 1.7),
        Kernel.MEAN: (68, 37.0, 5.00, 23.1),
        Kernel.ADD: (47, 11.7, 21.82, 13.3),
        Kernel.MUL: (60, 9.9, 28.59, 14.2),
        Kernel.MAXIMUM: (27, 11.8, 11.69, 13.2),
        Kernel.MINIMUM: (48, 10.0, 11.31, 14.4),
        Kernel.COPY: (39, 23.0, 4.92, 13.9),
        Kernel.FILL: (32, 0.4, 1.00, 0.0),
        Kernel.LOOKUP_INT8: (28, 0.7, 5.00, 0.0),
        Kernel.LOOKUP_FLOAT32: (25, 0.0, 9.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (44, 0.0, 182.00, 0.0),
        Kernel.SOFTMAX: (26, 136.7, 41.82, 0.0),
    },
    "xtensawin": {
        Kernel.FULLY_CONNECTED: (123, 49.9, 4.21, 11.1),
        Kernel.CONV_2D: (238, 64.5, 3.51, 10.9),
        Kernel.DEPTHWISE_CONV_2D: (355, 67.6, 8.69, 9.3),
        Kernel.AVERAGE_POOL_2D: (175, 105.1, 3.37, 2.2),
        Kernel.MAX_POOL_2D: (304, 21.3, 4.05, 2.5),
        Kernel.MEAN: (63, 30.3, 4.01, 60.6),
        Kernel.ADD: (72, 0.0, 22.08, 83.8),
        Kernel.MUL: (74, 0.0, 34.25, 76.8),
        Kernel.MAXIMUM: (0, 0.0, 10.97, 78.7),
        Kernel.MINIMUM: (30, 1.0, 11.02, 68.9),
        Kernel.COPY: (0, 0.0, 3.41, 67.6),
        Kernel.FILL: (32, 2.8, 0.49, 0.0),
        Kernel.LOOKUP_INT8: (29, 0.5, 4.50, 0.0),
        Kernel.LOOKUP_FLOAT32: (27, 0.0, 7.00, 0.0),
        Kernel.QUANTIZE_FLOAT32: (44, 0.0, 134.11, 0.0),
        Kernel.SOFTMAX: (26, 141.4, 38.82, 0.0),
    },
}
