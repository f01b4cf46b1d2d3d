# midge: device
# The sampling path allocates nothing: ticks with the heap locked, numbers in small ints of a 32-bit board.
import micropython
from midge.sampling import Sampler


class Counting:
    channels = 3
    scale = 1.0
    unit = "1"

    def __init__(self):
        self.n = 0

    def read_into(self, ring, offset):
        n = self.n = (self.n + 1) & 0x7FFF
        ring[offset] = n
        ring[offset + 1] = -n
        ring[offset + 2] = 7


def ticks_with_the_heap_locked(n):
    # (taken, overruns) after fifty ticks and n more: both ways through a tick, once the ring is full.
    sampler = Sampler(Counting(), 1000, 256, timer=False)
    sampler.start()
    tick = sampler._tick
    for _ in range(50):
        tick(None)
    micropython.heap_lock()
    try:
        for _ in range(n):
            tick(None)
    finally:
        micropython.heap_unlock()
    return sampler.taken, sampler.overruns


def test_a_thousand_ticks_with_the_heap_locked():
    # Ten thousand on the stock image: tests/bench/test_emulated_sampling.py, which takes a while.
    assert ticks_with_the_heap_locked(1000) == (256, 1050 - 256)


def test_reading_with_the_heap_locked():
    from array import array

    sampler = Sampler(Counting(), 1000, 64, timer=False)
    sampler.start()
    out = array("h", bytes(2 * 3 * 32))
    read = sampler.read_into
    tick = sampler._tick
    got = 0
    micropython.heap_lock()
    try:
        for _ in range(40):
            for _ in range(20):
                tick(None)
            got += read(out, 32)
    finally:
        micropython.heap_unlock()
    assert got == 800, got
    assert out[0] == -out[1] and out[2] == 7
