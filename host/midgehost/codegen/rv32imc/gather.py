"""What six windows of an image see, packed two by two: the words that a convolution's taps read.

Word i of term k holds pixel i and pixel 3 + i of the tile: x[i] + 65536 * x[3 + i]. The terms of a window lie in the
image as rows of `segment` bytes. A window that reaches over the image's edge is copied first, zero points around it.
"""

from __future__ import annotations

from typing import Final

# isort: off
from midgehost.codegen.asm.rv32 import (
    A0, A1, A2, A3, A4, A5, A6, A7, S0, S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, T0, T1, T2, T3, T4, T5, T6, ZERO, Rv32,
)  # fmt: skip

# isort: on
from midgehost.codegen.rv32imc.frame import Frame
from midgehost.codegen.rv32imc.parameters import Parameters
from midgehost.models.ops.window import Window

TILE: Final = 6  # pixels
WORDS: Final = TILE // 2
TERM_BYTES: Final = 4 * WORDS
_UNROLLED: Final = 12

NAMES: Final = (
    "last_pixel", "out_width", "stride_height", "pad_height", "stride_width", "pad_width", "free_height", "free_width",
    "row_bytes", "channels", "segment", "kernel_width", "kernel_height", "width", "height", "fill", "patches",
    "rest", "rest_bytes", "rest_entry", "rounds", "flat",
)  # fmt: skip


