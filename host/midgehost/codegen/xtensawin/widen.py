"""From int8 to int16 in halves of words, four values a time, in the order 0, 2, 1, 3.

The order is free, as weights and activations have the same one, and saves what it would take to restore it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from numpy.typing import NDArray

from midgehost.codegen.asm.xtensa import Xtensa

ORDER: Final = (0, 2, 1, 3)
_HIGH_BYTES: Final = 0xFF00FF00
_LOW_BYTES, _SIGNS, _BIASED, _TOPS = 0x00FF00FF, 0x00800080, 0x7F807F80, 0x80008000


def reordered(values: NDArray[Any]) -> NDArray[Any]:
    """Values [..., 4 n] in the order that widening gives."""
    fours = values.reshape(*values.shape[:-1], -1, 4)
    return fours[..., ORDER].reshape(values.shape)


def widen_scaled(a: Xtensa, target: int, source: int, count: int, mask: int, scratch: Sequence[int]) -> None:
    """`count` words of bytes at `source` become halves with 256 times their values at `target`; both advance.

    `mask` is set here. 2 instructions a value.
    """
    t, u = scratch
    a.movi(mask, _HIGH_BYTES)
    end = a.fresh("widened")
    a.loopgtz(count, end)
    a.l32i(t, source)
    a.addi(source, source, 4)
    a.slli(u, t, 8)
    a.and_(u, u, mask)
    a.and_(t, t, mask)
    a.s32i(u, target)
    a.s32i(t, target, 4)
    a.addi(target, target, 8)
    a.label(end)


def widen_plain(a: Xtensa, target: int, source: int, count: int, scratch: Sequence[int]) -> None:
    """The same with the values themselves. 3.5 instructions a value.

    A half that holds a byte b in offset binary, b = x + 128, becomes x: 0x8000 + b - 128 borrows nothing from the half
    beside it, and then the top bit is flipped.
    """
    t, u, low_bytes, signs, biased, tops = scratch
    for register, value in (low_bytes, _LOW_BYTES), (signs, _SIGNS), (biased, _BIASED), (tops, _TOPS):
        a.movi(register, value)
    end = a.fresh("widened")
    a.loopgtz(count, end)
    a.l32i(t, source)
    a.addi(source, source, 4)
    a.and_(u, t, low_bytes)
    a.srli(t, t, 8)
    a.and_(t, t, low_bytes)
    for place, half in enumerate((u, t)):
        a.xor(half, half, signs)
        a.add(half, half, biased)
        a.xor(half, half, tops)
        a.s32i(half, target, 4 * place)
    a.addi(target, target, 8)
    a.label(end)
