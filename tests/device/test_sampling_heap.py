# midge: device
# The sampling path allocates nothing: 10 000 ticks with the heap locked, numbers in small ints of a 32-bit board.
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


def test_ten_thousand_ticks_with_the_heap_locked():
    sampler = Sampler(Counting(), 1000, 256, timer=False)
    sampler.start()
    tick = sampler._tick
    for _ in range(50):  # fills the ring: both branches are taken below
        tick(None)
    micropython.heap_lock()
    try:
        for _ in range(10000):
            tick(None)
    finally:
        micropython.heap_unlock()
    assert sampler.taken == 256, sampler.taken
    assert sampler.overruns == 10050 - 256, sampler.overruns


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
