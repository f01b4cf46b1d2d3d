"""What `convert` says a bundle takes from a board's heap, against what loading it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from midgehost.deploy.modules import compile_modules
from midgehost.errors import NotFound
from midgehost.models.bundle import Bundle
from midgehost.models.convert import convert
from midgehost.models.kernels import family_module

MODELS = (
    "hello_world_int8", "tinymaix_mnist_valid_q", "mnist_cnn_int8", "ad01_int8", "kws_ref_model",
    "pretrainedResnet_quant", "vww_96_int8",
)  # fmt: skip
GENEROUS = 11_500  # a model of one family of kernels pays for them all
MEASURE = """
import gc, sys
sys.path.insert(0, {folder!r})
gc.collect()
before = gc.mem_free()
from midge.inference import Model
model = Model({folder!r} + '/model.midge')
gc.collect()
print(before - gc.mem_free())
"""


def board_files(bundle: Bundle, arch: str) -> dict[str, bytes]:
    """What loading the bundle needs, as a deployment sends it."""
    modules = {"inference", *(f"kernels.viper.{family_module(call.kernel)}" for call in bundle.calls)}
    return {**compile_modules(modules, arch), "model.midge": bundle.encode()}


@pytest.mark.parametrize("name", MODELS)
def test_heap_need_on_the_virtual_board(models_dir: Path, tmp_path: Path, name: str) -> None:
    bundle = convert(models_dir / f"{name}.tflite")
    for path, data in board_files(bundle, "x64").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    command = [str(Path(sys.executable).with_name("micropython")), "-X", "heapsize=2m", "-c"]
    done = subprocess.run([*command, MEASURE.format(folder=str(tmp_path))], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    taken = json.loads(done.stdout)
    assert taken <= bundle.meta["heap_bytes"] <= taken + GENEROUS


@pytest.mark.soak
@pytest.mark.emulated
def test_heap_need_on_the_stock_pico(models_dir: Path) -> None:
    from midgehost.virtual.emulated import EmulatedPico, find_image

    try:
        find_image("pico")
    except NotFound as error:
        pytest.skip(str(error))
    print("\n| model | heap taken on the Pico | said |\n|---|---|---|")
    for name in MODELS[:3]:
        bundle = convert(models_dir / f"{name}.tflite")
        files = {f"/m/{path}": data for path, data in board_files(bundle, "armv6m").items()}
        with EmulatedPico(files=files) as pico:
            taken = int(pico.exec(MEASURE.format(folder="/m"), 300))
        print(f"| {name} | {taken:,} | {bundle.meta['heap_bytes']:,} |")
        assert taken <= bundle.meta["heap_bytes"] <= taken + GENEROUS
