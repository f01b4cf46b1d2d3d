"""`midge time`: its JSON has the promised form, what differs is counted, what is missing is said in one line."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from midgehost.cli.app import run
from midgehost.codegen.sim import ARCHES

MODEL = "hello_world_int8"


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("form", ["speed", "size"])
def test_json(models_dir: Path, capsys: pytest.CaptureFixture[str], arch: str, form: str) -> None:
    """Exactly these keys; the layers are the model's operators, and their counts make the total."""
    pytest.importorskip("unicorn")
    assert run(["time", str(models_dir / f"{MODEL}.tflite"), "--arch", arch, "--form", form, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["arch", "unit", "estimate", "layers", "total", "longest_call", "mismatches"]
    assert report["arch"] == arch and report["mismatches"] == 0
    assert report["unit"] == ("cycles" if arch.startswith("arm") else "instructions")
    assert report["estimate"] == (arch == "armv7emsp")
    assert [(layer["op"], layer["macs"]) for layer in report["layers"]] == [
        ("FULLY_CONNECTED", 16),
        ("FULLY_CONNECTED", 256),
        ("FULLY_CONNECTED", 16),
    ]
    assert all(set(layer) == {"op", "macs", "count"} and layer["count"] > 0 for layer in report["layers"])
    assert report["total"] == sum(layer["count"] for layer in report["layers"])
    assert 0 < report["longest_call"] <= report["total"]


def test_table(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Operators, a cost for each MAC, milliseconds at the Pico's clock."""
    assert run(["time", str(models_dir / f"{MODEL}.tflite"), "--arch", "armv6m"]) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("hello_world_int8.tflite on armv6m", "3 operators", "a MAC", "ms at 125 MHz"))


def test_values_that_differ_are_counted(models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A golden output that is wrong: exit 1."""
    with np.load(models_dir / f"{MODEL}.golden.npz") as golden:
        inputs, outputs = golden["in0"], golden["out0"]
    np.savez(tmp_path / "wrong.npz", in0=inputs, out0=outputs ^ 1)
    command = ["time", str(models_dir / f"{MODEL}.tflite"), "--arch", "armv6m", "--json"]
    assert run([*command, "--input", str(tmp_path / "wrong.npz")]) == 1
    assert json.loads(capsys.readouterr().out)["mismatches"] == 1


def test_without_golden_vectors_the_input_is_seeded(
    models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model alone in its folder."""
    shutil.copy(models_dir / f"{MODEL}.tflite", tmp_path)
    assert run(["time", str(tmp_path / f"{MODEL}.tflite"), "--arch", "armv6m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mismatches"] == 0


def test_refusals(models_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An arch or form that there is not, vectors of another model, a package that is missing: one line, exit 2."""
    model = str(models_dir / f"{MODEL}.tflite")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for options, words in [
        (["--arch", "avr"], "no emulated avr core"),
        (["--arch", "armv6m", "--form", "best"], "no form 'best'"),
        (["--arch", "armv6m", "--input", str(models_dir / "ad01_int8.golden.npz")], "another model"),
        (["--arch", "rv32imc"], "unicorn is not installed. Run: pip install 'midge[sim]'"),
    ]:
        assert run(["time", model, *options]) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
