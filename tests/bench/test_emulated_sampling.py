"""Sampling on the stock Pico image: the real I2C driver in a hard interrupt, with the heap locked."""

from __future__ import annotations

import ast
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from device_files import FOLDER, LIB, files_for
from emulated import stock_image

from midgehost.deploy.modules import compile_modules
from midgehost.virtual.emulated import EmulatedPico
from midgehost.virtual.sensors import Mpu6050, Recording

pytestmark = pytest.mark.emulated

HEAP_TEST = FOLDER / "test_sampling_heap.py"
_OPEN = f"""
import sys, time, micropython
sys.path.insert(0, {LIB!r})
from array import array
from midge import drivers
from midge.sampling import Sampler
driver = drivers.open('mpu6050', {{'i2c': 0, 'sda': 4, 'scl': 5, 'channels': ['x', 'y', 'z'], 'unit': 'g'}})
sampler = Sampler(driver, 100, 64, timer)
sampler.start()
tick = sampler._tick
out = array('h', bytes(6 * 64))
def many(n):
    micropython.heap_lock()
    try:
        for _ in range(n):
            tick(None)
    finally:
        micropython.heap_unlock()
def until(counter, n):
    start = time.ticks_ms()
    while getattr(sampler, counter) < n and time.ticks_diff(time.ticks_ms(), start) < 5000:
        time.sleep_ms(1)
"""


class Loose(Mpu6050):
    """A sensor with a wire that can be cut: nobody answers."""

    cut = False

    def read(self, count: int) -> bytes:
        if self.cut:
            raise OSError(errno.EIO, "nobody answers")
        return super().read(count)


@pytest.fixture
def sensor() -> Loose:
    """Sample k is k, -k and 1000 - k counts at 2 g."""
    return Loose(Recording([(k / 16384, -k / 16384, (1000 - k) / 16384) for k in range(1000)]))


@pytest.fixture
def pico(sensor: Loose) -> Iterator[EmulatedPico]:
    """The stock image with the modules that sampling needs, or a skip that says where to put one."""
    stock_image()
    modules = compile_modules(["sampling", "drivers", "drivers.mpu6050"], "armv6m")
    files = {f"{LIB}/{path}": data for path, data in modules.items()}
    with EmulatedPico(files=files, sensors=[sensor]) as pico:
        yield pico


def test_the_driver_samples_with_the_heap_locked(pico: EmulatedPico, sensor: Loose) -> None:
    pico.exec("timer = False" + _OPEN + "many(20)")
    sensor.cut = True
    pico.exec("many(2)")
    sensor.cut = False
    pico.exec("many(20)\nn = sampler.read_into(out, 64)", 30)
    taken, errors, last = ast.literal_eval(pico.exec("print((n, sampler.errors, sampler.last_error))"))
    assert taken >= 30 and errors >= 2 and last == 5  # EIO
    rows = ast.literal_eval(pico.exec(f"print(list(out[:{3 * taken}]))"))
    assert rows == [count for k in range(taken) for count in (k, -k, 1000 - k)]


def test_the_driver_samples_in_a_hard_interrupt(pico: EmulatedPico, sensor: Loose) -> None:
    pico.exec("timer = None" + _OPEN + "until('taken', 10)", 30)
    sensor.cut = True
    pico.exec("until('errors', 3)", 30)
    sensor.cut = False
    pico.exec("seen = sampler.taken + 5\nuntil('taken', seen)\nsampler.stop()", 30)
    taken, errors, last = ast.literal_eval(pico.exec("print((sampler.taken, sampler.errors, sampler.last_error))"))
    assert taken >= 15 and errors >= 3 and last == 5
    rows = ast.literal_eval(pico.exec("n = sampler.read_into(out, 64)\nprint(list(out[:3 * n]))"))
    assert rows == [count for k in range(len(rows) // 3) for count in (k, -k, 1000 - k)]
    assert len(rows) >= 45


@pytest.mark.soak
def test_ten_thousand_ticks_with_the_heap_locked() -> None:
    with EmulatedPico(files=files_for([Path(HEAP_TEST)], "armv6m")) as pico:
        pico.exec(f"import sys\nsys.path.insert(0, {LIB!r})\nimport {HEAP_TEST.stem} as test")
        said = pico.exec("print(test.ticks_with_the_heap_locked(10000))", 120)
    assert ast.literal_eval(said) == (256, 10_050 - 256)
    print("\n10 000 ticks with the heap locked on the stock image: no allocation, 256 taken, 9 794 overruns")
