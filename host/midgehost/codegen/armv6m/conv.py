"""CONV_2D on the pixel-packed engine: the routines that bring four output pixels' inputs into a tile, and the packing.

An element of the tile is a pair of words, (pixel 0 + 65536 * pixel 1, pixel 2 + 65536 * pixel 3). There are two
routines. *Flat*: any four output pixels in raster order, their windows gathered whole; an image with padding is copied
with its padding first. *Strips*: four neighbours of a row, and so on downwards; the rows of input that a strip sees
are packed once and slide through a buffer, so that a window is always one piece of it. Where the number of pixels is
no multiple of 4 the last four overlap those before: the same outputs are written twice.

A row of the call is a tile and a group of filters; the groups' streams are listed at the head of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen import requantise
from midgehost.codegen.armv6m import engine, pairwise, stream
from midgehost.codegen.armv6m.engine import Sites
from midgehost.codegen.armv6m.frame import Kernel, signed
from midgehost.codegen.armv6m.requantise import TABLE_PARAMS, TablePlan, emit_table, stages
from midgehost.codegen.asm.thumb import R0, R1, R2, R3, R4, R5, R6, R7, R8, R9
from midgehost.codegen.machine import Form, MachineCall, Routine
from midgehost.codegen.requantise import Channels
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.ops.convolution import kernel_window
from midgehost.models.ops.window import Window

_PLANE_BYTES: Final = 6_000  # the largest copy of an image with its padding
_BUFFER_BYTES: Final = 6_000  # of a strip's rows, if more than a window's do not fit
_ELEMENT: Final = 8  # bytes of the tile

_GEOMETRY: Final = (
    "groups",
    "group_filters",
    "filters",
    "out_width",
    "run",
    "runs",
    "pixel_step",
    "tile_at",
    "window_bytes",
    "flushes",
)
_FLAT: Final = (
    *_GEOMETRY, "pixels", "row_step", "row_wrap", "pitch", "plane_at", "plane_blocks", "zero_word", "copy_rows",
    "copy_bytes", "copy_to", "copy_pitch",
)  # fmt: skip
_STRIPS: Final = (
    *_GEOMETRY, "out_height", "stride", "cycle", "line_at", "zero_word", "in_height", "in_width", "pad_top",
    "pad_left", "strip_step", "span",
)  # fmt: skip
_BLOCK: Final = ("in0", "out", "weights", "scratch", "row0", "row1")


@cache
def flat(form: Form) -> tuple[Routine, Sites]:
    """The routine for any four pixels."""
    k = Kernel((*_FLAT, *TABLE_PARAMS), _BLOCK, (*engine.VARIABLES, "source", "group", "number"))
    k.begin()
    _emit_begin(k)
    k.load(R0, "in0")
    k.load(R1, "plane_blocks")
    k.cmp_imm(R1, 0)
    k.bcond("eq", "source_known")
    k.load(R0, "scratch")
    k.load(R1, "plane_at")
    k.adds(R0, R0, R1)
    k.label("source_known")
    k.store(R0, "source")
    k.load(R0, "scratch")
    k.load(R1, "tile_at")
    k.adds(R0, R0, R1)
    k.store(R0, "tile")
    k.load(R0, "row0")
    k.cmp_imm(R0, 0)
    k.bcond("ne", "prepared")
    _emit_plane(k)
    k.label("prepared")
    # row0 = tile * groups + group
    k.load(R0, "row0")
    k.load(R1, "groups")
    _emit_divide(k)
    k.store(R0, "group")
    k.store(R2, "number")

    k.label("next_row")
    _emit_flat_tile(k)
    _emit_stream(k)

    k.label("stream_end")
    k.load(R0, "group")
    k.adds_imm(R0, R0, 1)
    k.load(R1, "groups")
    k.cmp(R0, R1)
    k.bcond("ne", "same_tile")
    k.load(R0, "number")
    k.adds_imm(R0, R0, 1)
    k.store(R0, "number")
    k.movs(R0, 0)
    k.label("same_tile")
    k.store(R0, "group")
    _emit_again(k)
    engine.emit(k, form)
    return Routine(f"conv_flat_{form}", k.code()), engine.sites(k, form)


@cache
def strips(form: Form) -> tuple[Routine, Sites]:
    """The routine for four neighbours of a row."""
    variables = (*engine.VARIABLES, "group", "y", "x", "from_edge", "buffer", "row_bytes", "new_row", "count")
    k = Kernel((*_STRIPS, *TABLE_PARAMS), _BLOCK, variables)
    k.begin()
    _emit_begin(k)
    k.load(R0, "run")
    k.lsls_imm(R0, R0, 3)
    k.store(R0, "row_bytes")
    # row0 = (x * out_height + y) * groups + group, then x in strips
    k.load(R0, "row0")
    k.load(R1, "groups")
    _emit_divide(k)
    k.store(R0, "group")
    k.mov(R0, R2)
    k.load(R1, "out_height")
    _emit_divide(k)
    k.store(R0, "y")
    k.store(R2, "x")
    _emit_strip_window(k)  # a call may begin with any group

    k.label("next_row")
    _emit_strip_tile(k)
    _emit_stream(k)

    k.label("stream_end")
    k.load(R0, "group")
    k.adds_imm(R0, R0, 1)
    k.load(R1, "groups")
    k.cmp(R0, R1)
    k.bcond("ne", "same_tile")
    k.load(R0, "y")
    k.adds_imm(R0, R0, 1)
    k.load(R1, "out_height")
    k.cmp(R0, R1)
    k.bcond("ne", "same_strip")
    k.load(R0, "x")
    k.adds_imm(R0, R0, 1)
    k.store(R0, "x")
    k.movs(R0, 0)
    k.label("same_strip")
    k.store(R0, "y")
    k.movs(R0, 0)
    k.label("same_tile")
    k.store(R0, "group")
    _emit_again(k)
    engine.emit(k, form)
    return Routine(f"conv_strips_{form}", k.code()), engine.sites(k, form)


def _emit_begin(k: Kernel) -> None:
    """The table's address; and in the first call the table."""
    k.load(R0, "scratch")
    k.load(R1, "table_base")
    k.adds(R1, R1, R0)
    k.store(R1, "table")
    k.load(R1, "row0")
    k.cmp_imm(R1, 0)
    k.bcond("ne", "table_built")
    emit_table(k)
    k.label("table_built")


