"""Removes channels that cannot change what a model answers: the outputs stay the same, bit for bit, for every input.

A channel is an index along a tensor's last axis. Forward, `ranges` finds the channels that are constant. A layer reads
a constant channel once and for all: it moves into the bias, unless padding lies beside it and has another value.
Backward, a channel is live if the model's output or a live filter reads it. What is not live goes, with its filters
and weights; where an operator ties channels together (a depthwise layer's output to its input, both operands of an ADD)
all tied ones go or stay. What stays without being live, and filters whose output is constant, get weights of zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from midgehost.models.graph import Graph, Node, Operator, Quant, Tensor
from midgehost.models.ops import registry
from midgehost.models.ops.mean import Mean
from midgehost.models.quant import Ints, wrap_int32
from midgehost.models.ranges import POOLS, SHAPE_ONLY, Filters, Range, adds_channels, channels, ranges

_LEAST_UNITS: Final = 2  # of a dense layer with a scale per unit: with one, TFLM would round that scale differently

Bools = NDArray[np.bool_]


def prune(graph: Graph) -> Graph:
    """The graph without what cannot change its outputs. Tensors and operators keep their numbers.

    The graph must have passed `checks.check`, and the pruned one does. Inputs and outputs keep their shape.
    """
    known = ranges(graph)
    live = _liveness(graph, known)
    kept = _Ties(graph, live).kept()
    edit = _Edit(graph, known, live, kept)
    for node in graph.nodes:
        edit.operator(node)
    return edit.graph()


@dataclass(frozen=True)
class Change:
    """What pruning did to an operator: output channels and multiply-accumulates before and after."""

    node: Node  # of the graph before
    channels: tuple[int, int]
    macs: tuple[int, int]


def report(before: Graph, after: Graph) -> list[Change]:
    """The change of each operator that computes multiply-accumulates, in order."""
    ops = registry()
    return [
        Change(a, (channels(a.output), channels(b.output)), (ops[a.kind].macs(a), ops[b.kind].macs(b)))
        for a, b in zip(before.nodes, after.nodes, strict=True)
        if ops[a.kind].macs(a)
    ]


def _liveness(graph: Graph, known: Mapping[int, Range]) -> dict[int, Bools]:
    """For every activation the channels that something live reads."""
    live = {index: np.zeros(channels(tensor), bool) for index, tensor in _activations(graph).items()}
    for index in live.keys() & set(graph.outputs):
        live[index][:] = True
    for node in reversed(graph.nodes):
        filters = Filters.of(node)
        if filters is not None:
            source = node.input(0).index
            live[source] |= _read(filters, known[source], live[node.output.index] & ~known[node.output.index].constant)
            continue
        ties = _tied(node)
        for tensor in node.inputs:
            if tensor.is_constant:
                continue
            if ties is None:
                live[tensor.index][:] = True
            else:
                np.logical_or.at(live[tensor.index], ties[0], live[node.output.index][ties[1]])
    return live


def _read(filters: Filters, source: Range, rows: Bools) -> Bools:
    """The input channels that these filters read, but for those that move into the bias."""
    used = filters.weights.any(axis=1) & rows[:, None]
    channel = used.reshape(-1, filters.multiplier).any(axis=1) if filters.multiplier else used.any(axis=0)
    return channel & ~_foldable(filters, source)


def _foldable(filters: Filters, source: Range) -> Bools:
    """The constant input channels: with padding only those that hold the padding's value."""
    zero = filters.node.input(0).zero_point
    return source.constant & ((source.lows == zero) | (not filters.padded))


def _tied(node: Node) -> tuple[Ints, Ints] | None:
    """Pairs (input channel, output channel) that keep their places for every input; None for other operators."""
    before, after = channels(node.input(0)), channels(node.output)
    ends = np.arange(max(before, after))
    if node.kind in SHAPE_ONLY:
        return (ends % before, ends % after) if max(before, after) % min(before, after) == 0 else None
    same = node.kind in POOLS or (node.kind == "ADD" and adds_channels(node))
    if node.kind == "MEAN":
        same = before == after and len(node.input(0).shape) - 1 not in Mean().axes(node)
    return (ends, ends) if same else None


def _activations(graph: Graph) -> dict[int, Tensor]:
    """Every tensor that is computed or given, by its index."""
    indices = [*graph.inputs, *(tensor.index for node in graph.nodes for tensor in node.outputs)]
    return {index: graph.tensors[index] for index in indices}


