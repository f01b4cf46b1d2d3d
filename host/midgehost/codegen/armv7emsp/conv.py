"""CONV_2D, ungrouped and not dilated: two pixels at a time, four filters at a time.

What two output pixels see is gathered in scratch as int16 pairs, the zero point where the window hangs over the edge;
then every group of filters passes over it. So a weight is loaded and extended once for two pixels, and the gathering is
paid once for all filters. A row of a call is such a pair of pixels; of an odd number the last pair takes one again.

How pixels are gathered:
    pointwise   1 x 1, stride 1: the pixel's channels, a word at a time
    words       channels are a multiple of 4: each row of the window is a run of words
    bytes       any number of channels: a byte at a time
"""

from __future__ import annotations

from functools import cache, partial
from math import prod
from typing import Final, Literal

from midgehost.codegen.armv7emsp import packing
from midgehost.codegen.armv7emsp.block import STREAM, VALUES, Block, Kind, kind, stage_params
from midgehost.codegen.armv7emsp.copy import COUNT, FILL, SOURCE, TARGET, expand, fill_halves, fill_pairs, widen
from midgehost.codegen.armv7emsp.dense import dense_calls
from midgehost.codegen.armv7emsp.frame import IN0, OUT, PARAMS, ROW0, ROW1, SCRATCH, WEIGHTS, Frame
from midgehost.codegen.armv7emsp.packing import Matrix
from midgehost.codegen.armv7emsp.stage import Exact
from midgehost.codegen.asm.thumb import R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12
from midgehost.codegen.asm.thumb2 import Thumb2, asr, lsl
from midgehost.codegen.machine import MachineCall, Routine
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.ops.convolution import kernel_window
from midgehost.models.ops.window import Window

Gather = Literal["pointwise", "words", "bytes"]

_ROW_CYCLES: Final = 80_000  # a row's at most, unless a group of filters takes more

# Parameters, in words. From _WIDTH on those of a window only.
(
    _LAST,  # the first pixel of the last pair
    _SECOND,  # how far the other pixel is: 1, 0 if there is but one
    _FILTERS,
    _QUADS,
    _STREAM_BYTES,
    _STAGE,
    _,
    _,
    _CHANNELS,
    _WIDTH,
    _STRIDE_HEIGHT,
    _STRIDE_WIDTH,
    _PAD_HEIGHT,
    _PAD_WIDTH,
    _IN_HEIGHT,
    _IN_WIDTH,
    _HEIGHT,
    _COLUMNS,
    _UNITS,  # of a column of the window: words or bytes
    _ROW_BYTES,  # of the input
    _FILL,  # a pair of zero points
) = range(21)
_WINDOW_VALUES = ("pixel", "lane", "left", "middle", "right", "middle_bytes")


