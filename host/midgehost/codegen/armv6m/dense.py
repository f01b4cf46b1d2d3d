"""FULLY_CONNECTED for few inputs, four filters at a time: the pairs are weights, the factors the input as int32.

A pair holds a weight each of four filters, (0 + 65536 * 1, 2 + 65536 * 3), in the small form as bytes; their chunks
are common, each filter has its own constants. There is no table: building one costs more than it saves. Where the
number of filters is no multiple of 4 the last four overlap those before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midgehost.codegen import requantise
from midgehost.codegen.armv6m import ladder, stream
from midgehost.codegen.armv6m.frame import Kernel
from midgehost.codegen.armv6m.ladder import FACTORS, PAIRS, Row, Sites, emit_sums
from midgehost.codegen.armv6m.requantise import GENERAL_WORDS, Stage, emit_clamp, emit_general, general_words, stages
from midgehost.codegen.asm.thumb import R0, R1, R2, R3, R4, R5, R6, R7
from midgehost.codegen.machine import Form, MachineCall, Routine
from midgehost.codegen.requantise import CLAMP_FIRST_POSTS, Channels, ClampFirst
from midgehost.models.graph import Node
from midgehost.models.ops.base import Place
from midgehost.models.quant import INT32_MAX

_TAILS: Final = ("tail_clamp", "tail_clamp_bent", "tail_general")
_PARAMS: Final = ("inputs",)  # values to widen into scratch first, 0 if a call before has done so
_SUMS: Final = (R2, R3, R4, R5)


@cache
def routine(form: Form) -> tuple[Routine, Sites]:
    """The routine for weights as pairs of words (speed) or bytes (size)."""
    k = Kernel(_PARAMS, ("in0", "out", "weights", "scratch", "row0", "row1"), ("v0", "v1", "v2", "v3", "next"))
    k.begin()
    emit_widen(k)
    k.label("next_group")
    emit_group(k, PAIRS)
    k.label("row")
    k.load(FACTORS, "scratch")
    ladder.emit(k, PAIRS, octets=form == "size")
    emit_tails(k)
    sites = ladder.sites(k, [*_TAILS, "tail_end"], octets=form == "size")
    return Routine(f"dense_{form}", k.code()), sites


def emit_widen(k: Kernel) -> None:
    """In the first row, int8 at in0 become int32 in scratch."""
    k.load(R0, "row0")
    k.cmp_imm(R0, 0)
    k.bcond("ne", "widened")
    k.load(R0, "in0")
    k.load(R1, "scratch")
    k.load(R2, "inputs")
    k.movs(R3, 0)
    k.lsrs_imm(R6, R2, 2)
    k.bcond("eq", "widen_rest")
    k.lsls_imm(R6, R6, 2)
    widen = k.label()
    for register in (R4, R5):
        k.ldrsb(register, R0, R3)
        k.adds_imm(R3, R3, 1)
    k.stm(R1, [R4, R5])
    for register in (R4, R5):
        k.ldrsb(register, R0, R3)
        k.adds_imm(R3, R3, 1)
    k.stm(R1, [R4, R5])
    k.cmp(R3, R6)
    k.bcond("ne", widen)
    k.label("widen_rest")
    k.cmp(R3, R2)
    k.bcond("eq", "widened")
    k.ldrsb(R4, R0, R3)
    k.adds_imm(R3, R3, 1)
    k.stm(R1, [R4])
    k.b("widen_rest")
    k.label("widened")


def emit_group(k: Kernel, register: int) -> None:
    """register = the stream of group `row0`. Spoils r2, r3."""
    k.load(R2, "row0")
    k.lsls_imm(R2, R2, 2)
    k.load(R3, "weights")
    k.ldr_reg(register, R3, R2)
    k.adds(register, register, R3)


def emit_tails(k: Kernel) -> None:
    """What ends a row of four filters and a group of rows."""
    for bent in (False, True):
        k.label("tail_clamp_bent" if bent else "tail_clamp")
        _emit_clamp_tail(k, bent)
        _emit_store(k)
    k.label("tail_general")
    _emit_general_tail(k)
    _emit_store(k)
    k.label("tail_end")
    k.load(R0, "row0")
    k.adds_imm(R0, R0, 1)
    k.store(R0, "row0")
    k.load(R1, "row1")
    k.cmp(R0, R1)
    k.bcond("eq", "done")
    k.b("next_group")
    k.label("done")
    k.finish()
    emit_general(k, "general")


def _emit_clamp_tail(k: Kernel, bent: bool) -> None:
    """Constants: for each filter fine, floor, top, coarse, addend, post, and where bent pivot and delta between."""
    emit_sums(k)
    for value in _SUMS:
        k.ldm(PAIRS, [R1, R6, R7])
        emit_clamp(k, value, R6, R7)
        k.muls(R1, value)
        k.asrs_imm(R1, R1, 12)
        k.ldm(PAIRS, [R6, R7])
        k.muls(value, R6)
        k.adds(value, value, R1)
        k.adds(value, value, R7)
        if bent:
            k.ldm(PAIRS, [R1, R6, R7])
            k.cmp(value, R1)
            k.bcond("lt", below := k.fresh())
            k.adds(value, value, R6)
            k.label(below)
        else:
            k.ldm(PAIRS, [R7])
        k.asrs(value, R7)


def _emit_general_tail(k: Kernel) -> None:
    """Constants: for each filter those of `emit_general`."""
    emit_sums(k)
    for i, value in enumerate(_SUMS):
        k.store(value, f"v{i}")
    k.mov(R1, PAIRS)
    for i in range(4):
        k.load(R0, f"v{i}")
        k.bl("general")
        k.store(R0, f"v{i}")
        k.adds_imm(R1, R1, 4 * GENERAL_WORDS)
    k.mov(PAIRS, R1)
    for i, value in enumerate(_SUMS):
        k.load(value, f"v{i}")


def _emit_store(k: Kernel) -> None:
    """Constant: where the four outputs go, from the call's output on. Then the next row."""
    k.load(R6, "out")
    k.ldm(PAIRS, [R7])
    k.adds(R6, R6, R7)
    for i, value in enumerate(_SUMS):
        k.strb(value, R6, i)
    k.b("row")


