"""The inner loop: four rows of weights by one pixel or by two, and their outputs.

Activations lie as int16 pairs, columns 0 and 2 of a quad, then 1 and 3; those of two pixels alternate. In the estimate
a step of one pair of columns takes 9.5 cycles for one pixel (8 multiply-accumulates), 15 for two (16); where the matrix
is wide 11.5 and 18.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from midgehost.codegen.armv7emsp.frame import Frame
from midgehost.codegen.armv7emsp.packing import Matrix
from midgehost.codegen.armv7emsp.stage import Line, Stage
from midgehost.codegen.asm.thumb import LR, PC, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12, SP
from midgehost.codegen.asm.thumb2 import Thumb2, asr

STREAM: Final = R4
Kind = Literal["line", "exact", "clamped"]  # of a stage: which code it takes

_UNROLLED: Final = 4  # quads
_QUAD_BYTES: Final = {(1, False): 72, (1, True): 88, (2, False): 112, (2, True): 128}  # of code, by pixels and width
_X: Final = R5
_SUMS = {1: ((R8,), (R9,), (R10,), (R11,)), 2: ((R6, R7), (R8, R9), (R10, R11), (R12, LR))}
# The values of a frame that a block needs: activations and their end, the way into the loop, and three of the stage.
VALUES: Final = ("x", "x_end", "entry", "stage0", "stage1", "stage2", "out", "step", "stream_end")


def kind(stage: Stage) -> Kind:
    """The code that a stage takes."""
    if isinstance(stage, Line):
        return "line"
    return "clamped" if stage.clamps else "exact"


def stage_params(matrix: Matrix) -> list[int]:
    """The three values that a matrix's stage needs in the frame: shifts of odd and of even rows, or a range."""
    stage = matrix.stage
    if isinstance(stage, Line):
        return [stage.pre if matrix.wide else stage.pre - 8, stage.pre, stage.post]
    return [stage.low, stage.high, 0]