def _emit_divide(k: Kernel) -> None:
    """r2, r0 = divmod(r0, r1), by subtraction: quotients are small."""
    k.movs(R2, 0)
    loop = k.label()
    k.cmp(R0, R1)
    k.bcond("cc", end := k.fresh())
    k.subs(R0, R0, R1)
    k.adds_imm(R2, R2, 1)
    k.b(loop)
    k.label(end)


def _emit_stream(k: Kernel) -> None:
    """Runs the group's stream; r0 is the address of the first pixel's outputs."""
    k.load(R1, "group")
    k.load(R2, "group_filters")
    k.muls(R2, R1)
    k.adds(R0, R0, R2)
    k.store(R0, "output")
    k.load(R2, "tile")
    k.load(R3, "window_bytes")
    k.adds(R2, R2, R3)
    k.store(R2, "tile_end")
    k.lsls_imm(R1, R1, 2)
    k.load(R2, "weights")
    k.ldr_reg(R1, R2, R1)
    k.adds(R1, R1, R2)
    k.b("row")


def _emit_again(k: Kernel) -> None:
    """On to the next row of the call, or the end."""
    k.load(R0, "row0")
    k.adds_imm(R0, R0, 1)
    k.store(R0, "row0")
    k.load(R1, "row1")
    k.cmp(R0, R1)
    k.bcond("eq", "done")
    k.b("next_row")
    k.label("done")
    k.finish()


def _emit_fill(k: Kernel) -> None:
    """r1 times 16 bytes at r0 become the word in r2. Spoils r3 to r5."""
    for register in (R3, R4, R5):
        k.mov(register, R2)
    loop = k.label()
    k.stm(R0, [R2, R3, R4, R5])
    k.subs_imm(R1, R1, 1)
    k.bcond("ne", loop)


