"""From the accumulator to a clamped output, for each kind of `scales.Scale`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from midgehost.codegen.asm.xtensa import ACCHI, ACCLO, Xtensa
from midgehost.codegen.requantise import Channels
from midgehost.codegen.xtensawin.frame import Frame
from midgehost.codegen.xtensawin.scales import PRE
from midgehost.models.quant import INT8_MAX, INT8_MIN

SHIFT, KIND, EXTRA = 8, 9, 10  # offsets into a channel's words
CLAMP_COST: Final = 3  # instructions more where outputs are clamped to less than int8
CLAMP_WORDS: Final = ("zero_point", "low", "high")  # that a frame must have


def is_ranged(channels: Channels) -> bool:
    """Whether outputs are clamped to less than int8."""
    return (channels.low, channels.high) != (INT8_MIN, INT8_MAX)


@dataclass(frozen=True)
class Tails:
    """`ranged`: the outputs are clamped to less than int8."""

    a: Xtensa
    frame: Frame
    ranged: bool

    def straight(self, r: int, multiplier: int, addend: int) -> None:
        """r becomes an output without clamp; SAR holds the shift."""
        a = self.a
        a.rsr(r, ACCLO)
        a.mulsh(r, r, multiplier)
        a.add(r, r, addend)
        a.sra(r, r)

    def bent(self, r: int, t: int, multiplier: int, addend: int, delta: int, zero_point: int) -> None:
        """The same for a line with a step at the zero point."""
        a = self.a
        a.rsr(r, ACCLO)
        a.mulsh(r, r, multiplier)
        a.add(r, r, addend)
        a.add(t, r, delta)
        a.movgez(r, t, r)
        a.sra(r, r)
        a.add(r, r, zero_point)

    def bent_from_frame(self, r: int, t: int, multiplier: int, addend: int) -> None:
        """The same with "delta" and "zero_point" in the frame."""
        a = self.a
        a.rsr(r, ACCLO)
        a.mulsh(r, r, multiplier)
        a.add(r, r, addend)
        self.frame.load(t, "delta")
        a.add(t, r, t)
        a.movgez(r, t, r)
        a.sra(r, r)
        self.frame.load(t, "zero_point")
        a.add(r, r, t)

    def exact(self, r: int, h: int, t: int, u: int, words: int) -> None:
        """The same by TFLM's two roundings, from the channel's words. Uses SAR.

        Source: gemmlowp's SaturatingRoundingDoublingHighMul, which is floor((x * m + 2^30) / 2^31) (the mantissa is
        never -2^31, so that nothing saturates), and RoundingDivideByPOT.
        """
        a = self.a
        a.ssai(PRE)
        a.rsr(h, ACCHI)
        a.rsr(r, ACCLO)
        a.src(r, h, r)
        a.l32i(t, words, 4)
        a.add(r, r, t)
        a.l16ui(t, words, EXTRA)
        a.ssl(t)
        a.sll(r, r)
        a.l32i(t, words, 0)
        a.movi(u, -1)
        a.xor(t, t, u)
        a.mulsh(h, r, t)
        a.mull(r, r, t)
        a.extui(t, r, 31, 1)
        a.addx2(h, h, t)
        a.extui(t, r, 30, 1)
        a.add(r, h, t)
        a.l8ui(t, words, SHIFT)
        a.ssl(t)
        a.sll(h, u)
        a.xor(u, u, h)  # the bits that are shifted out
        a.and_(h, r, u)
        a.srli(u, u, 1)
        a.ssr(t)
        a.srai(t, r, 31)
        a.sub(u, u, t)
        a.sub(u, u, h)
        a.srai(u, u, 31)
        a.sra(r, r)
        a.sub(r, r, u)
        self.frame.load(t, "zero_point")
        a.add(r, r, t)

    def clamp(self, r: int, t: int) -> None:
        """r within the activation's range."""
        if not self.ranged:
            self.a.clamps(r, r, 7)
            return
        self.frame.load(t, "low")
        self.a.max(r, r, t)
        self.frame.load(t, "high")
        self.a.min(r, r, t)
