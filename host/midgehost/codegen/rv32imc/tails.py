"""From raw sums to stored outputs: the cheap requantise where it is proved for a channel, else TFLM's own steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from midgehost.codegen.asm.rv32 import T0, T1, T2, T3, T4, Rv32
from midgehost.codegen.requantise import MULHIGH_POSTS, Channels, MulHigh, fit_mulhigh, layer
from midgehost.models.graph import Node

Kind = Literal["straight", "bent", "exact"]  # a line, a line with a step at the zero point, TFLM's double rounding
KINDS: tuple[Kind, ...] = ("straight", "bent", "exact")


@dataclass(frozen=True)
class Tails:
    """How the channels of a layer become outputs. `pre` and `post` are the shifts that all lines share."""

    channels: Channels
    lines: list[MulHigh | None]
    pre: int
    post: int

    @classmethod
    def of(cls, node: Node, posts: Sequence[int] = MULHIGH_POSTS) -> Tails:
        """The tails of a dense or convolution layer; `posts` may be the shift behind the high word."""
        channels = layer(node)
        lines = fit_mulhigh(channels, posts)
        shared = next((line for line in lines if line is not None), None)
        return cls(channels, lines, shared.pre if shared else 0, shared.post if shared else 16)

    @property
    def layer_words(self) -> dict[str, int]:
        """Parameters of the whole layer."""
        channels = self.channels
        return {
            "low": channels.low,
            "high": channels.high,
            "pre": self.pre,
            "post": self.post,
            "pivot": channels.zero_point << self.post,
            "zero_point": channels.zero_point,
        }

    def constant(self, channel: int) -> bool:
        """Whether the channel has one output, whatever its weights and inputs."""
        return self.channels.constants[channel] is not None

    def kind(self, group: Iterable[int]) -> Kind:
        """The cheapest tail that fits all channels of a group."""
        return KINDS[max(KINDS.index(self._kind(channel)) for channel in group)]

    def words(self, channel: int, kind: Kind) -> list[int]:
        """A channel's parameters: [multiplier, addend], bent [.., delta], or exact [bias, mantissa, left, right]."""
        channels, line = self.channels, self.lines[channel]
        if kind == "exact":
            shift = int(channels.shifts[channel])
            bias = (int(channels.biases[channel]) + (1 << 31)) % (1 << 32) - (1 << 31)
            return [bias, int(channels.mantissas[channel]), max(shift, 0), max(-shift, 0)]
        constant = channels.constants[channel]
        if constant is not None:
            words = [0, constant << self.post, 0]
        else:
            assert line is not None
            words = [line.multiplier, line.addend, line.delta]
        return words if kind == "bent" else words[:2]

    def _kind(self, channel: int) -> Kind:
        line = self.lines[channel]
        if self.constant(channel):
            return "straight"
        if line is None:
            return "exact"
        return "bent" if line.delta else "straight"


def emit_line(a: Rv32, raw: int, shifts: tuple[int, int], line: tuple[int, int]) -> None:
    """raw becomes y of `requantise.MulHigh` without its delta. shifts: pre; line: multiplier and addend."""
    multiplier, addend = line
    a.sll(raw, raw, shifts[0])
    a.mulh(raw, raw, multiplier)
    a.add(raw, raw, addend)


def emit_bend(a: Rv32, y: int, pivot: int, delta: int) -> None:
    """y += delta from the pivot on."""
    below = a.fresh("below")
    a.blt(y, pivot, below)
    a.add(y, y, delta)
    a.label(below)


def emit_clamp(a: Rv32, value: int, low: int, high: int) -> None:
    """value within low..high."""
    above, below = a.fresh("above"), a.fresh("below")
    a.bge(value, low, above)
    a.mv(value, low)
    a.label(above)
    a.bge(high, value, below)
    a.mv(value, high)
    a.label(below)


def emit_exact(a: Rv32, value: int, words: int) -> None:
    """value, a raw sum, becomes the output without zero point and clamp. `words` points at its tail's parameters.

    Uses T0 to T4. Source: gemmlowp's SaturatingRoundingDoublingHighMul and RoundingDivideByPOT; the mantissa is never
    -2^31, so that nothing saturates.
    """
    a.lw(T0, words, 0)
    a.lw(T1, words, 8)
    a.add(value, value, T0)
    a.sll(value, value, T1)
    a.lw(T0, words, 4)
    a.mulh(T1, value, T0)
    a.mul(T2, value, T0)
    a.li(T3, 1 << 30)
    a.add(T2, T2, T3)
    a.sltu(T3, T2, T3)
    a.add(T1, T1, T3)
    a.slli(T1, T1, 1)
    a.srli(T2, T2, 31)
    a.or_(T1, T1, T2)
    a.lw(T0, words, 12)
    a.li(T2, 1)
    a.sll(T2, T2, T0)
    a.addi(T2, T2, -1)
    a.and_(T3, T1, T2)
    a.srli(T2, T2, 1)
    a.slti(T4, T1, 0)
    a.add(T2, T2, T4)
    a.slt(T3, T2, T3)
    a.sra(value, T1, T0)
    a.add(value, value, T3)