def _emit_plane(k: Kernel) -> None:
    """Copies the image, with its padding around it, to slot `source`."""
    k.load(R1, "plane_blocks")
    k.cmp_imm(R1, 0)
    k.bcond("eq", "no_plane")
    k.load(R0, "source")
    k.load(R2, "zero_word")
    _emit_fill(k)
    k.load(R0, "in0")
    k.load(R1, "source")
    k.load(R2, "copy_to")
    k.adds(R1, R1, R2)
    k.load(R2, "copy_rows")
    k.load(R3, "copy_bytes")
    k.load(R4, "copy_pitch")
    row = k.label()
    k.movs(R5, 0)
    loop = k.label()
    k.ldrb_reg(R6, R0, R5)
    k.strb_reg(R6, R1, R5)
    k.adds_imm(R5, R5, 1)
    k.cmp(R5, R3)
    k.bcond("ne", loop)
    k.adds(R0, R0, R3)
    k.adds(R1, R1, R4)
    k.subs_imm(R2, R2, 1)
    k.bcond("ne", row)
    k.label("no_plane")


def _emit_run(k: Kernel) -> None:
    """Packs `run` elements of the pixels at r0 to r3 into the tile at r5, which moves on. Spoils r4, r6, r7, r8, r9."""

    def element(at: int) -> None:
        for low, high, offset in ((R0, R1, 0), (R2, R3, 4)):
            k.ldrsb(R6, high, R4)
            k.lsls_imm(R6, R6, 16)
            k.ldrsb(R7, low, R4)
            k.adds(R6, R6, R7)
            k.str_(R6, R5, at + offset)
        k.adds_imm(R4, R4, 1)

    k.load(R4, "run")
    k.mov(R8, R4)
    k.lsrs_imm(R4, R4, 2)
    k.lsls_imm(R4, R4, 2)
    k.mov(R9, R4)
    k.movs(R4, 0)
    k.cmp(R4, R9)
    k.bcond("eq", rest := k.fresh())
    loop = k.label()
    for i in range(4):
        element(_ELEMENT * i)
    k.adds_imm(R5, R5, 4 * _ELEMENT)
    k.cmp(R4, R9)
    k.bcond("ne", loop)
    k.label(rest)
    k.cmp(R4, R8)
    k.bcond("eq", end := k.fresh())
    element(0)
    k.adds_imm(R5, R5, _ELEMENT)
    k.b(rest)
    k.label(end)


def _emit_flat_tile(k: Kernel) -> None:
    """r0 = the first pixel's outputs; packs the tile where the group is the first."""
    k.load(R0, "number")
    k.lsls_imm(R0, R0, 2)
    k.load(R1, "pixels")
    k.subs_imm(R1, R1, 4)
    k.cmp(R0, R1)
    k.bcond("ls", "whole")
    k.mov(R0, R1)
    k.label("whole")
    k.store(R0, "v0")
    k.load(R1, "group")
    k.cmp_imm(R1, 0)
    k.bcond_far("ne", "packed")
    k.load(R1, "out_width")
    _emit_divide(k)  # r2 = row, r0 = column
    k.load(R3, "row_step")
    k.muls(R3, R2)
    k.load(R4, "pixel_step")
    k.mov(R5, R4)
    k.muls(R5, R0)
    k.adds(R3, R3, R5)
    k.load(R5, "source")
    k.adds(R3, R3, R5)
    for slot in ("v1", "v2", "v3", None):
        if slot:
            k.store(R3, slot)
            k.adds(R3, R3, R4)
            k.adds_imm(R0, R0, 1)
            k.cmp(R0, R1)
            k.bcond("ne", inside := k.fresh())
            k.movs(R0, 0)
            k.load(R5, "row_wrap")
            k.adds(R3, R3, R5)
            k.label(inside)
    k.load(R5, "tile")
    for register, slot in ((R0, "v1"), (R1, "v2"), (R2, "v3")):
        k.load(register, slot)
    k.load(R4, "runs")
    k.label("next_run")
    k.store(R4, "v1")
    _emit_run(k)
    k.load(R4, "pitch")
    for register in (R0, R1, R2, R3):
        k.adds(register, register, R4)
    k.load(R4, "v1")
    k.subs_imm(R4, R4, 1)
    k.bcond_far("ne", "next_run")
    k.label("packed")
    k.load(R0, "v0")
    k.load(R1, "filters")
    k.muls(R0, R1)
    k.load(R1, "out")
    k.adds(R0, R0, R1)