def conv_2d(node: Node, tile_bytes: int | None) -> list[MachineCall] | None:
    """The calls of a CONV_2D, or None."""
    source, output = node.input(0), node.output
    filters, height, width, depth = node.input(1).shape
    window = kernel_window(node)
    gather = _gather(window, source.shape[0], depth)
    if depth != source.shape[3] or gather is None or filters < packing.ROWS:
        return None
    matrix = Matrix.of(node)
    if matrix is None:
        return None
    pixels, quads = prod(output.shape[:3]), matrix.quads
    if pixels == 1 and (height, width) == source.shape[1:3]:
        return dense_calls(node, matrix, tile_bytes)
    groups = matrix.groups(in_order=gather == "bytes")
    tile = min(len(groups), max(1, int(_ROW_CYCLES / _group_cost(matrix))))
    tile = tile if tile_bytes is None else min(tile, tile_bytes // len(groups[0]))
    rows = -(-pixels // 2)
    calls: list[MachineCall] = []
    for first in range(0, len(groups), tile) if tile else ():
        part = groups[first : first + tile]
        params = [max(pixels - 2, 0), min(pixels - 1, 1), filters, quads, len(part) * len(part[0])]
        params += [*stage_params(matrix), depth]
        if gather != "pointwise":
            params += _window_params(window, depth, source.zero_point, gather)
        calls.append(
            MachineCall(
                conv_routine(gather, kind(matrix.stage), matrix.wide),
                Place(source.index),
                Place(output.index),
                weights=b"".join(part),
                params=params,
                scratch_bytes=16 * quads,
                rows=rows,
                macs=pixels * matrix.weights.size * len(part) // len(groups),
                cost=rows * (len(part) * _group_cost(matrix) + _gather_cost(window, depth, gather)),
            )
        )
    return calls or None


def _gather(window: Window, batch: int, depth: int) -> Gather | None:
    """How the pixels of this window are gathered, None where none of the ways will do."""
    if (window.dilation_height, window.dilation_width) != (1, 1):
        return None
    sizes = window.height, window.width, window.stride_height, window.stride_width
    if sizes == (1, 1, 1, 1) and depth % 4 == 0:
        return "pointwise"
    if batch != 1:
        return None
    return "bytes" if depth % 4 else "words"


def _window_params(window: Window, depth: int, zero_point: int, gather: Gather) -> list[int]:
    return [
        window.out_width,
        window.stride_height,
        window.stride_width,
        window.pad_height,
        window.pad_width,
        window.in_height,
        window.in_width,
        window.height,
        window.width,
        depth if gather == "bytes" else depth // 4,
        window.in_width * depth,
        zero_point * 0x10000 + (zero_point & 0xFFFF),
    ]


def _group_cost(matrix: Matrix) -> float:
    """Estimated cycles of a group for two pixels."""
    quads = matrix.quads
    return (36 if matrix.wide else 30) * quads + 6 * -(-quads // 4) + (96 if isinstance(matrix.stage, Exact) else 82)


def _gather_cost(window: Window, depth: int, gather: Gather) -> float:
    """Estimated cycles of gathering two pixels."""
    elements = window.height * window.width * depth
    if gather == "pointwise":
        return 62 + 3.5 * elements
    if gather == "words":
        return 168 + 49 * window.height + 3.4 * elements
    return 110 + 75 * window.height + 8.8 * elements


@cache
def conv_routine(gather: Gather, stage: Kind, wide: bool) -> Routine:
    """Scratch: the pairs of both pixels. Parameters: see above."""
    a = Thumb2()
    names = (*VALUES, "params", "in0", "first_out", "stream", "row", "row1")
    frame = Frame(a, *names, *(() if gather == "pointwise" else _WINDOW_VALUES))
    block = Block(a, frame, 2, stage, wide)
    frame.enter()
    a.ldr(R7, R0, PARAMS)
    frame.store(R7, "params")
    frame.copy(R1, R7, *((4 * (_STAGE + i), f"stage{i}") for i in range(3)))
    frame.copy(R1, R0, (IN0, "in0"), (OUT, "first_out"), (SCRATCH, "x"), (WEIGHTS, "stream"), (ROW0, "row"))
    frame.copy(R1, R0, (ROW1, "row1"))
    a.ldr(R1, R0, WEIGHTS)
    a.ldr(R2, R7, 4 * _STREAM_BYTES)
    a.adds(R1, R1, R2)
    frame.store(R1, "stream_end")
    a.ldr(R1, R7, 4 * _FILTERS)
    a.ldr(R2, R7, 4 * _SECOND)
    a.muls(R1, R2)
    frame.store(R1, "step")
    a.ldr(R3, R7, 4 * _QUADS)
    frame.load(R1, "x")
    a.add_w(R2, R1, R3, lsl(4))
    frame.store(R2, "x_end")
    block.set_entry(R3)
    row = a.label()
    frame.load(R0, "row")
    frame.load(R7, "params")
    a.ldr(R1, R7, 4 * _LAST)
    a.lsls_imm(R0, R0, 1)
    a.cmp(R0, R1)
    a.it("hi")
    a.mov(R0, R1)
    a.ldr(R1, R7, 4 * _FILTERS)
    frame.load(R2, "first_out")
    a.mla(R2, R0, R1, R2)
    frame.store(R2, "out")
    if gather == "pointwise":
        _gather_pointwise(a, frame)
    else:
        _gather_window(a, frame, gather)
    frame.load(STREAM, "stream")
    block.emit()
    frame.load(R0, "row")
    frame.load(R1, "row1")
    a.adds_imm(R0, R0, 1)
    frame.store(R0, "row")
    a.cmp(R0, R1)
    a.bcond_w("ne", row)
    frame.leave()
    return Routine(f"armv7emsp.conv.{gather}.{stage}{'.wide' if wide else ''}", a.code())


def _gather_pointwise(a: Thumb2, frame: Frame) -> None:
    """R0 the first pixel, R7 the parameters."""
    first, second, count = R4, R10, R12
    a.ldr(R2, R7, 4 * _CHANNELS)
    a.ldr(R3, R7, 4 * _SECOND)
    a.ldr_w(count, R7, 4 * _QUADS)
    frame.load(R1, "in0")
    a.mla(first, R0, R2, R1)
    a.mla(second, R2, R3, first)
    frame.load(TARGET, "x")
    for lane, source in enumerate((first, second)):
        a.mov(SOURCE, source)
        a.mov(COUNT, count)
        if lane:
            frame.load(TARGET, "x")
            a.adds_imm(TARGET, TARGET, 4)
        expand(a, 2)


def _gather_window(a: Thumb2, frame: Frame, gather: Gather) -> None:
    """Both pixels, the one at lane 0 of the pairs, the other at lane 4. R0 the first pixel, R7 the parameters."""
    y, rows, to_next_row, in_height = R4, R10, R11, R12
    frame.store(R0, "pixel")
    frame.load(R1, "x")
    pixel = a.label()
    frame.store(R1, "lane")

    def parameter(register: int, number: int) -> int:
        a.ldr_w(register, R7, 4 * number)
        return register

    # output y and x; input y and x
    a.udiv(R2, R0, parameter(R1, _WIDTH))
    a.mls(R3, R2, R1, R0)
    a.ldr(R5, R7, 4 * _STRIDE_HEIGHT)
    a.ldr(R6, R7, 4 * _STRIDE_WIDTH)
    a.ldr(R0, R7, 4 * _PAD_HEIGHT)
    a.ldr(R1, R7, 4 * _PAD_WIDTH)
    a.muls(R2, R5)
    a.muls(R3, R6)
    a.subs(y, R2, R0)
    a.subs(R3, R3, R1)
    # columns left of the image, right of it, and between, in units
    for register, number in ((R5, _COLUMNS), (R6, _IN_WIDTH), (R1, _UNITS), (R2, _CHANNELS), (R8, _ROW_BYTES)):
        parameter(register, number)
    for register, number in ((R9, _HEIGHT), (in_height, _IN_HEIGHT), (FILL, _FILL)):
        parameter(register, number)
    a.subs(R6, R5, R6)
    a.adds(R6, R6, R3)
    a.bic_w(R6, R6, R6, asr(31))
    a.rsbs(R0, R3)
    a.bic_w(R0, R0, R0, asr(31))
    a.adds(R3, R3, R0)
    a.subs(R5, R5, R0)
    a.subs(R5, R5, R6)
    a.mov(rows, R9)
    a.muls(R0, R1)
    a.muls(R6, R1)
    a.muls(R1, R5)
    frame.store(R0, "left")
    frame.store(R6, "right")
    frame.store(R1, "middle")
    a.muls(R5, R2)
    frame.store(R5, "middle_bytes")
    a.sub_w(to_next_row, R8, R5)
    # where the middle begins in the first row
    frame.load(SOURCE, "in0")
    frame.load(TARGET, "lane")
    a.mla(SOURCE, y, R8, SOURCE)
    a.mla(SOURCE, R3, R2, SOURCE)
    row = a.label()
    a.cmp(y, in_height)
    a.bcond_w("cs", outside := a.fresh("outside"))
    frame.load(COUNT, "left")
    fill, copy = (fill_halves, widen) if gather == "bytes" else (fill_pairs, partial(expand, pixels=2))
    fill(a)
    frame.load(COUNT, "middle")
    copy(a)
    frame.load(COUNT, "right")
    below = a.label()
    fill(a)
    a.adds_imm(y, y, 1)
    a.add(SOURCE, to_next_row)
    a.subs_imm_w(rows, rows, 1)
    a.bcond_w("ne", row)
    frame.load(R7, "params")
    frame.load(R1, "x")
    frame.load(R2, "lane")
    frame.load(R0, "pixel")
    parameter(R3, _SECOND)
    a.cmp(R2, R1)
    a.bcond_w("ne", done := a.fresh("gathered"))
    a.adds_imm(R1, R1, 4)
    a.adds(R0, R0, R3)
    a.b_w(pixel)
    a.label(outside)
    frame.load(R5, "middle_bytes")
    frame.load(R7, "params")
    parameter(COUNT, _COLUMNS)
    parameter(R6, _UNITS)
    a.adds(SOURCE, SOURCE, R5)
    a.muls(COUNT, R6)
    a.b_w(below)
    a.label(done)
