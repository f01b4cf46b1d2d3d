"""Every kernel number of models/kernels.py, for every arch: written once in the intermediate representation.

They take the weights of the viper kernels and mostly their parameters too; where a kernel wants something worked out
that the host can know, `general` adds it. Rows are at most what a few thousand multiply-accumulates take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from midgehost.codegen import cost
from midgehost.codegen.ir.code import Builder
from midgehost.codegen.ir.lower import Lowering
from midgehost.codegen.ir.lower_rv32 import Rv32Lowering
from midgehost.codegen.ir.lower_thumb import ThumbLowering
from midgehost.codegen.ir.lower_thumb2 import Thumb2Lowering
from midgehost.codegen.ir.lower_xtensa import XtensaLowering
from midgehost.codegen.kernels import conv, dense, elementwise, move, pool, scaled_add, softmax, table
from midgehost.codegen.kernels.parts import WORK_BYTES
from midgehost.codegen.machine import MachineCall, Routine
from midgehost.models.kernels import Kernel
from midgehost.models.ops.base import Call

LOWERINGS: Final[Mapping[str, type[Lowering[Any]]]] = {
    "armv6m": ThumbLowering,
    "armv7emsp": Thumb2Lowering,
    "rv32imc": Rv32Lowering,
    "xtensawin": XtensaLowering,
}
_ROW_MACS: Final = 4096  # what a row of CONV_2D computes at most, unless a filter is larger


@dataclass(frozen=True)
class _Prepared:
    """A call's parameters as the kernel here takes them, and what follows from them."""

    params: Sequence[int]
    rows: int
    scratch_bytes: int = 0
    program: str | None = None  # the kernel's own where it is None


def general(call: Call, arch: str) -> MachineCall:
    """The call on the machine code of an arch: "armv6m", "armv7emsp", "rv32imc" or "xtensawin"."""
    kernel = Kernel(call.kernel)
    prepared = _PREPARE.get(kernel, _as_it_is)(call)
    return MachineCall(
        routine(prepared.program or kernel.name, arch),
        call.in0,
        call.out,
        call.in1,
        call.weights,
        prepared.params,
        prepared.scratch_bytes,
        prepared.rows,
        call.macs,
        cost.general(call, arch),
    )


@cache
def routine(name: str, arch: str) -> Routine:
    """The machine code of one of PROGRAMS."""
    lowering = LOWERINGS[arch]()
    return lowering.routine(f"general.{name.lower()}", program(name, lowering))


def program(name: str, lowering: Lowering[Any]) -> Builder:
    """One of PROGRAMS for a machine."""
    builder = Builder(lowering.features)
    PROGRAMS[name](builder)
    return builder


PROGRAMS: Final[Mapping[str, Callable[[Builder], None]]] = {
    "FULLY_CONNECTED": dense.fully_connected,
    "CONV_2D": conv.conv_2d,
    "DEPTHWISE_CONV_2D": conv.depthwise_conv_2d,
    "AVERAGE_POOL_2D": pool.average_pool_2d,
    "MAX_POOL_2D": pool.max_pool_2d,
    "MEAN": pool.mean,
    "ADD": elementwise.add,
    "ADD_SCALED": elementwise.add_scaled,
    "MUL": elementwise.mul,
    "MAXIMUM": elementwise.maximum,
    "MINIMUM": elementwise.minimum,
    "COPY": move.copy,
    "FILL": move.fill,
    "LOOKUP_INT8": table.lookup_int8,
    "LOOKUP_FLOAT32": table.lookup_float32,
    "QUANTIZE_FLOAT32": table.quantize_float32,
    "SOFTMAX": softmax.softmax,
}


def _as_it_is(call: Call) -> _Prepared:
    return _Prepared(call.params, call.rows)


def _fully_connected(call: Call) -> _Prepared:
    return _Prepared(call.params, call.rows, scratch_bytes=WORK_BYTES + call.params[0])


def _conv_2d(call: Call) -> _Prepared:
    p = call.params
    out_h, out_w, height, width = p[2:6]
    channels, filters, depth = p[12:15]
    size, group = height * width * depth, filters * depth // channels
    per_row = max(n for n in range(1, group + 1) if group % n == 0 and (n == 1 or n * size <= _ROW_MACS))
    added = [per_row, size, group // per_row, channels // depth, out_w, out_h]
    rows = call.rows * out_w * filters // per_row
    return _Prepared([*p[:16], *added, *p[17:]], rows, WORK_BYTES + size)


def _depthwise_conv_2d(call: Call) -> _Prepared:
    p = call.params
    return _Prepared([*p[:16], p[3], p[2], *p[17:]], call.rows * p[3], WORK_BYTES)


def _pool(call: Call) -> _Prepared:
    p = call.params
    return _Prepared([*p, p[3], p[2]], call.rows * p[3], WORK_BYTES)


def _mean(call: Call) -> _Prepared:
    count, outputs = call.params[:2]
    outer, rest = call.params[1 : 2 + 2 * outputs], call.params[2 + 2 * outputs :]
    dimensions, inner, stage = rest[0], list(rest[1 : 1 + 2 * rest[0]]), rest[1 + 2 * rest[0] :]
    if not dimensions:
        inner = [1, 0]
    runs = [max(0, dimensions - 1), *inner[2:]]
    return _Prepared([*inner[:2], count // inner[0], *outer, *runs, *stage], call.rows)


def _add(call: Call) -> _Prepared:
    tables_at = elementwise.WALK + 3 * call.params[elementwise.DIMENSIONS]
    params = scaled_add.scaled(call.params, tables_at)
    return _as_it_is(call) if params is None else _Prepared(params, call.rows, program="ADD_SCALED")


def _softmax(call: Call) -> _Prepared:
    return _Prepared(call.params, call.rows, scratch_bytes=4 * call.params[0])


_PREPARE: Final[Mapping[Kernel, Callable[[Call], _Prepared]]] = {
    Kernel.FULLY_CONNECTED: _fully_connected,
    Kernel.CONV_2D: _conv_2d,
    Kernel.DEPTHWISE_CONV_2D: _depthwise_conv_2d,
    Kernel.AVERAGE_POOL_2D: _pool,
    Kernel.MAX_POOL_2D: _pool,
    Kernel.MEAN: _mean,
    Kernel.ADD: _add,
    Kernel.SOFTMAX: _softmax,
}