class Block:
    """Emits all groups of a stream for `pixels` pixels."""

    def __init__(self, a: Thumb2, frame: Frame, pixels: Literal[1, 2], stage: Kind, wide: bool) -> None:
        self._a, self._frame, self._stage, self._wide = a, frame, stage, wide
        self._quad_bytes = _QUAD_BYTES[pixels, wide]
        self._pixels = range(pixels)
        sums = _SUMS[pixels]
        self._both, self._low = sums[:2], sums[2:]  # the sums P and B of a row pair, a register a pixel
        self._loop = a.fresh("loop")

    def set_entry(self, quads: int) -> None:
        """Works out where the loop is entered, for the quads of a row in R2 or R3; R0 and R1 are spoilt."""
        a = self._a
        a.rsb_imm_w(quads, quads, 0)
        a.and_imm_w(quads, quads, _UNROLLED - 1)
        a.movs(R1, self._quad_bytes)
        a.adr(R0, self._loop)
        a.adds_imm(R0, R0, 1)
        a.mla(quads, quads, R1, R0)
        self._frame.store(quads, "entry")

    def emit(self) -> None:
        """All groups from STREAM to "stream_end". Spoils every register."""
        a, frame = self._a, self._frame
        group = a.label()
        self._start_sums()
        frame.load(_X, "x")
        if len(self._pixels) == 1:
            frame.load(R12, "x_end")
        a.ldr_w(PC, SP, frame.at("entry"))
        a.align()
        a.label(self._loop)
        start = a.here
        for _ in range(_UNROLLED):
            self._quad()
        assert a.here - start == _UNROLLED * self._quad_bytes
        if len(self._pixels) == 1:
            a.cmp(_X, R12)
        else:
            frame.load(R0, "x_end")
            a.cmp(_X, R0)
        a.bcond_w("ne", self._loop)
        self._finish_sums()
        self._outputs()
        frame.load(R0, "stream_end")
        a.cmp(STREAM, R0)
        a.bcond_w("ne", group)

    def _start_sums(self) -> None:
        a = self._a
        sums = (*self._both, *self._low)
        for registers in sums:
            if self._stage == "line":
                for register in registers:
                    a.movs(register, 0) if register < 8 else a.mov_imm_w(register, 0)
            else:
                a.ldr_post(registers[0], STREAM, 4)
        if self._stage != "line":
            for first, *others in sums:
                for other in others:
                    a.mov(other, first)

    def _quad(self) -> None:
        a = self._a
        if len(self._pixels) == 1:
            for register, base in ((R0, _X), (R1, _X), *((w, STREAM) for w in (R2, R3, R6, R7))):
                a.ldr_post(register, base, 4)
            for x, words in ((R0, (R2, R3)), (R1, (R6, R7))):
                if self._wide:
                    self._word(0, words[0], (x,), LR)
                    self._word(1, words[1], (x,), LR)
                else:
                    self._words(words, (x,))
            return
        for _ in range(2):
            for register, base in ((R0, _X), (R1, _X), (R2, STREAM)):
                a.ldr_post(register, base, 4)
            if self._wide:
                self._word(0, R2, (R0, R1), R3)
                a.ldr_post(R2, STREAM, 4)
                self._word(1, R2, (R0, R1), R3)
            else:
                a.ldr_post(R3, STREAM, 4)
                self._words((R2, R3), (R0, R1))

    def _words(self, words: tuple[int, int], x: Sequence[int]) -> None:
        """Two columns of both row pairs."""
        for word, sums in zip(words, self._both, strict=True):
            self._add(sums, word, x)
        for word in words:
            self._a.sxtb16(word, word)
        for word, sums in zip(words, self._low, strict=True):
            self._add(sums, word, x)

    def _word(self, pair: int, word: int, x: Sequence[int], spare: int) -> None:
        """Two columns of a row pair of a wide matrix."""
        a = self._a
        a.sxtb16(spare, word, 8)
        a.sxtb16(word, word)
        self._add(self._both[pair], spare, x)
        self._add(self._low[pair], word, x)

    def _add(self, sums: Sequence[int], halves: int, x: Sequence[int]) -> None:
        for pixel in self._pixels:
            self._a.smlad(sums[pixel], halves, x[pixel], sums[pixel])

    def _finish_sums(self) -> None:
        """Outputs take the place of sums: the even row's in B, the odd row's in P."""
        a, frame = self._a, self._frame
        values = (R2, R3, R5) if self._stage == "line" else (R3, R5)
        if self._stage != "exact":
            for i, register in enumerate(values):
                frame.load(register, f"stage{i}")
        for both, low in zip(self._both, self._low, strict=True):
            for pixel in self._pixels if not self._wide else ():
                a.sub_w(both[pixel], both[pixel], low[pixel])
            for odd, sums in enumerate((low, both)):
                if self._stage == "line":
                    self._line(sums, R2 if odd else R3)
                else:
                    self._exact(sums, bool(odd) and not self._wide)

    def _line(self, sums: Sequence[int], pre: int) -> None:
        a = self._a
        a.ldr_post(R0, STREAM, 4)
        a.ldr_post(R1, STREAM, 4)
        for register in sums:
            a.lsl_w(register, register, pre)
        for register in sums:
            a.smmla(register, register, R0, R1)
        for register in sums:
            a.asr_w(register, register, R5)
        for register in sums:
            a.ssat(register, 8, register)

    def _exact(self, sums: Sequence[int], scaled: bool) -> None:
        """`scaled`: the sums are 256 times as large."""
        a = self._a
        for register in (R0, R1, R2):
            a.ldr_post(register, STREAM, 4)
        for register in sums:
            if scaled:
                a.asr_imm_w(register, register, 7)
            else:
                a.lsl_imm_w(register, register, 1)
            a.smmulr(register, register, R0)
            a.add_w(register, register, register, asr(31))
            a.add_w(register, register, R1)
            a.asr_w(register, register, R2)
            a.ssat(register, 8, register)
            if self._stage == "clamped":
                a.cmp(register, R3)
                a.it("lt")
                a.mov(register, R3)
                a.cmp(register, R5)
                a.it("gt")
                a.mov(register, R5)

    def _outputs(self) -> None:
        a, frame = self._a, self._frame
        a.ldr_post(R2, STREAM, 4)
        frame.load(R0, "out")
        if len(self._pixels) == 2:
            frame.load(R1, "step")
        a.adds(R0, R0, R2)
        for pixel in self._pixels:
            if pixel:
                a.adds(R0, R0, R1)
            rows = (self._low[0], self._both[0], self._low[1], self._both[1])
            for row, registers in enumerate(rows):
                a.strb_w(registers[pixel], R0, row)
