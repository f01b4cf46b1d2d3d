"""Convolutions of any window: a tile is a run of windows of an output row, copied out of widened input rows.

Scratch holds as many input rows as the window is high, a ring: each is widened once, between columns of zero points,
and a row above or below the image is all zero points. A window is then one segment of each row of the ring, copied
into the tile's vector. Rows of a call are output rows; a call widens its first rows again.

How values are widened and copied depends on the channels: four at a time where there is a multiple of four; byte by
byte otherwise, and halves are copied singly where windows do not begin at whole words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.asm.xtensa import Xtensa
from midgehost.codegen.machine import Form, MachineCall, Routine
from midgehost.codegen.requantise import layer
from midgehost.codegen.xtensawin import dot, pixels
from midgehost.codegen.xtensawin.frame import MOST_SCRATCH, Frame, Parameters, block_word
from midgehost.codegen.xtensawin.pointwise import tile_pixels
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.ops.window import Window

# fours: widened four at a time, copied by words; bytes: widened singly, copied by words; halves: copied singly too
Layout = Literal["fours", "bytes", "halves"]

_SHAPE: Final = (
    # of the output
    *("tile_pixels", "out_width", "row_outputs"),
    # of a window: copying rounds and what they copy too much in a segment; from the last segment to the next vector
    *("segment_rounds", "segment_rest", "vector_rest", "window_step", "window_height"),
    # of the ring: bytes of its rows, its words, and where a row's data begins
    *("slot_bytes", "ring_words", "data_offset", "padding"),
    # of the input: rounds and bytes of a row, rows, rows above it; what an output row is further, in rows and in slots
    *("row_rounds", "row_bytes", "in_height", "pad_height", "stride_height", "advance"),
    # in scratch
    *("ring_offset", "table_offset", "tile_offset"),
)
_PARAMETERS: Final = (*_SHAPE, *pixels.PARAMETERS)
_KEPT: Final = (
    *("tile_pixels", "out_width", "row_outputs", "segment_rounds", "segment_rest", "vector_rest", "window_step"),
    *("window_height", "slot_bytes", "data_offset", "padding", "row_rounds", "row_bytes"),
    *("in_height", "stride_height", "advance"),
)


def windowed_calls(node: Node, window: Window, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
    """The calls of a CONV_2D without groups and dilation on one image; None where it needs too much scratch."""
    weights = node.input(1).array()
    count, height, width, depth = weights.shape
    layout = layout_of(depth, window.stride_width)
    shape = _Shape(window, depth, layout)
    filters = pixels.Filters.of(layer(node), form, shape.vectors(weights), widened=layout == "fours")
    outputs = window.out_width * window.out_height
    parameters = Parameters(Xtensa(), _PARAMETERS)
    routine = windowed_routine(layout, form, filters.ranged)
    calls: list[MachineCall] = []
    for group in filters.groups(tile_bytes):
        tile = tile_pixels(filters, window.out_width)
        tiles = -(-window.out_width // tile) * window.out_height
        table = filters.scratch_row_bytes + shape.ring_bytes
        words = shape.parameters(filters, tile) | {
            "ring_offset": filters.scratch_row_bytes,
            "table_offset": table,
            "tile_offset": table + 4 * height,
            "row_outputs": window.out_width * count,
            "padding": _pattern(node.input(0).zero_point, form),
        }
        scratch = table + 4 * height + tile * filters.rounds * dot.ROUND_BYTES + 16
        if scratch > MOST_SCRATCH:
            return None
        calls.append(
            MachineCall(
                routine,
                Place(node.input(0).index),
                Place(node.output.index, group.start),
                weights=filters.stream(group),
                params=[*parameters.values(words | filters.parameters(group)), *filters.words(group)],
                scratch_bytes=scratch,
                rows=window.out_height,
                macs=outputs * len(group) * height * width * depth,
                cost=filters.cost(group, outputs, tiles) + shape.cost(form) + 20 * tiles,
            )
        )
    return calls


def layout_of(depth: int, stride_width: int) -> Layout:
    """How the inputs of a convolution are widened and copied."""
    if depth % 4 == 0:
        return "fours"
    return "bytes" if depth * stride_width % 2 == 0 else "halves"


def _pattern(value: int, form: Form) -> int:
    """Two halves with a widened value, as int32."""
    half = (value * (256 if form == "speed" else 1)) & 0xFFFF
    word = half << 16 | half
    return word - (1 << 32) if word >> 31 else word


class _Shape:
    """Sizes of the ring and of vectors."""

    def __init__(self, window: Window, depth: int, layout: Layout) -> None:
        self._window, self._depth, self._layout = window, depth, layout
        values = window.width * depth
        self._segment = values if layout == "halves" else values + values % 2  # values of a segment
        # copied a round: four values where they are copied by words, else one
        self._a_round = 1 if layout == "halves" else 4
        self._segment_rounds = -(-self._segment // self._a_round)
        columns = max(window.pad_width + window.in_width, (window.out_width - 1) * window.stride_width + window.width)
        self._slot_bytes = -(-2 * columns * depth // 8) * 8
        self.ring_bytes = window.height * self._slot_bytes + 8  # copying reads up to two words more

    def vectors(self, weights: NDArray[Any]) -> NDArray[Any]:
        """The weights [filters, height, width, depth] as the tile has its values: each segment padded."""
        rows = weights.reshape(len(weights), self._window.height, -1)
        rows = np.pad(rows, ((0, 0), (0, 0), (0, self._segment - rows.shape[2])))
        return rows.reshape(len(weights), -1)

    def parameters(self, filters: pixels.Filters, tile: int) -> dict[str, int]:
        """Those of _SHAPE that are known here."""
        window, depth = self._window, self._depth
        in_a_row = window.in_width * depth
        return {
            "tile_pixels": tile,
            "out_width": window.out_width,
            "segment_rounds": self._segment_rounds,
            "segment_rest": 2 * (self._segment - self._segment_rounds * self._a_round),
            "vector_rest": filters.rounds * dot.ROUND_BYTES - 2 * self._segment * window.height,
            "window_step": 2 * depth * window.stride_width,
            "window_height": window.height,
            "slot_bytes": self._slot_bytes,
            "ring_words": self.ring_bytes // 4,
            "data_offset": 2 * depth * window.pad_width,
            "row_rounds": in_a_row // 4 if self._layout == "fours" else in_a_row,
            "row_bytes": in_a_row,
            "in_height": window.in_height,
            "pad_height": window.pad_height,
            "stride_height": window.stride_height,
            "advance": min(window.stride_height, window.height),
        }

    def cost(self, form: Form) -> float:
        """Instructions of filling the ring and of copying windows."""
        window, values = self._window, self._window.in_width * self._depth
        widening = (2.0 if form == "speed" else 3.5) if self._layout == "fours" else 5.0
        a_segment = 6 + self._segment_rounds * (4 if self._layout == "halves" else 6)
        windows = window.out_width * window.out_height * (window.height * a_segment + 5)
        rows = (window.out_height - 1) * window.stride_height + window.height
        return rows * (values * widening + 25) + windows + window.out_height * (6 * window.height + 25)


@cache
def windowed_routine(layout: Layout, form: Form, ranged: bool) -> Routine:
    """Rows are output rows."""
    a = Xtensa()
    own = ("rows", "in0", "ring", "ring_end", "table", "first", "slot", "next", "until", "left", "offset")
    frame = Frame(a, (*own, *_KEPT, *pixels.WORDS))
    kernel = pixels.PixelKernel(a, frame, form, ranged)
    parameters = Parameters(a, _PARAMETERS)
    emit = _Emitter(a, frame, kernel, layout)
    block, address, t, u, ring = 15, 14, 13, 12, 11
    frame.enter(block)
    block_word(a, address, block, "params")
    kernel.prepare(parameters, block, address, t, u)
    for word in _KEPT:
        parameters.load(t, address, word)
        frame.store(t, word)
    block_word(a, t, block, "in0")
    frame.store(t, "in0")
    block_word(a, u, block, "scratch")
    parameters.load(ring, address, "ring_offset")
    a.add(ring, ring, u)
    for word in "ring", "first", "slot":
        frame.store(ring, word)
    parameters.load(t, address, "table_offset")
    a.add(t, t, u)
    frame.store(t, "table")
    parameters.load(t, address, "tile_offset")
    a.add(t, t, u)
    a.addi(t, t, -4)
    frame.store(t, "tile")
    frame.load(t, "window_height")
    frame.load(u, "slot_bytes")
    a.mull(t, t, u)
    a.add(t, t, ring)
    frame.store(t, "ring_end")
    block_word(a, t, block, "row0")
    block_word(a, u, block, "row1")
    a.sub(u, u, t)
    frame.store(u, "rows")
    frame.load(u, "row_outputs")
    a.mull(u, u, t)
    block_word(a, 10, block, "out")
    a.add(u, u, 10)
    frame.store(u, "out")
    frame.load(u, "stride_height")
    a.mull(t, t, u)
    parameters.load(u, address, "pad_height")
    a.sub(t, t, u)
    frame.store(t, "next")
    frame.load(u, "window_height")
    a.add(t, t, u)
    frame.store(t, "until")
    parameters.load(t, address, "ring_words")
    frame.load(u, "padding")
    emit.fill(ring, u, t)

    row = a.label()
    emit.widen_rows()
    emit.write_table()
    frame.load(3, "out_width")
    frame.store(3, "left")
    a.movi(3, 0)
    frame.store(3, "offset")
    tile = a.label()
    emit.copy_windows()
    kernel.outputs()
    frame.load(3, "pixels")
    frame.load(4, "pixel_bytes")
    frame.load(5, "out")
    a.mull(3, 3, 4)
    a.add(5, 5, 3)
    frame.store(5, "out")
    frame.load(3, "left")
    a.bnez(3, tile)
    frame.load(3, "until")
    frame.load(4, "stride_height")
    a.add(3, 3, 4)
    frame.store(3, "until")
    frame.load(3, "rows")
    a.addi(3, 3, -1)
    frame.store(3, "rows")
    a.bnez(3, row)
    frame.leave()
    return Routine(f"windowed_{layout}_{form}" + "_ranged" * ranged, a.code())


class _Emitter:
    """The pieces of the routine."""

    def __init__(self, a: Xtensa, frame: Frame, kernel: pixels.PixelKernel, layout: Layout) -> None:
        self._a, self._frame, self._kernel, self._layout = a, frame, kernel, layout

    def fill(self, target: int, value: int, words: int) -> None:
        """`words` words of memory; target advances."""
        a = self._a
        end = a.fresh("filled")
        a.loop(words, end)
        a.s32i(value, target)
        a.addi(target, target, 4)
        a.label(end)

    def widen_rows(self) -> None:
        """Input rows next to until - 1 into the ring, from its slot on."""
        a, frame = self._a, self._frame
        next_, slot, source, target, t, u = 3, 4, 5, 6, 7, 8
        outside, widened, ready, inside_ring = (a.fresh(n) for n in ("outside", "widened", "ready", "inside_ring"))
        frame.load(next_, "next")
        frame.load(t, "until")
        frame.load(u, "window_height")
        a.sub(t, t, u)
        a.max(next_, next_, t)
        frame.load(slot, "slot")
        top = a.label()
        frame.load(t, "until")
        a.bge(next_, t, ready, far=True)
        frame.load(t, "in_height")
        a.bgeu(next_, t, outside)
        frame.load(source, "in0")
        frame.load(t, "row_bytes")
        a.mull(t, t, next_)
        a.add(source, source, t)
        frame.load(target, "data_offset")
        a.add(target, target, slot)
        frame.load(t, "row_rounds")
        if self._layout == "fours":
            self._kernel.widen(target, source, t, (8, 9, 10, 11, 12, 13))
        else:
            self._widen_bytes(target, source, t, u)
        a.j(widened)
        a.label(outside)
        a.mov(target, slot)
        frame.load(t, "slot_bytes")
        a.srli(t, t, 2)
        frame.load(u, "padding")
        self.fill(target, u, t)
        a.label(widened)
        a.addi(next_, next_, 1)
        frame.load(t, "slot_bytes")
        a.add(slot, slot, t)
        frame.load(t, "ring_end")
        a.bltu(slot, t, inside_ring)
        frame.load(slot, "ring")
        a.label(inside_ring)
        a.j(top)
        a.label(ready)
        frame.store(next_, "next")
        frame.store(slot, "slot")

    def write_table(self) -> None:
        """The addresses of the ring's rows, the window's first one first; then the first one of the next windows."""
        a, frame = self._a, self._frame
        at, end, row, slot_bytes, ring_end, ring_bytes, t = range(3, 10)
        frame.load(at, "table")
        frame.load(row, "first")
        frame.load(slot_bytes, "slot_bytes")
        frame.load(ring_end, "ring_end")
        frame.load(t, "ring")
        a.sub(ring_bytes, ring_end, t)
        frame.load(t, "window_height")
        a.addx4(end, t, at)
        top, inside_ring = a.label(), a.fresh("inside_ring")
        a.s32i(row, at)
        a.addi(at, at, 4)
        a.add(row, row, slot_bytes)
        a.bltu(row, ring_end, inside_ring)
        a.sub(row, row, ring_bytes)
        a.label(inside_ring)
        a.bne(at, end, top)
        frame.load(t, "advance")
        a.mull(t, t, slot_bytes)
        a.add(row, row, t)
        inside_ring = a.fresh("inside_ring")
        a.bltu(row, ring_end, inside_ring)
        a.sub(row, row, ring_bytes)
        a.label(inside_ring)
        frame.store(row, "first")

    def copy_windows(self) -> None:
        """The next windows of the row into the tile; as many as fit."""
        a, frame = self._a, self._frame
        at, end, source, target, offset, rounds, rest, t, u, step, count, vector_rest, table = range(3, 16)
        frame.load(count, "tile_pixels")
        frame.load(t, "left")
        a.min(count, count, t)
        frame.store(count, "pixels")
        a.sub(t, t, count)
        frame.store(t, "left")
        frame.load(table, "table")
        frame.load(t, "window_height")
        a.addx4(end, t, table)
        frame.load(target, "tile")
        a.addi(target, target, 4)
        for register, word in (
            (offset, "offset"), (rounds, "segment_rounds"), (rest, "segment_rest"), (step, "window_step"),
            (vector_rest, "vector_rest"),
        ):  # fmt: skip
            frame.load(register, word)
        window = a.label()
        a.mov(at, table)
        dot.place_loop(a, 6)
        segment = a.label()
        a.l32i(source, at)
        a.addi(at, at, 4)
        a.add(source, source, offset)
        copied = a.fresh("copied")
        a.loop(rounds, copied)
        if self._layout == "halves":
            a.l16ui(t, source)
            a.addi(source, source, 2)
            a.s16i(t, target)
            a.addi(target, target, 2)
        else:
            a.l32i(t, source)
            a.l32i(u, source, 4)
            a.addi(source, source, 8)
            a.s32i(t, target)
            a.s32i(u, target, 4)
            a.addi(target, target, 8)
        a.label(copied)
        a.add(target, target, rest)
        a.bne(at, end, segment)
        a.add(target, target, vector_rest)
        a.add(offset, offset, step)
        a.addi(count, count, -1)
        a.bnez(count, window)
        frame.store(offset, "offset")

    def _widen_bytes(self, target: int, source: int, count: int, t: int) -> None:
        """Activations one by one."""
        a = self._a
        end = a.fresh("widened")
        a.loop(count, end)
        a.l8ui(t, source)
        a.addi(source, source, 1)
        if self._kernel.form == "speed":
            a.slli(t, t, 8)
        else:
            a.sext(t, t, 7)
        a.s16i(t, target)
        a.addi(target, target, 2)
        a.label(end)