def _emit_strip_window(k: Kernel) -> None:
    """The tile's address: the window begins at row (y modulo cycle) * stride of the buffer.

    r0 = y modulo cycle, r1 = stride, r2 = the tile, r3 = the bytes of a row, r4 = the buffer. Spoils r5.
    """
    k.load(R0, "y")
    k.load(R1, "cycle")
    _emit_divide(k)  # r0 = y modulo cycle
    k.load(R1, "stride")
    k.mov(R2, R0)
    k.muls(R2, R1)
    k.load(R3, "row_bytes")
    k.muls(R2, R3)
    k.load(R4, "scratch")
    k.load(R5, "tile_at")
    k.adds(R4, R4, R5)
    k.adds(R2, R2, R4)
    k.store(R2, "tile")


def _emit_strip_tile(k: Kernel) -> None:
    """r0 = the first pixel's outputs; brings the strip's buffer on to row y where the group is the first."""
    # the strip's first column, the last strip may overlap the one before
    k.load(R0, "x")
    k.lsls_imm(R0, R0, 2)
    k.load(R1, "out_width")
    k.subs_imm(R1, R1, 4)
    k.cmp(R0, R1)
    k.bcond("ls", "whole")
    k.mov(R0, R1)
    k.label("whole")
    k.store(R0, "v0")
    k.load(R1, "group")
    k.cmp_imm(R1, 0)
    k.bcond_far("ne", "packed")
    k.load(R1, "pixel_step")
    k.muls(R0, R1)
    k.load(R1, "pad_left")
    k.subs(R0, R0, R1)
    k.store(R0, "from_edge")  # bytes from the image's left edge
    _emit_strip_window(k)
    k.load(R5, "runs")
    k.load(R6, "y")
    k.cmp_imm(R6, 0)
    k.bcond("eq", "all_new")
    k.subs(R5, R5, R1)  # rows to keep, if any
    k.bcond("ls", "none_kept")
    k.muls(R5, R3)
    k.adds(R2, R2, R5)  # the first new row
    k.cmp_imm(R0, 0)
    k.bcond("ne", "kept")
    # back to the buffer's beginning: r5 bytes from behind row cycle * stride
    k.load(R0, "cycle")
    k.muls(R0, R1)
    k.muls(R0, R3)
    k.adds(R0, R0, R4)
    move = k.label()
    k.ldm(R0, [R6, R7])
    k.stm(R4, [R6, R7])
    k.subs_imm(R5, R5, _ELEMENT)
    k.bcond("ne", move)
    k.label("kept")
    k.load(R5, "runs")
    k.load(R6, "y")
    k.muls(R6, R1)
    k.adds(R6, R6, R5)
    k.subs(R6, R6, R1)  # the first new row's number, padding counted
    k.mov(R5, R1)
    k.b("rows_known")
    k.label("none_kept")
    k.load(R5, "runs")
    k.muls(R6, R1)
    k.b("rows_known")
    k.label("all_new")
    k.movs(R6, 0)
    k.label("rows_known")
    k.load(R1, "pad_top")
    k.subs(R6, R6, R1)
    k.store(R6, "new_row")
    k.mov(R8, R2)
    k.label("next_run")  # r5 rows to do, to r8
    k.store(R5, "count")
    k.mov(R5, R8)
    k.load(R0, "new_row")
    k.load(R1, "in_height")
    k.cmp(R0, R1)
    k.bcond("cs", "row_of_zeros")
    k.load(R1, "in_width")
    k.muls(R0, R1)
    k.load(R2, "in0")
    k.adds(R0, R0, R2)  # the row
    k.load(R2, "from_edge")
    k.load(R3, "span")
    k.adds(R4, R2, R3)
    k.cmp(R4, R1)
    k.bcond("gt", "at_edge")
    k.cmp_imm(R2, 0)
    k.bcond("lt", "at_edge")
    k.adds(R0, R0, R2)
    k.b("line_known")
    k.label("row_of_zeros")
    k.load(R0, "zero_word")
    k.uxtb(R0, R0)
    k.sxtb(R0, R0)
    k.lsls_imm(R6, R0, 16)
    k.adds(R6, R6, R0)
    k.mov(R7, R6)
    k.load(R4, "run")
    zeros = k.label()
    k.stm(R5, [R6, R7])
    k.subs_imm(R4, R4, 1)
    k.bcond("ne", zeros)
    k.b("run_done")
    k.label("at_edge")
    # r3 bytes of the row at r0, from r2 on, to the line; zeros where they lie outside of 0 to r1
    k.load(R4, "scratch")
    k.load(R6, "line_at")
    k.adds(R4, R4, R6)
    k.mov(R9, R4)
    copy = k.label()
    k.load(R6, "zero_word")
    k.cmp(R2, R1)
    k.bcond("cs", "outside")
    k.ldrb_reg(R6, R0, R2)
    k.label("outside")
    k.strb(R6, R4)
    k.adds_imm(R4, R4, 1)
    k.adds_imm(R2, R2, 1)
    k.subs_imm(R3, R3, 1)
    k.bcond("ne", copy)
    k.mov(R0, R9)
    k.label("line_known")
    k.load(R4, "strip_step")
    k.adds(R1, R0, R4)
    k.adds(R2, R1, R4)
    k.adds(R3, R2, R4)
    _emit_run(k)
    k.label("run_done")
    k.mov(R8, R5)
    k.load(R0, "new_row")
    k.adds_imm(R0, R0, 1)
    k.store(R0, "new_row")
    k.load(R5, "count")
    k.subs_imm(R5, R5, 1)
    k.bcond_far("ne", "next_run")
    k.label("packed")
    k.load(R0, "y")
    k.load(R1, "out_width")
    k.muls(R0, R1)
    k.load(R1, "v0")
    k.adds(R0, R0, R1)
    k.load(R1, "filters")
    k.muls(R0, R1)
    k.load(R1, "out")
    k.adds(R0, R0, R1)


