"""The shared int8 models: exact reference, tight arena, canonical bundles, and a hash that follows every weight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from midgehost.boards import board
from midgehost.errors import BadBundle, TooBig
from midgehost.models import reference
from midgehost.models.bundle import Bundle
from midgehost.models.convert import convert, load, macs, weight_bytes
from midgehost.models.plan import lower
from midgehost.models.planner import peak_bytes, plan_memory

# name -> (MACs, weight bytes, TFLM's arena) as data/models/OPS.md has them
FACTS = {
    "ad01_int8": (264192, 270880, 3984),
    "hello_world_int8": (288, 420, 1504),
    "kws_ref_model": (2656768, 24376, 24272),
    "mnist_cnn_int8": (51228, 3260, 4544),
    "pretrainedResnet_quant": (12501632, 78752, 55984),
    "tinymaix_mnist_valid_q": (21220, 1796, 3776),
    "vww_96_int8": (7489664, 219072, 103680),
}


@pytest.mark.parametrize("name", FACTS)
def test_size_and_arena(models_dir: Path, name: str) -> None:
    graph = load(models_dir / f"{name}.tflite")
    known_macs, known_weights, tflm_arena = FACTS[name]
    assert (macs(graph), weight_bytes(graph)) == (known_macs, known_weights)
    layout = plan_memory(graph, lower(graph))
    assert layout.arena_bytes <= peak_bytes(graph) * 1.05 or layout.arena_bytes - peak_bytes(graph) < 16
    assert layout.arena_bytes + layout.scratch_bytes <= tflm_arena


@pytest.mark.parametrize("name", FACTS)
def test_reference_equals_every_tap(models_dir: Path, name: str) -> None:
    graph = load(models_dir / f"{name}.tflite")
    with np.load(models_dir / f"{name}.golden.npz") as golden, np.load(models_dir / f"{name}.taps.npz") as taps:
        compared = 0
        for sample in (0, 9):
            shape = graph.tensors[graph.inputs[0]].shape
            values = reference.taps(graph, [golden["in0"][sample].reshape(shape)])
            np.testing.assert_array_equal(values[graph.outputs[0]].reshape(-1), golden["out0"][sample].reshape(-1))
            for node in graph.nodes:
                want = taps[f"s{sample}_op{node.index}_t{node.output.index}"]
                got = values[node.output.index]
                np.testing.assert_array_equal(got.reshape(-1), want.reshape(-1), f"operator {node.index} ({node.kind})")
                compared += 1
    assert compared == 2 * len(graph.nodes)


def test_bundle_round_trip_and_canon(models_dir: Path) -> None:
    bundle = convert(models_dir / "mnist_cnn_int8.tflite", labels=[str(i) for i in range(10)])
    data = bundle.encode()
    assert data == convert(models_dir / "mnist_cnn_int8.tflite", labels=[str(i) for i in range(10)]).encode()
    again = Bundle.decode(data)
    assert again == bundle and again.outputs[0].labels[3] == "3"


def test_every_damaged_byte_is_noticed(models_dir: Path) -> None:
    data = convert(models_dir / "hello_world_int8.tflite").encode()
    used = [i for i in range(len(data)) if i % 7 == 0]
    unnoticed = []
    for i in used:
        damaged = bytearray(data)
        damaged[i] ^= 0x10
        try:
            Bundle.decode(bytes(damaged))
            unnoticed.append(i)
        except BadBundle:
            pass
    assert all(data[i] == 0 for i in unnoticed), "only the gaps between sections may differ"
    for length in range(0, len(data), 97):
        with pytest.raises(BadBundle):
            Bundle.decode(data[:length])


def test_one_flipped_weight_gives_another_hash(models_dir: Path) -> None:
    bundle = convert(models_dir / "mnist_cnn_int8.tflite")
    tile = bytearray(bundle.tiles[0])
    tile[5] ^= 0x40
    assert replace(bundle, tiles=(bytes(tile), *bundle.tiles[1:])).plan_hash != bundle.plan_hash


def test_too_big_for_the_board(models_dir: Path) -> None:
    with pytest.raises(TooBig) as refused:
        convert(models_dir / "ad01_int8.tflite", board("pico"))
    assert refused.value.needed > refused.value.available == board("pico").heap_bytes
