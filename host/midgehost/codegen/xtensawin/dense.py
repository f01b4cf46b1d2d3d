"""FULLY_CONNECTED on one vector: a row of weights after another.

The input is widened into scratch once a call. Speed: int16 weights, one instruction a product. Size: int8 weights,
widened in the inner loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen.asm.xtensa import Xtensa
from midgehost.codegen.machine import Form, MachineCall, Routine
from midgehost.codegen.requantise import layer
from midgehost.codegen.xtensawin import dot, scales
from midgehost.codegen.xtensawin.frame import Frame, Parameters, block_word
from midgehost.codegen.xtensawin.tails import CLAMP_COST, CLAMP_WORDS, EXTRA, KIND, SHIFT, Tails, is_ranged
from midgehost.codegen.xtensawin.widen import reordered, widen_plain, widen_scaled
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place

_PARAMETERS: Final = ("rounds", *CLAMP_WORDS)
_X, _W, _OUT, _WORDS, _ROUNDS, _END, _AT, _R, _M, _C, _T, _U, _H, _MASK = range(2, 16)
_AN_OUTPUT: Final = 18  # instructions beside the products
_EXTRA: Final = {scales.STRAIGHT: 0, scales.BENT: 9, scales.EXACT: 28}


def dense_calls(node: Node, weights: NDArray[Any], form: Form, tile_bytes: int | None) -> Sequence[MachineCall]:
    """The calls of a FULLY_CONNECTED operator on one vector."""
    units, depth = weights.shape
    channels = layer(node)
    widest = abs(weights.astype(np.int64)).max(axis=1) if form == "speed" else None
    all_scales = scales.scales_of(channels, widest)
    rounds = -(-depth // dot.ROUND)
    rows = _packed(weights, all_scales, form)
    group = units if tile_bytes is None else max(1, tile_bytes // rows.shape[1])
    ranged = is_ranged(channels)
    routine = dense_routine(form, ranged)
    parameters = Parameters(Xtensa(), _PARAMETERS)
    a_widening, a_round = (8, 4) if form == "speed" else (14, 9)
    an_output = _AN_OUTPUT + CLAMP_COST * ranged + a_round * rounds
    calls: list[MachineCall] = []
    for first in range(0, units, group):
        some = all_scales[first : first + group]
        words = {"rounds": rounds, "zero_point": channels.zero_point, "low": channels.low, "high": channels.high}
        calls.append(
            MachineCall(
                routine,
                Place(node.input(0).index),
                Place(node.output.index, first),
                weights=rows[first : first + group].tobytes() + bytes(4 if form == "speed" else 0),
                params=[*parameters.values(words), *scales.words_of(some)],
                scratch_bytes=rounds * dot.ROUND_BYTES + 4,
                rows=len(some),
                macs=len(some) * depth,
                cost=60 + rounds * a_widening + sum(_EXTRA[s.kind] for s in some) + len(some) * an_output,
            )
        )
    return calls


def _packed(weights: NDArray[Any], channel_scales: Sequence[scales.Scale], form: Form) -> NDArray[Any]:
    """The stream of each row, as bytes."""
    depth = weights.shape[1]
    padded = np.pad(weights, ((0, 0), (0, -depth % dot.ROUND)))
    if form == "size":
        return padded.view(np.uint8)
    shifts = np.array([scale.pre - scales.PRE for scale in channel_scales])
    halves = np.ascontiguousarray(reordered(padded).astype(np.int16) << shifts[:, None], "<i2")
    return halves.view(np.uint8)


@cache
def dense_routine(form: Form, ranged: bool) -> Routine:
    """Rows are output units."""
    a = Xtensa()
    frame = Frame(a, CLAMP_WORDS)
    parameters = Parameters(a, _PARAMETERS)
    block, address = _C, _WORDS
    frame.enter(block)
    block_word(a, address, block, "params")
    parameters.load(_ROUNDS, address, "rounds")
    for word in CLAMP_WORDS:
        parameters.load(_T, address, word)
        frame.store(_T, word)
    block_word(a, _X, block, "in0")
    block_word(a, _AT, block, "scratch")
    if form == "speed":
        widen_scaled(a, _AT, _X, _ROUNDS, _MASK, (_T, _U))
    else:
        widen_plain(a, _AT, _X, _ROUNDS, (_T, _U, _R, _M, _H, _MASK))
        a.movi(_MASK, 0xFF00FF00)
    block_word(a, _X, block, "scratch")
    a.addi(_X, _X, -4)
    block_word(a, _T, block, "row0")
    block_word(a, _U, block, "row1")
    block_word(a, _OUT, block, "out")
    block_word(a, _W, block, "weights")
    a.add(_OUT, _OUT, _T)
    a.addi(_WORDS, address, parameters.size)
    a.addx2(_H, _U, _U)
    a.addx4(_END, _H, _WORDS)
    a.addx2(_H, _T, _T)
    a.addx4(_WORDS, _H, _WORDS)
    a.mull(_H, _T, _ROUNDS)
    if form == "speed":
        a.addx8(_W, _H, _W)
        a.addi(_W, _W, -4)
        a.ldinc(2, _W)
    else:
        a.addx4(_W, _H, _W)
    _rows(a, Tails(a, frame, ranged), form)
    return Routine(f"dense_{form}" + "_ranged" * ranged, a.code())


def _rows(a: Xtensa, tails: Tails, form: Form) -> None:
    special, exact, store = a.fresh("special"), a.fresh("exact"), a.fresh("store")
    dot.place_loop(a, 8)
    row = a.label()
    a.mov(_AT, _X)
    a.ldinc(0, _AT)
    dot.clear(a, _ROUNDS)
    if form == "speed":
        dot.add_products(a, _ROUNDS, _AT, _W)
    else:
        dot.add_products_of_bytes(a, _ROUNDS, _AT, _W, _MASK, _T, _U)
    a.l32i(_M, _WORDS, 0)
    a.l32i(_C, _WORDS, 4)
    a.bltz(_M, special)
    a.l8ui(_T, _WORDS, SHIFT)
    a.ssr(_T)
    tails.straight(_R, _M, _C)
    a.label(store)
    tails.clamp(_R, _T)
    a.s8i(_R, _OUT)
    a.addi(_OUT, _OUT, 1)
    a.addi(_WORDS, _WORDS, 4 * scales.WORDS)
    a.bltu(_WORDS, _END, row)
    tails.frame.leave()
    a.label(special)
    a.l8ui(_T, _WORDS, KIND)
    a.bnei(_T, scales.BENT, exact)
    a.neg(_M, _M)
    a.addi(_M, _M, -1)
    a.l8ui(_T, _WORDS, SHIFT)
    a.ssr(_T)
    a.l16ui(_U, _WORDS, EXTRA)
    tails.frame.load(_H, "zero_point")
    tails.bent(_R, _T, _M, _C, _U, _H)
    a.j(store)
    a.label(exact)
    tails.exact(_R, _H, _T, _U, _WORDS)
    a.j(store)