# Packing


@dataclass(frozen=True)
class _Gather:
    """How tiles are made: the routine's parameters beside those of `_Common`, and what it costs."""

    strips: bool
    params: dict[str, int]
    tiles: int
    tile_elements: int  # what the buffer of packed elements holds
    extra_bytes: int  # of scratch behind that buffer
    cycles: float  # of a call, beside the engine
    cycles_first: float  # of its longest row, beside the engine


def calls(node: Node, form: Form, tile_bytes: int | None) -> list[MachineCall] | None:
    """CONV_2D without groups and dilation, on at least four pixels; None for others."""
    window = kernel_window(node)
    weights = node.input(1).array()
    filters, depth = weights.shape[0], weights.shape[3]
    channels = requantise.layer(node)
    if depth != node.input(0).shape[3] or window.dilation_height > 1 or window.dilation_width > 1:
        return None
    if node.input(0).zero_point not in range(-128, 128) or (channels.mantissas < 0).any():
        return None
    gathers = [gather for gather in (_flat(node, window), _strips(node, window)) if gather is not None]
    if not gathers:
        return None
    gather = min(gathers, key=lambda g: g.cycles + g.tiles * filters * depth * window.height * window.width * 10)
    routine, sites = (strips if gather.strips else flat)(form)
    return _calls(node, weights.reshape(filters, -1), channels, gather, routine, sites, tile_bytes)