class _Ties:
    """Channels in sets that go or stay together (union-find), and the sets that stay."""

    def __init__(self, graph: Graph, live: Mapping[int, Bools]) -> None:
        tensors = _activations(graph)
        ends = np.cumsum([0, *(channels(tensor) for tensor in tensors.values())])
        self._numbers = {index: np.arange(a, b) for index, (a, b) in zip(tensors, pairwise(ends), strict=True)}
        self._root = np.arange(ends[-1])
        self._stays = np.zeros(ends[-1], bool)
        for index, channel in live.items():
            self._stays[self._numbers[index][channel]] = True
        for index in tensors.keys() & {*graph.inputs, *graph.outputs}:
            self._stays[self._numbers[index]] = True
        self._wanted = dict.fromkeys(tensors, 1)
        for node in graph.nodes:
            self._add(node)

    def kept(self) -> dict[int, Ints]:
        """The channels that stay, ascending, by tensor. Every tensor keeps one at least."""
        for index, numbers in self._numbers.items():
            missing = self._wanted[index] - int(self._staying(numbers).sum())
            if missing > 0:
                self._stays[self._root[numbers[~self._staying(numbers)][:missing]]] = True
        return {index: np.flatnonzero(self._staying(numbers)) for index, numbers in self._numbers.items()}

    def _staying(self, numbers: Ints) -> Bools:
        stays = np.zeros(len(self._root), bool)
        stays[self._root[self._stays]] = True
        return stays[self._root[numbers]]

    def _add(self, node: Node) -> None:
        """Ties an operator's channels; those of an operator that is not understood all stay."""
        output = self._numbers[node.output.index]
        filters, ties = Filters.of(node), _tied(node)
        sources = [self._numbers[tensor.index] for tensor in node.inputs if not tensor.is_constant]
        if filters is not None:
            weights = node.input(1).quant
            if node.kind == "FULLY_CONNECTED" and weights is not None and weights.per_channel:
                self._wanted[node.output.index] = _LEAST_UNITS
            if filters.multiplier:
                self._tie(np.repeat(sources[0], filters.multiplier), output)
        elif ties is not None:
            for source in sources:
                self._tie(source[ties[0]], output[ties[1]])
        else:
            for tensor in (*node.inputs, *node.outputs):
                if not tensor.is_constant:
                    self._stays[self._numbers[tensor.index]] = True

    def _tie(self, one: Ints, other: Ints) -> None:
        for a, b in zip(self._root[one], self._root[other], strict=True):
            # An earlier pair may have moved both.
            self._root[self._root == self._root[b]] = self._root[a]


@dataclass
class _Edit:
    """Writes the pruned graph."""

    before: Graph
    known: Mapping[int, Range]
    live: Mapping[int, Bools]
    kept: Mapping[int, Ints]
    tensors: list[Tensor] = field(init=False)
    operators: list[Operator] = field(default_factory=list[Operator])

    def __post_init__(self) -> None:
        self.tensors = [
            replace(tensor, shape=(*tensor.shape[:-1], len(self.kept[tensor.index])))
            if tensor.index in self.kept and tensor.shape
            else tensor
            for tensor in self.before.tensors
        ]
        reads = [*self.before.outputs, *(i for operator in self.before.operators for i in operator.inputs)]
        self._shared = {index for index in reads if reads.count(index) > 1}

    def graph(self) -> Graph:
        return replace(self.before, tensors=tuple(self.tensors), operators=tuple(self.operators))

    def operator(self, node: Node) -> None:
        operator, filters = node.operator, Filters.of(node)
        if filters is not None:
            operator = self._layer(node, filters)
        elif node.kind == "RESHAPE":
            operator = replace(operator, inputs=operator.inputs[:1])  # the shape is the output's
        self.operators.append(operator)

    def _layer(self, node: Node, filters: Filters) -> Operator:
        """The operator with the weights and the bias that remain."""
        source, target = node.input(0), node.output
        weights, biases = self._folded(filters)
        rows, columns = self.kept[target.index], self.kept[source.index]
        weights, biases = weights[rows], wrap_int32(biases[rows])
        shape = node.input(1).shape
        if filters.multiplier:
            data = weights[:, :, 0].T.reshape(*shape[:3], len(rows))
        else:
            data = weights[:, :, columns].reshape(len(rows), *shape[1:-1], -1)
        inputs = [
            source.index,
            self._constant(node.input(1), data.astype(np.int8), rows),
            self._bias(node, biases.astype(np.int32), rows),
        ]
        return replace(node.operator, inputs=tuple(inputs))

    def _folded(self, filters: Filters) -> tuple[Ints, Ints]:
        """Weights and biases where constant channels are in the bias and dead or constant filters are zeros."""
        node = filters.node
        source, target = self.known[node.input(0).index], node.output.index
        foldable = filters.spread(_foldable(filters, source))
        values = filters.spread(source.lows - node.input(0).zero_point)
        live, constant = self.live[target], self.known[target].constant
        folded = np.where(foldable, filters.weights * values, 0).sum(axis=(1, 2))
        reached = filters.sums(source)[0]  # of a constant filter any sum will do
        biases = filters.biases + np.where(constant, reached, folded)
        keep = live & ~constant
        weights = np.where(foldable | ~keep[:, None, None], 0, filters.weights)
        return weights, np.where(live, biases, 0)

    def _bias(self, node: Node, biases: NDArray[np.int32], rows: Ints) -> int:
        """The number of the bias tensor; -1 where there is none and none is needed."""
        bias, weights = node.optional_input(2), node.input(1)
        if bias is not None:
            return self._constant(bias, biases, rows)
        if not biases.any():
            return -1
        assert weights.quant is not None
        scales = tuple(float(np.float32(node.input(0).scale * scale)) for scale in weights.quant.scales)
        made = Tensor(-1, f"{node.output.name} bias", (), "int32", Quant(scales, (0,) * len(scales)))
        return self._append(self._with(made, biases, rows))

    def _constant(self, tensor: Tensor, data: NDArray[Any], rows: Ints) -> int:
        """The number of a constant with this value: the same tensor, unless others read it too."""
        changed = self._with(tensor, data, rows)
        if tensor.index in self._shared:
            return self._append(changed)
        self.tensors[tensor.index] = changed
        return tensor.index

    def _append(self, tensor: Tensor) -> int:
        self.tensors.append(replace(tensor, index=len(self.tensors)))
        return len(self.tensors) - 1

    @staticmethod
    def _with(tensor: Tensor, data: NDArray[Any], rows: Ints) -> Tensor:
        quant = tensor.quant
        if quant is not None and quant.per_channel:
            scales, zeros = (tuple(values[row] for row in rows) for values in (quant.scales, quant.zero_points))
            quant = replace(quant, scales=scales, zero_points=zeros)
        return replace(tensor, shape=data.shape, quant=quant, data=np.ascontiguousarray(data).tobytes())
