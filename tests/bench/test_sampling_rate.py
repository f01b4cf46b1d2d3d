"""A thousand samples a second through the accelerometer's driver, on the virtual board."""

from __future__ import annotations

import ast

import pytest
from device_files import LIB

from midgehost.deploy.modules import compile_modules
from midgehost.deploy.transport import SerialTransport
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.sensors import Mpu6050, Recording

_ON_BOARD = f"""
import sys, time
sys.path.insert(0, {LIB!r})
from array import array
from midge import drivers
from midge.sampling import Sampler
config = dict(i2c=0, sda=4, scl=5, channels=('x', 'y', 'z'), unit='g', rate_hz=1000)
sampler = Sampler(drivers.open('mpu6050', config), 1000, 1024)
window = array('h', bytes(6 * 256))
steps = 0
broken = 0
last = -1
sampler.start()
start = time.ticks_ms()
while time.ticks_diff(time.ticks_ms(), start) < 2000:
    n = sampler.read_into(window, 256)
    for i in range(n):
        x = window[3 * i]
        broken += x != last + 1 or window[3 * i + 1] != -x or window[3 * i + 2] != 7
        last = x
    time.sleep_ms(5)
sampler.stop()
print([time.ticks_diff(time.ticks_ms(), start), last + 1, broken, sampler.available(), sampler.stats()])
"""


def sample() -> tuple[int, int, int, int, dict[str, float]]:
    """Two seconds at 1 kHz: (ms, samples read, out of order, waiting, statistics)."""
    samples = [(k / 16384, -k / 16384, 7 / 16384) for k in range(4000)]
    modules = compile_modules(["sampling", "drivers", "drivers.mpu6050"], "x64")
    with VirtualBoard(sensors=[Mpu6050(Recording(samples))]) as board, SerialTransport(board.path) as line:
        for path, data in modules.items():
            line.put(f"{LIB}/{path}", data)
        return ast.literal_eval(line.exec(_ON_BOARD, 30))


def check(ms: int, read: int, broken: int, waiting: int, stats: dict[str, float]) -> None:
    """What holds however busy the machine is: nothing is doubled or out of order, every tick is accounted for."""
    assert broken == 0
    assert stats["errors"] == stats["overruns"] == 0
    assert read + waiting == stats["taken"]
    assert stats["taken"] + stats["missed"] == pytest.approx(ms, rel=0.02)


def test_a_thousand_samples_a_second() -> None:
    ms, read, broken, waiting, stats = sample()
    check(ms, read, broken, waiting, stats)
    assert stats["rate_hz"] == pytest.approx(1000 * stats["taken"] / ms, rel=0.02)
    assert stats["rate_hz"] > 800  # a test beside others: the machine may be busy


@pytest.mark.soak
def test_a_thousand_samples_a_second_soak() -> None:
    print("\n| run | rate | mean jitter | longest gap | taken | missed |\n|---|---|---|---|---|---|")
    for run in range(10):
        ms, read, broken, waiting, stats = sample()
        check(ms, read, broken, waiting, stats)
        figures = f"{stats['rate_hz']:.1f} Hz | {stats['jitter_us']} µs | {stats['gap_us']} µs"
        print(f"| {run} | {figures} | {stats['taken']} | {stats['missed']} |")
        assert 990 < stats["rate_hz"] < 1010
        assert stats["jitter_us"] < 500
