"""Machine code on the stock Pico images: loaded from the bundle, proven, run; code that hangs is left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from machine_bundle import SECRETS, bundle, endless, machine_only, weights

from midgehost.deploy.modules import compile_modules
from midgehost.models.bundle import Bundle
from midgehost.resources import cache_dir
from midgehost.virtual.emulated import Crashed, EmulatedPico

pytestmark = pytest.mark.emulated

OLDER, NEWEST = "RPI_PICO-20241129-v1.24.1.uf2", "RPI_PICO-20250911-v1.26.1.uf2"
LOAD = """
import gc, json, os, sys
from midge.errors import MidgeError
from midge.inference import Model
def load(path, level=None):
    try:
        model = Model(path, level)
        return [model.level, model.reason, model.plan_hash]
    except MidgeError as error:
        return [error.code, error.what]
"""


@pytest.fixture
def image(request: pytest.FixtureRequest) -> Path:
    path = cache_dir() / "firmware" / getattr(request, "param", NEWEST)
    if not path.is_file():
        pytest.skip(f"needs {path}: download it from micropython.org")
    return path


def pico(image: Path, models: Mapping[str, Bundle | bytes]) -> EmulatedPico:
    files = compile_modules(["inference", "kernels.viper.move"], "armv6m")
    content = {f"/{name}": model if isinstance(model, bytes) else model.encode() for name, model in models.items()}
    return EmulatedPico(image, {f"/lib/{path}": data for path, data in files.items()} | content)


def test_machine_code_is_proven_and_runs_without_allocating(image: Path) -> None:
    model = bundle()
    code = """
import micropython
Model('/m')
model = Model('/m')  # trusted: its first run has to allocate nothing
data = bytes(range(200, 256)) + bytes(8)
model.input()[:] = data
micropython.heap_lock()
try:
    model.invoke()
finally:
    micropython.heap_unlock()
same = [bytes(model.output()) == data]
steps = model.steps()
next(steps), next(steps)
model.input()[:] = data
operators = list(model.steps())
same.append(bytes(model.output()) == data)
print(json.dumps([same, operators, model.residence, model.level, model.plan_hash, load('only')]))
print(json.dumps([sorted(os.listdir('/')), [name for name in sys.modules if 'midge' in name], open('m.ok').read()]))
"""
    with pico(image, {"m": model, "only": machine_only(model)}) as board:
        run, left = map(json.loads, board.exec(LOAD + code, 30).splitlines())
    only = ["machine", None, model.machine_hash]
    assert run == [[True, True], [0, 0, 0, 0, 1], "ram", "machine", model.machine_hash, only]
    files, modules, mark = left
    assert files == ["lib", "m", "m.ok", "only", "only.ok"]
    assert len([name for name in modules if name.startswith("midge_")]) == 1, "loaded once for both bundles"
    assert not {"midge.bundle", "midge.kernels.trust", "midge.kernels.general"} & set(modules)
    assert mark == f"{model.machine_hash} {image.stem.rpartition('v')[2]}"


def test_code_that_hangs_is_not_called_at_the_next_boot(image: Path) -> None:
    model = bundle(code=endless())
    with pico(image, {"m": model}) as board:
        board.exec(LOAD)
        with pytest.raises(Crashed, match="breakpoint"):
            board.exec("load('m')")
        board.reset()
        after = json.loads(board.exec(f"{LOAD}print(json.dumps(load('m')))", 30))
    assert after == ["viper", "machine code crashed at the last boot", model.plan_hash]


@pytest.mark.soak
def test_a_file_system_that_takes_no_marks_is_no_obstacle(image: Path) -> None:
    code = """
import rp2, vfs
vfs.umount('/')
vfs.mount(rp2.Flash(), '/', readonly=True)
print(json.dumps([load('m'), os.listdir('/')]))
"""
    with pico(image, {"m": bundle()}) as board:
        loaded, files = json.loads(board.exec(LOAD + code, 30))
    assert loaded == ["machine", None, bundle().machine_hash] and files == ["lib", "m"]


IN_FLASH = """
import micropython
def copies(path):
    # A model's place of weights, and whether its first run is right and allocates nothing.
    Model(path)
    model = Model(path)
    data = bytes(range(100, 164))
    model.input()[:] = data
    micropython.heap_lock()
    try:
        model.invoke()
    finally:
        micropython.heap_unlock()
    return model, [model.level, model.residence, bytes(model.output()) == data]
def codes(model, runs):
    found = []
    for _ in range(runs):
        try:
            model.invoke()
            found.append("ok")
        except MidgeError as error:
            found.append(error.code)
    return found
"""


def test_weights_stay_in_flash(image: Path) -> None:
    """A file whose blocks alternate with another's; then one block changes under the model."""
    code = """
with open('m', 'rb') as whole, open('torn', 'wb') as torn, open('other', 'wb') as other:
    while part := whole.read(2048):
        torn.write(part)
        other.write(bytes(2048))
        other.flush()
model, found = copies('torn')
import rp2, uctypes
flash = rp2.Flash()
addresses = [model._plan.blocks[13], model._plan.blocks[22]]
blocks = [(address - uctypes.addressof(memoryview(flash))) // 4096 for address in addresses]
flash.writeblocks(blocks[1], bytes(4096))
print(json.dumps([found, codes(model, 8), blocks[1] - blocks[0]]))
"""
    with pico(image, {"m": bundle(residence="flash")}) as board:
        found, after, distance = json.loads(board.exec(LOAD + IN_FLASH + code, 60))
    assert found == ["machine", "flash", True] and distance > 5, "weights of five blocks lie further apart"
    first = after.index("model.weights_moved")
    assert after[:first] == ["ok"] * first and first <= 6
    assert after[first:] == ["model.weights_moved"] * (8 - first)


@pytest.mark.soak
@pytest.mark.parametrize("image", [OLDER], indirect=True)
def test_weights_are_streamed_where_flash_is_no_memory(image: Path) -> None:
    code = """
model, found = copies('m')
import rp2
flash, data = rp2.Flash(), bytearray(4096)
for block in range(flash.ioctl(4, 0)):
    flash.readblocks(block, data)
    if secret in data:
        at = data.find(secret)
        data[at : at + 1] = b'?'
        flash.writeblocks(block, data)
        break
print(json.dumps([found, codes(model, 8)]))
"""
    with pico(image, {"m": bundle(residence="flash")}) as board:
        found, after = json.loads(board.exec(f"{LOAD}{IN_FLASH}secret = {weights(SECRETS[1])!r}{code}", 60))
    assert found == ["machine", "stream", True]
    first = after.index("model.weights_moved")
    assert after[:first] == ["ok"] * first and first <= 6
    assert after[first:] == ["model.weights_moved"] * (8 - first)