class Gather:
    """Code that fills the scratch with the packed terms of a tile; its parameters are NAMES."""

    def __init__(self, assembler: Rv32, frame: Frame, parameters: Parameters) -> None:
        self.a, self._frame, self._parameters = assembler, frame, parameters
        self._locate = assembler.fresh("locate")
        self._steps = [assembler.fresh("step") for _ in range(_UNROLLED + 1)]

    def words(self, window: Window, channels: int, pixels: int, fill: int, patches: int) -> dict[str, int]:
        """The parameters for a window over `channels`; `patches`: where in the scratch copies of windows may lie."""
        segment = window.width * channels
        rest = segment % _UNROLLED
        return {
            "last_pixel": pixels - 1,
            "out_width": window.out_width,
            "stride_height": window.stride_height,
            "pad_height": window.pad_height,
            "stride_width": window.stride_width,
            "pad_width": window.pad_width,
            "free_height": max(0, window.in_height - window.height + 1),
            "free_width": max(0, window.in_width - window.width + 1),
            "row_bytes": window.in_width * channels,
            "channels": channels,
            "segment": segment,
            "kernel_width": window.width,
            "kernel_height": window.height,
            "width": window.in_width,
            "height": window.in_height,
            "fill": fill,
            "patches": patches,
            "rest": rest,
            "rest_bytes": TERM_BYTES * rest,
            "rest_entry": self.a.address(self._steps[rest]) - self.a.address(self._steps[0]),
            "rounds": segment // _UNROLLED,
            "flat": int(is_flat(window)),
        }

    def emit(self, first: int, parameters: int) -> None:
        """Packs the tile whose first pixel is in register `first`; `parameters` is a register too. Keeps none else."""
        a, p = self.a, self._parameters
        a.mv(S1, first)
        a.mv(S0, parameters)
        self._frame.load(S2, "scratch")
        self._frame.load(S3, "in0")
        p.load(T0, S0, "patches")
        a.add(S4, S2, T0)  # the copy of the low pixel's window
        p.load(T0, S0, "segment")
        p.load(T1, S0, "kernel_height")
        a.mul(T0, T0, T1)
        a.add(S5, S4, T0)  # and the high pixel's
        a.la(S6, self._steps[0])
        p.load(T0, S0, "rest_entry")
        a.add(S7, S6, T0)
        a.addi(S8, S2, TERM_BYTES)  # where the next word of term 0 ends the tile
        pair, row = a.label(), a.fresh("row")
        a.mv(A0, S1)
        a.mv(A2, S4)
        a.call(self._locate)
        a.mv(S9, A0)
        a.mv(S10, A1)
        a.addi(A0, S1, WORDS)
        a.mv(A2, S5)
        a.call(self._locate)
        p.load(T0, S0, "segment")
        a.sub(A3, S10, T0)  # from a row's end to the next row
        a.sub(A4, A1, T0)
        a.mv(A1, S9)
        a.mv(A2, S2)
        p.load(A5, S0, "kernel_height")
        p.load(A6, S0, "rest")
        p.load(A7, S0, "rest_bytes")
        p.load(T3, S0, "rounds")
        a.label(row)
        self._pack_row()
        a.add(A1, A1, A3)
        a.add(A0, A0, A4)
        a.addi(A5, A5, -1)
        a.bnez(A5, row)
        a.addi(S1, S1, 1)
        a.addi(S2, S2, 4)
        a.bne(S2, S8, pair)

    def _pack_row(self) -> None:
        """A1: low pixel's row, A0: high pixel's, A2: words; all three move on."""
        a, steps = self.a, self._steps
        done = a.fresh("done")
        a.add(A1, A1, A6)
        a.add(A0, A0, A6)
        a.add(A2, A2, A7)
        a.mv(T2, T3)
        a.jr(S7)
        for ahead in range(_UNROLLED, 0, -1):
            a.label(steps[ahead])
            a.lb(T1, A0, -ahead)
            a.lb(T0, A1, -ahead)
            a.slli(T1, T1, 16)
            a.add(T0, T0, T1)
            a.sw(T0, A2, -TERM_BYTES * ahead)
        a.label(steps[0])
        a.beqz(T2, done)
        a.addi(T2, T2, -1)
        a.addi(A1, A1, _UNROLLED)
        a.addi(A0, A0, _UNROLLED)
        a.addi(A2, A2, TERM_BYTES * _UNROLLED)
        a.j(steps[_UNROLLED])
        a.label(done)

    def emit_subroutines(self) -> None:
        """`locate`: pixel A0 becomes the address A0 of its window's first byte and the distance A1 of its rows.

        A window that is not all inside of the image is copied to A2. S0: parameters, S3: image.
        """
        a, p = self.a, self._parameters
        border, inside, rows, outside, next_row = map(a.fresh, ("border", "inside", "rows", "out", "next"))
        flat = a.fresh("flat")
        a.label(self._locate)
        p.load(T0, S0, "last_pixel")
        a.bge(T0, A0, inside)
        a.mv(A0, T0)
        a.label(inside)
        p.load(T0, S0, "flat")
        p.load(A3, S0, "channels")
        a.bnez(T0, flat)
        p.load(T0, S0, "out_width")
        p.load(T3, S0, "stride_height")
        a.divu(T1, A0, T0)
        p.load(T4, S0, "pad_height")
        a.remu(T2, A0, T0)
        p.load(T5, S0, "stride_width")
        a.mul(T1, T1, T3)
        p.load(T6, S0, "pad_width")
        a.sub(T1, T1, T4)  # the window's first row
        a.mul(T2, T2, T5)
        p.load(A1, S0, "row_bytes")
        a.sub(T2, T2, T6)  # and column
        p.load(T3, S0, "free_height")
        a.mul(A0, T1, A1)
        p.load(T4, S0, "free_width")
        a.bgeu(T1, T3, border)
        a.bgeu(T2, T4, border)
        a.mul(T0, T2, A3)
        a.add(A0, A0, S3)
        a.add(A0, A0, T0)
        a.ret()
        a.label(flat)  # the windows are the pixels
        a.mul(A0, A0, A3)
        a.mv(A1, A3)
        a.add(A0, A0, S3)
        a.ret()
        a.label(border)  # A0: row * row_bytes, A1: row_bytes, A3: channels, T1: row, T2: column
        p.load(T4, S0, "kernel_width")
        p.load(T5, S0, "width")
        p.load(T0, S0, "segment")
        a.add(T4, T4, T2)
        self._least(T4, T5)  # the column behind what the window sees
        a.mv(T3, T2)
        self._most(T3, ZERO)  # the first column it sees
        a.sub(T4, T4, T3)
        self._most(T4, ZERO)
        a.sub(T2, T3, T2)
        a.mul(T2, T2, A3)  # bytes left of it
        self._least(T2, T0)
        a.mul(T4, T4, A3)  # bytes it sees
        a.mul(T3, T3, A3)
        a.add(A0, A0, S3)
        a.add(A0, A0, T3)  # where they are
        a.sub(T3, T0, T2)
        a.sub(T3, T3, T4)  # bytes right of it
        p.load(A3, S0, "fill")
        p.load(A4, S0, "height")
        p.load(A5, S0, "kernel_height")
        a.mv(A6, A2)
        a.label(rows)
        a.bgeu(T1, A4, outside)
        self._fill(T2)
        self._copy(T4)
        self._fill(T3)
        a.j(next_row)
        a.label(outside)
        self._fill(T0)
        a.label(next_row)
        a.addi(T1, T1, 1)
        a.add(A0, A0, A1)
        a.addi(A5, A5, -1)
        a.bnez(A5, rows)
        a.mv(A0, A2)
        a.mv(A1, T0)
        a.ret()

    def _fill(self, count: int) -> None:
        """`count` bytes A3 at A6, which moves on."""
        a = self.a
        done = a.fresh("done")
        a.beqz(count, done)
        a.add(T5, A6, count)
        loop = a.label()
        a.sb(A3, A6)
        a.addi(A6, A6, 1)
        a.bne(A6, T5, loop)
        a.label(done)

    def _copy(self, count: int) -> None:
        """`count` bytes from A0 to A6, which moves on."""
        a = self.a
        done = a.fresh("done")
        a.beqz(count, done)
        a.add(T5, A6, count)
        a.mv(A7, A0)
        loop = a.label()
        a.lb(T6, A7)
        a.addi(A7, A7, 1)
        a.sb(T6, A6)
        a.addi(A6, A6, 1)
        a.bne(A6, T5, loop)
        a.label(done)

    def _least(self, value: int, limit: int) -> None:
        below = self.a.fresh("below")
        self.a.bge(limit, value, below)
        self.a.mv(value, limit)
        self.a.label(below)

    def _most(self, value: int, limit: int) -> None:
        above = self.a.fresh("above")
        self.a.bge(value, limit, above)
        self.a.mv(value, limit)
        self.a.label(above)


def is_flat(window: Window) -> bool:
    """Whether each window is the pixel of the same number."""
    return (window.height, window.width, window.stride_height, window.stride_width) == (1, 1, 1, 1)