def _calls(
    node: Node,
    weights: NDArray[np.int8],
    channels: Channels,
    gather: _Gather,
    routine: Routine,
    sites: Sites,
    tile_bytes: int | None,
) -> list[MachineCall] | None:
    """A call for as many filters as fit a tile, and for each image of the batch."""
    found = stages(channels, tables=True)
    table = TablePlan.of(channels, found)
    rows = engine.rows(weights, found, channels, sites)
    parts = stream.parts(rows, engine.end(sites), tile_bytes)
    if parts is None:
        return None
    batch, height, width, filters = node.output.shape
    in_bytes, out_bytes = node.input(0).elements // batch, height * width * filters
    terms = pairwise.padded(weights.shape[1])
    buffer_at = table.nbytes
    extra_at = buffer_at + -(-(gather.tile_elements + pairwise.PAD) * _ELEMENT // 16) * 16
    uneven = 1.04 if gather.strips else 1.0  # a strip's first rows take longer than the others, and slices count rows
    made: list[MachineCall] = []
    for part in parts:
        values = gather.params | {
            "groups": part.groups,
            "group_filters": part.size,
            "filters": filters,
            "tile_at": buffer_at,
            "window_bytes": _ELEMENT * terms,
            "flushes": terms // 2,
            "plane_at": extra_at,
            "line_at": extra_at,
        }
        values |= dict(zip(TABLE_PARAMS, table.params, strict=True))
        names = (*(_STRIPS if gather.strips else _FLAT), *TABLE_PARAMS)
        for image in range(batch):
            made.append(
                MachineCall(
                    routine,
                    Place(node.input(0).index, image * in_bytes),
                    Place(node.output.index, image * out_bytes + part.first),
                    weights=part.stream,
                    params=[values[name] for name in names],
                    scratch_bytes=extra_at + gather.extra_bytes,
                    rows=gather.tiles * part.groups,
                    macs=height * width * len(part.rows) * weights.shape[1],
                    cost=uneven * (gather.tiles * (part.cycles + _GROUP * part.groups) + gather.cycles + table.cost),
                )
            )
    return made


_GROUP: Final = 130  # cycles of a row of the call beside the engine and the gathering


def _flat(node: Node, window: Window) -> _Gather | None:
    """Any four pixels, from the input as it is or from a copy with its padding."""
    _, in_height, in_width, depth = node.input(0).shape
    out_height, out_width = window.out_height, window.out_width
    pixels = out_height * out_width
    if pixels < 4:
        return None
    row_bytes = in_width * depth
    height = max((out_height - 1) * window.stride_height + window.height, window.pad_height + in_height)
    width = max((out_width - 1) * window.stride_width + window.width, window.pad_width + in_width)
    padded = (height, width) != (in_height, in_width)
    pitch = width * depth
    plane_bytes = -(-height * pitch // 16) * 16 if padded else 0
    if plane_bytes > _PLANE_BYTES:
        return None
    run, runs = window.width * depth, window.height
    row_step, pixel_step = window.stride_height * pitch, window.stride_width * depth
    zero = (node.input(0).zero_point & 255) * 0x01010101
    params = {
        "out_width": out_width,
        "run": run,
        "runs": runs,
        "pixel_step": pixel_step,
        "pixels": pixels,
        "row_step": row_step,
        "row_wrap": row_step - out_width * pixel_step,
        "pitch": pitch,
        "plane_blocks": plane_bytes // 16,
        "zero_word": signed(zero),
        "copy_rows": in_height,
        "copy_bytes": row_bytes,
        "copy_to": window.pad_height * pitch + window.pad_width * depth,
        "copy_pitch": pitch,
    }
    if pixel_step * out_width == row_step:  # as one long row: no rows to find
        params |= {"out_width": pixels, "row_step": 0, "row_wrap": 0}
    tiles = -(-pixels // 4)
    gathering = runs * (18.25 * run + 38) + 110 + 7 * out_height / 2
    plane = plane_bytes * 0.6 + in_height * (row_bytes * 8 + 10) if padded else 0.0
    return _Gather(False, params, tiles, run * runs, plane_bytes, tiles * gathering + plane, gathering)


def _strips(node: Node, window: Window) -> _Gather | None:
    """Four neighbours of a row."""
    _, in_height, in_width, depth = node.input(0).shape
    if window.out_width < 4:
        return None
    run, runs, stride = window.width * depth, window.height, window.stride_height
    height = window.out_height
    cycle = height
    while cycle > 1 and ((cycle - 1) * stride + runs) * run * _ELEMENT > max(_BUFFER_BYTES, 2 * runs * run * _ELEMENT):
        cycle = -(-cycle // 2)
    step = window.stride_width * depth
    span = 3 * step + run
    params = {
        "out_width": window.out_width,
        "run": run,
        "runs": runs,
        "pixel_step": step,
        "out_height": height,
        "stride": stride,
        "cycle": cycle,
        "zero_word": node.input(0).zero_point & 255,
        "in_height": in_height,
        "in_width": in_width * depth,
        "pad_top": window.pad_height,
        "pad_left": window.pad_width * depth,
        "strip_step": step,
        "span": span,
    }
    columns = -(-window.out_width // 4)
    in_rows = runs + (height - 1) * min(stride, runs)
    one = 18.25 * run + 90
    moves = (-(-height // cycle) - 1) * max(0, runs - stride) * run * 9
    cycles = columns * (in_rows * one + moves + 4 * height * height / max(1, height // cycle)) + 2 * in_rows * span * 13
    return _Gather(
        True, params, columns * height, ((cycle - 1) * stride + runs) * run, -(-span // 16) * 16, cycles, runs * one
    )
