"""`midge verify` on a virtual board: golden vectors, kernel levels, taps, and a refusal where the heap is too small."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from midgehost import connect
from midgehost.cli.app import run
from midgehost.deploy.runner import ModelOnBoard
from midgehost.models.convert import convert

SMALL = ("hello_world_int8", "mnist_cnn_int8", "tinymaix_mnist_valid_q")
LARGE = ("kws_ref_model", "ad01_int8", "pretrainedResnet_quant", "vww_96_int8")


def verdict(
    capsys: pytest.CaptureFixture[str], models: Path, name: str, *options: str
) -> tuple[int, dict[str, object]]:
    files = [str(models / f"{name}.tflite"), "--golden", str(models / f"{name}.golden.npz"), "--json"]
    code = run(["verify", *files, *options])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kernels", ["viper", "portable"])
@pytest.mark.parametrize("name", SMALL)
def test_small_models(models_dir: Path, capsys: pytest.CaptureFixture[str], name: str, kernels: str) -> None:
    code, found = verdict(capsys, models_dir, name, "--kernels", kernels)
    assert (code, found["mismatches"], found["inputs"], found["kernels"]) == (0, 0, 16, kernels)
    assert found["model"] == name and found["port"] == "virtual" and found["values"]


@pytest.mark.parametrize("name", LARGE)
def test_large_models(models_dir: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, found = verdict(capsys, models_dir, name, "--heap", "512k", "--limit", "2")
    assert (code, found["mismatches"], found["inputs"], found["kernels"]) == (0, 0, 2, "viper")


@pytest.mark.parametrize("name", ["ad01_int8", "vww_96_int8"])
def test_too_large_for_the_profile(models_dir: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, found = verdict(capsys, models_dir, name)
    assert code == 2 and found["error"]["code"] == "model.too_big"  # type: ignore[index]


@pytest.mark.parametrize("level", ["native", "bogus"])
def test_a_level_that_is_not_there_is_refused(models_dir: Path, capsys: pytest.CaptureFixture[str], level: str) -> None:
    code, found = verdict(capsys, models_dir, SMALL[0], "--kernels", level)
    assert code == 2 and found["error"]["code"] == "model.no_kernels"  # type: ignore[index]


def test_a_wrong_golden_value_is_found(models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "mnist_cnn_int8"
    shutil.copy(models_dir / f"{name}.tflite", tmp_path)
    with np.load(models_dir / f"{name}.golden.npz") as golden:
        outputs = golden["out0"].copy()
        outputs.reshape(-1)[3] ^= 1
        np.savez(tmp_path / f"{name}.golden.npz", in0=golden["in0"], out0=outputs)
    code, found = verdict(capsys, tmp_path, name)
    assert (code, found["mismatches"]) == (1, 1)


def test_taps_name_the_first_operator(models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "mnist_cnn_int8"
    files = ["verify", str(models_dir / f"{name}.tflite"), "--golden", str(models_dir / f"{name}.golden.npz")]
    assert run([*files, "--taps", str(models_dir / f"{name}.taps.npz"), "--limit", "1"]) == 0
    assert "every operator agrees" in capsys.readouterr().out
    with np.load(models_dir / f"{name}.taps.npz") as taps:
        changed = {key: taps[key].copy() for key in taps.files}
    key = next(key for key in changed if key.startswith("s0_op2_"))
    changed[key].reshape(-1)[0] ^= 1
    np.savez(tmp_path / "taps.npz", **changed)
    assert run([*files, "--taps", str(tmp_path / "taps.npz"), "--limit", "1"]) == 1
    assert "operator 2 (CONV_2D): 1 of" in capsys.readouterr().out


def test_one_flipped_weight_gives_another_output(models_dir: Path) -> None:
    bundle = convert(models_dir / "hello_world_int8.tflite")
    tile = bytearray(bundle.tiles[1])
    tile[40] ^= 0x80
    flipped = replace(bundle, tiles=(bundle.tiles[0], bytes(tile), *bundle.tiles[2:]))
    outputs, hashes = [], []
    with connect("virtual") as board:
        for model in (bundle, flipped):
            on_board = ModelOnBoard(board.transport, board.info, model)
            hashes.append(on_board.plan_hash)
            inputs = [np.array([[x]], np.int8) for x in range(-128, 128, 16)]
            outputs.append(np.concatenate([on_board.invoke([x])[0] for x in inputs]))
    assert hashes == [bundle.plan_hash, flipped.plan_hash] and hashes[0] != hashes[1]
    assert (outputs[0] != outputs[1]).any()


def test_files_of_something_else_are_refused(
    models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, vectors = (str(models_dir / f"mnist_cnn_int8.{end}") for end in ("tflite", "golden.npz"))
    other, taps = (str(models_dir / f"kws_ref_model.{end}") for end in ("golden.npz", "taps.npz"))
    np.savez(tmp_path / "empty.npz", in0=np.zeros((0, 784), np.int8), out0=np.zeros((0, 10), np.int8))
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "ragged.npz", in0=np.zeros((3, 784), np.int8), out0=np.zeros((2, 10), np.int8))
    for options, words in (
        (["--golden", other], "490 int8"),
        (["--golden", str(tmp_path / "ragged.npz")], "no matching"),
        (["--golden", str(tmp_path / "empty.npz")], "no matching"),
        (["--golden", str(tmp_path / "text.npz")], "no .npz file"),
        (["--golden", str(tmp_path / "absent.npz")], "No such file"),
        (["--golden", vectors, "--limit", "1", "--taps", taps], "no operator's output"),
    ):
        assert run(["verify", model, *options]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert words in line and line.endswith("[data]")


def test_nothing_verified_is_no_success(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(models_dir / f"hello_world_int8.{end}") for end in ("tflite", "golden.npz")]
    for limit in ("0", "-1"):
        assert run(["verify", files[0], "--golden", files[1], "--limit", limit]) == 2


def test_a_refused_model_does_not_hold_the_others_back(
    models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ad01_int8", "hello_world_int8"):
        for end in ("tflite", "golden.npz"):
            shutil.copy(models_dir / f"{name}.{end}", tmp_path)
    assert run(["verify", "--all", str(tmp_path), "--json"]) == 2
    out, err = capsys.readouterr()
    refused, fine = (json.loads(line) for line in out.splitlines())
    assert (refused["model"], refused["error"]["code"]) == ("ad01_int8", "model.too_big")
    assert (fine["model"], fine["mismatches"]) == ("hello_world_int8", 0)
    assert err.startswith("ad01_int8: refused: ")


@pytest.mark.soak
def test_every_model_every_input(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for name, kernels in [*((n, "viper") for n in (*SMALL, *LARGE)), *((n, "portable") for n in SMALL)]:
        code, found = verdict(capsys, models_dir, name, "--kernels", kernels, "--heap", "512k")
        rows.append(f"| {name} | {kernels} | {found['inputs']} | {found['values']} | {found['mismatches']} |")
        assert code == 0
    with capsys.disabled():
        print("\n| model | kernels | inputs | values | mismatches |\n|---|---|---|---|---|\n" + "\n".join(rows))
