"""Executable memory: where a board has little, kernels of less code are taken, then none at all."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from midgehost import boards
from midgehost.boards import Board
from midgehost.cli.app import run
from midgehost.codegen.convert import TooMuchCode, convert, plan_for
from midgehost.codegen.inspect import inspect
from midgehost.models.convert import load

MODEL = "mnist_cnn_int8.tflite"


def c3(exec_bytes: int | None) -> Board:
    return msgspec.structs.replace(boards.board("esp32-c3"), heap_bytes=400_000, exec_bytes=exec_bytes)


def test_less_code_is_taken_until_it_fits(models_dir: Path) -> None:
    graph = load(models_dir / MODEL)
    fastest = plan_for(graph, c3(None), "rv32imc")
    assert plan_for(graph, c3(fastest.code_bytes), "rv32imc").code_bytes == fastest.code_bytes
    smaller = plan_for(graph, c3(fastest.code_bytes - 1), "rv32imc")
    assert smaller.code_bytes < fastest.code_bytes
    assert {choice.form for choice in smaller.chosen} == {"general"}
    assert sum(choice.cost for choice in smaller.chosen) > sum(choice.cost for choice in fastest.chosen)


def test_a_bundle_without_machine_code_remains(models_dir: Path) -> None:
    least = plan_for(load(models_dir / MODEL), c3(1), "rv32imc").code_bytes
    bundle = convert(models_dir / MODEL, c3(least - 1), "rv32imc")
    assert bundle.machine is None
    assert bundle.calls
    assert "machine" not in bundle.meta["levels"]
    machine = convert(models_dir / MODEL, c3(least), "rv32imc").machine
    assert machine is not None
    with pytest.raises(TooMuchCode) as refused:
        convert(models_dir / MODEL, c3(least - 1), "rv32imc", fallback=False)
    assert (refused.value.needed, refused.value.available) == (least, least - 1)


def test_inspect_says_so(models_dir: Path) -> None:
    graph = load(models_dir / MODEL)
    fits, does_not = inspect(graph, c3(12_288)), inspect(graph, c3(1000))
    assert fits is not None
    assert does_not is not None
    assert (fits.code_fits, fits.fits) == (True, True)
    assert (does_not.code_fits, does_not.fits) == (False, False)


def test_commands(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = (boards.boards_dir() / "esp32.toml").read_text().replace("12_288", "300", 1)
    folder = tmp_path / "midge" / "boards"
    folder.mkdir(parents=True)
    (folder / "esp32.toml").write_text(small)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    model = str(models_dir / "mnist_cnn_int8.tflite")
    assert run(["inspect", model, "--board", "esp32"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "esp32 can execute 300 bytes of machine code: viper or portable kernels run instead" in said
    assert run(["convert", model, "--board", "esp32", "-o", str(tmp_path)]) == 0
    assert "no machine code: ESP32 (classic, no PSRAM) cannot execute that much of it" in capsys.readouterr().out
    assert run(["convert", model, "--board", "esp32", "-o", str(tmp_path), "--no-fallback", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "model.too_much_code"
