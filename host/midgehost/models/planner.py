"""Where every tensor lies in the arena: live ranges, shared and in-place memory, and a search for a tight packing.

Offsets are multiples of 16. Machine code needs 4; 16 costs next to nothing (every shared model still packs to the peak
of its live tensors), matches the garbage collector's block on 32-bit boards, and leaves vector loads open. The model's
inputs may be overwritten while it runs; its outputs keep their values until the next run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from midgehost.models.graph import Graph
from midgehost.models.ops.base import Lowering

ALIGNMENT: Final = 16
_TRIES: Final = 300  # of the search; it ends at once where the packing meets its lower bound


@dataclass(frozen=True)
class Layout:
    """Byte offsets: of tensors by index, and of each operator's scratch. `arena_bytes` holds every tensor; scratch
    lies in its gaps, and where it does not fit in `scratch_bytes` more behind it."""

    tensors: Mapping[int, int]
    scratch: Sequence[int]
    arena_bytes: int
    scratch_bytes: int


@dataclass
class _Buffer:
    """Memory that one or more tensors share, needed from operator `first` to operator `last`, both included."""

    tensors: list[int]
    size: int
    first: int
    last: int

    def absorb(self, other: _Buffer) -> None:
        self.tensors += other.tensors
        self.size = max(self.size, other.size)
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)

    def meets(self, other: _Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


def plan_memory(graph: Graph, lowerings: Sequence[Lowering]) -> Layout:
    """The layout of a graph whose operators are computed by these lowerings, one each."""
    buffers = _buffers(graph, lowerings)
    offsets = _pack(buffers)
    arena = max((offset + buffer.size for buffer, offset in zip(buffers, offsets, strict=True)), default=0)
    placed = list(zip(buffers, offsets, strict=True))
    scratch: list[int] = []
    high = arena
    for index, lowering in enumerate(lowerings):
        size = aligned(max((call.scratch_bytes for call in lowering.calls), default=0))
        offset = _lowest_gap(_Buffer([], size, index, index), placed) if size else 0
        scratch.append(offset)
        high = max(high, offset + size)
    tensors = {tensor: offset for buffer, offset in placed for tensor in buffer.tensors}
    return Layout(tensors, scratch, arena, high - arena)


def peak_bytes(graph: Graph) -> int:
    """The largest sum of live tensors at any operator, nothing aligned or shared: what no plan beats by much."""
    buffers = _live_ranges(graph).values()
    return max(
        sum(graph.tensors[buffer.tensors[0]].nbytes for buffer in buffers if buffer.first <= index <= buffer.last)
        for index in range(len(graph.operators))
    )


def aligned(nbytes: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _live_ranges(graph: Graph) -> dict[int, _Buffer]:
    """One buffer for every tensor that is no constant, by its index."""
    end = len(graph.operators)
    ranges = {index: _Buffer([index], aligned(graph.tensors[index].nbytes), 0, 0) for index in graph.inputs}
    for node in graph.nodes:
        for tensor in node.inputs:
            if not tensor.is_constant:
                ranges[tensor.index].last = node.index
        for tensor in node.outputs:
            ranges[tensor.index] = _Buffer([tensor.index], aligned(tensor.nbytes), node.index, node.index)
    for index in graph.outputs:
        if index in ranges:
            ranges[index].last = end
    return ranges


def _buffers(graph: Graph, lowerings: Sequence[Lowering]) -> list[_Buffer]:
    """The buffers after sharing: an alias first (it extends lives), then outputs in place of inputs that die there."""
    owner = _live_ranges(graph)

    def share(kept: _Buffer, merged: _Buffer) -> None:
        kept.absorb(merged)
        owner.update((tensor, kept) for tensor in merged.tensors)

    for node, lowering in zip(graph.nodes, lowerings, strict=True):
        if lowering.alias:
            share(owner[node.input(0).index], owner[node.output.index])
    for node, lowering in zip(graph.nodes, lowerings, strict=True):
        for position in lowering.inplace:
            tensor, output = node.input(position), owner[node.output.index]
            if not tensor.is_constant and owner[tensor.index].last == node.index == output.first:
                share(owner[tensor.index], output)
                break
    return list({id(buffer): buffer for buffer in owner.values()}.values())


def _pack(buffers: Sequence[_Buffer]) -> list[int]:
    """An offset for each buffer, so that no two that live together overlap, in as little memory as the search finds.

    First fit in an order: largest first, then orders mutated by a seeded search (same graph, same layout).
    """
    moments = range(max((buffer.last for buffer in buffers), default=0) + 1)
    bound = max((sum(b.size for b in buffers if b.first <= moment <= b.last) for moment in moments), default=0)
    by_size = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].first))
    by_birth = sorted(range(len(buffers)), key=lambda i: (buffers[i].first, -buffers[i].size))
    best_order, (best_height, best) = by_size, _first_fit(buffers, by_size)
    rng = random.Random(len(buffers))
    for attempt in range(_TRIES):
        if best_height == bound:
            break
        order = by_birth if attempt == 0 else list(best_order)
        if attempt:
            order.insert(rng.randrange(len(order)), order.pop(rng.randrange(len(order))))
        height, offsets = _first_fit(buffers, order)
        if height <= best_height:
            best_order, best_height, best = order, height, offsets
    return best


def _first_fit(buffers: Sequence[_Buffer], order: Sequence[int]) -> tuple[int, list[int]]:
    """The memory used and the offsets when the buffers are placed in this order, each as low as it fits."""
    offsets = [0] * len(buffers)
    placed: list[tuple[_Buffer, int]] = []
    for i in order:
        offsets[i] = _lowest_gap(buffers[i], placed)
        placed.append((buffers[i], offsets[i]))
    return max((buffer.size + offset for buffer, offset in placed), default=0), offsets


def _lowest_gap(buffer: _Buffer, placed: Sequence[tuple[_Buffer, int]]) -> int:
    at = 0
    for other, offset in sorted((pair for pair in placed if buffer.meets(pair[0])), key=lambda pair: pair[1]):
        if offset - at >= buffer.size:
            break
        at = max(at, offset + other.size)
    return at