# Packing

_TAIL_CYCLES: Final = {"tail_clamp": 117, "tail_clamp_bent": 135, "tail_general": 600}


def calls(node: Node, form: Form, tile_bytes: int | None) -> list[MachineCall] | None:
    """FULLY_CONNECTED: a call for each input of the batch, and for as many filters as fit a tile."""
    weights = node.input(1).array()
    units, depth = weights.shape
    channels = requantise.layer(node)
    batch = node.output.elements // units
    if (channels.mantissas < 0).any() or (units < 4 and batch > 1):
        return None
    code, sites = routine(form)
    made = stream.parts(rows(weights, channels, sites), ladder.end(sites), tile_bytes)
    if made is None:
        return None
    found: list[MachineCall] = []
    for image in range(batch):
        for i, part in enumerate(made):
            found.append(
                MachineCall(
                    code,
                    Place(node.input(0).index, image * depth),
                    Place(node.output.index, image * units),
                    weights=part.stream,
                    params=[0 if i else depth],
                    scratch_bytes=4 * depth,
                    rows=part.groups,
                    macs=min(4 * len(part.rows), units) * depth,
                    cost=part.cycles + 30 * part.groups + 150 + (0 if i else 5.75 * depth + 20),
                )
            )
    return found


def rows(weights: NDArray[np.int8], channels: Channels, where: Sites) -> list[Row]:
    """The stream of each four filters; those beyond the last are zeros."""
    units = len(weights)
    firsts = [min(first, max(0, units - 4)) for first in range(0, units, 4)]
    padded = np.pad(weights, ((0, max(0, 4 - units)), (0, 0)))
    found = stages(channels, tables=False)
    live = padded.copy()
    live[[i for i, stage in enumerate(found) if stage.constant]] = 0
    fours = np.stack([live[first : first + 4] for first in firsts])  # [rows, 4, depth]
    lows, highs = fours[:, 0::2], fours[:, 1::2]
    if where.octets:  # low halves in bytes 0 and 1, high ones in 2 and 3
        octets = np.concatenate([lows, highs], axis=1).view(np.uint8) ^ 0x80
        words = np.ascontiguousarray(octets.transpose(0, 2, 1)).view("<i4")
    else:
        words = (lows.astype(np.int64) + (highs.astype(np.int64) << 16)).transpose(0, 2, 1)
    lengths = ladder.chunks(lows, highs, where)
    made: list[Row] = []
    for i, first in enumerate(firsts):
        some = found[first : first + 4]
        tail, constants = _constants(some, channels, first)
        chunks = lengths[i] if fours[i].any() else []
        row = ladder.row(lows[i], highs[i], words[i], chunks, tail, where)
        made.append(Row((*row.words, *constants, first), row.cycles + _TAIL_CYCLES[tail]))
    return made


def _constants(some: Sequence[Stage], channels: Channels, first: int) -> tuple[str, list[int]]:
    """The tail that serves all four filters, and its constants but the last."""
    if any(stage.form == "general" for stage in some):
        four = [general_words(channels, first + i) if i < len(some) else [0] * GENERAL_WORDS for i in range(4)]
        return "tail_general", [word for words in four for word in words]
    nothing = ClampFirst(0, 0, 0, 0, 12, CLAMP_FIRST_POSTS[0], floor=0, top=0)
    lines = [stage.line for stage in some if isinstance(stage.line, ClampFirst)]
    lines += [nothing] * (4 - len(lines))
    bent = any(line.delta for line in lines)
    words: list[int] = []
    for line in lines:
        words += [line.fine, line.floor, line.top, line.coarse, line.addend]
        if bent:
            words += [line.pivot if line.delta else INT32_MAX, line.delta]
        words.append(line.post)
    return ("tail_clamp_bent" if bent else "tail_clamp"), words
