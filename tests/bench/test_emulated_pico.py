"""The stock Pico image in the emulator: exact inference on a 32-bit board, and the device tests that count there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from device_files import device_tests, files_for, run_test
from emulated import stock_image

from midgehost.boards import board
from midgehost.codegen.convert import convert
from midgehost.deploy.modules import compile_modules
from midgehost.deploy.node_folder import kernel_modules
from midgehost.deploy.probe import probe
from midgehost.deploy.runner import ModelOnBoard
from midgehost.virtual.emulated import EmulatedPico, UnalignedAccess

pytestmark = pytest.mark.emulated


@pytest.fixture(scope="module", autouse=True)
def image() -> Path:
    """The stock image, or a skip that says where to put one."""
    return stock_image()


class _Pico:
    """What decides which kernels a bundle needs, before the board runs."""

    arch = "armv6m"


def golden(models_dir: Path, name: str, kernels: str, count: int) -> tuple[int, int, float]:
    """(values, mismatches, milliseconds an inference) of a shared model on the emulated Pico."""
    bundle = convert(models_dir / f"{name}.tflite", board("pico"), "armv6m" if kernels == "machine" else None)
    modules = {"inference", *kernel_modules([bundle], _Pico(), kernels)}  # type: ignore[arg-type]
    files = {f"/midge/run/lib/{path}": data for path, data in compile_modules(modules, "armv6m").items()}
    with EmulatedPico(files=files | {"/midge/run/model.midge": bundle.encode()}) as pico:
        on_board = ModelOnBoard(pico, probe(pico), bundle, kernels)
        assert on_board.level == kernels
        with np.load(models_dir / f"{name}.golden.npz") as file:
            inputs, outputs = file["in0"], file["out0"]
        values = mismatches = 0
        for i in (0, 9, 14)[:count]:
            (got,) = on_board.invoke([inputs[i].reshape(bundle.inputs[0].shape)])
            values += got.size
            mismatches += int(np.count_nonzero(got.reshape(-1) != outputs[i].reshape(-1)))
        timed = "import time\n_t=time.ticks_us()\n_model.invoke()\nprint(time.ticks_diff(time.ticks_us(),_t))"
        return values, mismatches, int(pico.exec(timed, 60)) / 1000


@pytest.mark.parametrize("name", ["hello_world_int8", "tinymaix_mnist_valid_q", "mnist_cnn_int8"])
def test_golden_outputs_viper(models_dir: Path, name: str) -> None:
    values, mismatches, ms = golden(models_dir, name, "viper", 3)
    print(f"{name}: {values} values, {mismatches} differ, {ms:.1f} ms by the board's clock")
    assert values and not mismatches


@pytest.mark.parametrize("name", ["mnist_cnn_int8", "ad01_int8"])
def test_golden_outputs_machine_code(models_dir: Path, name: str) -> None:
    """ad01's weights stay in flash. Milliseconds and heap: `make bench-kernels`."""
    values, mismatches, _ = golden(models_dir, name, "machine", 1)
    assert values and not mismatches


@pytest.mark.soak
@pytest.mark.parametrize("name", ["kws_ref_model", "pretrainedResnet_quant", "vww_96_int8"])
def test_golden_outputs_of_large_models(models_dir: Path, name: str) -> None:
    values, mismatches, ms = golden(models_dir, name, "machine", 1)
    print(f"{name}: {values} values, {mismatches} differ, {ms:.1f} ms by the board's clock")
    assert values and not mismatches


def test_golden_outputs_portable(models_dir: Path) -> None:
    values, mismatches, _ = golden(models_dir, "hello_world_int8", "portable", 3)
    assert values and not mismatches


@pytest.mark.soak
def test_golden_outputs_soak(models_dir: Path) -> None:
    print("\n| model | kernels | values | mismatches | ms by the board's clock |\n|---|---|---|---|---|")
    for name in ("hello_world_int8", "tinymaix_mnist_valid_q", "mnist_cnn_int8"):
        for kernels, count in (("viper", 3), ("portable", 1)):
            values, mismatches, ms = golden(models_dir, name, kernels, count)
            print(f"| {name} | {kernels} | {values} | {mismatches} | {ms:.1f} |")
            assert not mismatches


def run_device_tests(wanted: Callable[[str], bool]) -> int:
    """Runs the device tests of the wanted files; how many there were."""
    tests = [(path, function) for path, function in device_tests() if wanted(path.stem)]
    with EmulatedPico(files=files_for(sorted({path for path, _ in tests}), "armv6m")) as pico:
        for path, function in tests:
            run_test(pico, path, function)
    return len(tests)


def test_sampling_on_the_stock_image() -> None:
    """What small ints of 31 bits and a real interrupt could break."""
    assert run_device_tests(lambda name: name.startswith("test_sampling"))


@pytest.mark.soak
def test_the_other_device_tests_on_the_stock_image() -> None:
    assert run_device_tests(lambda name: not name.startswith("test_sampling"))


def test_an_unaligned_access_is_caught() -> None:
    code = "@micropython.viper\ndef f(a:int)->int:\n return ptr32(a)[0]\n"
    code += "import uctypes\nb=bytearray(16)\nf(uctypes.addressof(b)+1)"
    with EmulatedPico() as pico, pytest.raises(UnalignedAccess):
        pico.exec(code)
