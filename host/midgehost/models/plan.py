"""A plan: the graph as ordered kernel calls with their places in the arena, parameters and weight tiles packed."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Final

from midgehost.models.graph import Graph
from midgehost.models.ops import registry
from midgehost.models.ops.base import Call, Lowering, Place
from midgehost.models.planner import Layout, aligned, plan_memory

NOTHING: Final = -1  # the offset of an operand, tile or scratch that a call does not have
_MACS_AN_OUTPUT: Final = 4  # what requantising and storing an output costs beside its multiply-accumulates


@dataclass(frozen=True)
class PlannedCall:
    """A kernel call as the bundle's PLAN section has it: 12 words.

    Offsets are bytes in the arena; `weights` is a byte offset in tile number `tile`, `params` a word offset in PARM.
    The board cuts rows `row0` to `row1` into slices of `slice_rows`, one kernel call each. `operator` is its source.
    """

    kernel: int
    in0: int
    in1: int
    out: int
    tile: int
    weights: int
    params: int
    scratch: int
    row0: int
    row1: int
    operator: int
    slice_rows: int

    @property
    def slices(self) -> int:
        """How often the board calls the kernel."""
        return -(-(self.row1 - self.row0) // self.slice_rows)


@dataclass(frozen=True)
class Plan:
    """The calls in order, what they read beside the arena, and the layout of the arena."""

    calls: tuple[PlannedCall, ...]
    params: tuple[int, ...]
    tiles: tuple[bytes, ...]
    layout: Layout


def lower(graph: Graph) -> list[Lowering]:
    """Every operator's lowering, in order. The graph must have passed `checks.check`."""
    ops = registry()
    return [ops[node.kind].lower(node) for node in graph.nodes]


def make_plan(graph: Graph, max_call_macs: int) -> Plan:
    """Plans a checked graph; no kernel call does more than `max_call_macs`, unless one row of it does."""
    lowerings = lower(graph)
    calls = [call for lowering in lowerings for call in lowering.calls]
    outputs = [graph.tensors[call.out.tensor].elements for call in calls]
    work = [call.macs + _MACS_AN_OUTPUT * elements for call, elements in zip(calls, outputs, strict=True)]
    slices = [max_call_macs * call.rows // each for call, each in zip(calls, work, strict=True)]
    return assemble(graph, lowerings, slices)


def assemble(graph: Graph, lowerings: Sequence[Lowering], slices: Iterable[int], tile_a_call: bool = False) -> Plan:
    """The plan of these lowerings, one an operator. `slices` says, call by call, how many rows one may compute.

    An operator's constants make one tile, unless every call is to have a tile of its own (the same for equal ones).
    """
    layout = plan_memory(graph, lowerings)
    pool = _Pool()
    tiles: list[bytes] = []
    calls: list[PlannedCall] = []
    limits = iter(slices)
    for index, lowering in enumerate(lowerings):
        packed = _tiles_of_calls(lowering.calls) if tile_a_call else _tile(lowering.calls)
        for call, (tile, offset) in zip(lowering.calls, packed.places, strict=True):
            calls.append(
                PlannedCall(
                    kernel=int(call.kernel),
                    in0=_offset(call.in0, layout),
                    in1=_offset(call.in1, layout),
                    out=_offset(call.out, layout),
                    tile=len(tiles) + tile if call.weights else NOTHING,
                    weights=offset if call.weights else NOTHING,
                    params=pool.add(call.params),
                    scratch=layout.scratch[index] if call.scratch_bytes else NOTHING,
                    row0=0,
                    row1=call.rows,
                    operator=index,
                    slice_rows=min(call.rows, max(1, next(limits))),
                )
            )
        tiles += packed.tiles
    return Plan(tuple(calls), tuple(pool.words), tuple(tiles), layout)


def encode_calls(calls: Sequence[PlannedCall]) -> bytes:
    """The PLAN section: 12 little-endian int32 a call."""
    return b"".join(struct.pack("<12i", *astuple(call)) for call in calls)


def decode_calls(section: bytes) -> tuple[PlannedCall, ...]:
    """The inverse of `encode_calls`. Raises struct.error if the section is no whole number of calls."""
    return tuple(PlannedCall(*words) for words in struct.iter_unpack("<12i", section))


class _Pool:
    """Parameter blocks one after another; equal blocks are kept once."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self._known: dict[tuple[int, ...], int] = {}

    def add(self, params: Sequence[int]) -> int:
        block = tuple(int(word) for word in params)
        if block not in self._known:
            self._known[block] = len(self.words)
            self.words += block
        return self._known[block]


@dataclass(frozen=True)
class _Packed:
    """An operator's tiles, and (tile, offset) of each call's constants."""

    tiles: Sequence[bytes]
    places: Sequence[tuple[int, int]]


def _tile(calls: Sequence[Call]) -> _Packed:
    """An operator's constants in one tile, each 16-aligned, equal ones once."""
    tile = b""
    known: dict[bytes, int] = {}
    for call in calls:
        if call.weights not in known:
            tile = tile.ljust(aligned(len(tile)), b"\0")
            known[call.weights] = len(tile)
            tile += call.weights
    return _Packed([tile] if tile else [], [(0, known[call.weights]) for call in calls])


def _tiles_of_calls(calls: Sequence[Call]) -> _Packed:
    """A tile for each call's constants, equal ones once."""
    tiles = list(dict.fromkeys(call.weights for call in calls if call.weights))
    return _Packed(tiles, [(tiles.index(call.weights) if call.weights else 0, 0) for call in calls])


def _offset(place: Place | None, layout: Layout) -> int:
    return NOTHING if place is None else layout.tensors[place.tensor] + place.offset
