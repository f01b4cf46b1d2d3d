# midge: device
# The sampler with a clock and timers that the test turns by hand; the last test uses the board's own timer.
import time
from array import array

from midge.sampling import Sampler

_MOST = 0x3FFFFFFF  # the largest small int of a 32-bit board
_HALF = 0x0FFFFFFF


class Numbers:
    # Sample k is (k, -k); fails where it is told to.
    channels = 2

    def __init__(self):
        self.k = 0
        self.tries = 0
        self.failure = None

    def read_into(self, ring, offset):
        self.tries += 1
        if self.failure:
            raise self.failure
        ring[offset] = self.k
        ring[offset + 1] = -self.k
        self.k += 1


class Ticks:
    def __init__(self, now=0):
        self.now = now

    def __call__(self):
        return self.now

    def pass_by(self, ticks):
        self.now = time.ticks_add(self.now, ticks)


class FakeTimer:
    # Refuses, like a port, an identity or an option that it does not have.
    PERIODIC = 1
    identities = (-1,)
    knows_hard = True
    made = []

    def __init__(self, identity, **options):
        if identity not in self.identities:
            raise ValueError("no such timer")
        if "hard" in options and not self.knows_hard:
            raise TypeError("extra keyword arguments given")
        self.identity, self.options, self.running = identity, options, True
        self.made.append(self)

    def deinit(self):
        self.running = False


class Esp32Timer(FakeTimer):
    identities = (0, 1, 2, 3)
    knows_hard = False


def make(rate_hz=1000, capacity=8, now=0):
    driver, ticks = Numbers(), Ticks(now)
    sampler = Sampler(driver, rate_hz, capacity, timer=False)
    sampler._ticks = ticks
    sampler.start()
    return sampler, driver, ticks


def tick(sampler, ticks, interval):
    ticks.pass_by(interval)
    sampler._tick(None)


def read(sampler, n):
    out = array("h", bytes(4 * n))
    n = sampler.read_into(out, n)
    assert all(out[2 * i] == -out[2 * i + 1] for i in range(n))
    return [out[2 * i] for i in range(n)]


def refused(call, *args):
    try:
        call(*args)
    except ValueError:
        return True
    return False


def test_an_even_beat():
    sampler, _, ticks = make()
    for _ in range(5):
        tick(sampler, ticks, 1000)
    stats = sampler.stats()
    assert abs(stats.pop("rate_hz") - 1000) < 0.01
    assert stats == {"jitter_us": 0, "gap_us": 1000, "taken": 5, "overruns": 0, "missed": 0, "errors": 0}, stats


def test_before_the_first_tick_there_is_no_rate():
    sampler, _, _ = make()
    assert sampler.stats()["rate_hz"] is None
    assert sampler.stats()["jitter_us"] is None


def test_jitter_is_the_mean_distance_from_the_beat():
    sampler, _, ticks = make()
    for interval in (900, 1100, 1000, 800, 1200):
        tick(sampler, ticks, interval)
    assert sampler.stats()["jitter_us"] == 600 // 5
    assert sampler.stats()["missed"] == 0


def test_a_gap_is_measured_and_its_ticks_are_missed():
    sampler, _, ticks = make()
    for interval in (1000, 5200, 1000, 1499, 1501, 1000):
        tick(sampler, ticks, interval)
    stats = sampler.stats()
    assert stats["gap_us"] == 5200
    assert stats["missed"] == 4 + 1, stats


def test_a_late_tick_is_not_a_missed_one():
    sampler, _, ticks = make()
    for interval in (1900, 100, 1600, 1300, 100, 1000):
        tick(sampler, ticks, interval)
    assert sampler.missed == 0
    for interval in (2900, 100, 1000):  # one is missing, the next late
        tick(sampler, ticks, interval)
    assert sampler.missed == 1


def test_ticks_that_were_held_up_are_not_missed():
    sampler, _, ticks = make()
    steps = ((4000, 3), (10, 3), (20, 2), (970, 1), (1000, 1), (5000, 5), (1100, 5), (0, 5), (0, 4))
    for interval, missed in steps:
        tick(sampler, ticks, interval)
        assert sampler.missed == missed, (interval, sampler.missed)
    for _ in range(8):  # more than were ever due: a timer that runs fast
        tick(sampler, ticks, 0)
    assert sampler.missed == 0


def test_time_wraps():
    sampler, _, ticks = make(now=time.ticks_add(0, -2500))
    for _ in range(5):
        tick(sampler, ticks, 1000)
    assert sampler.stats()["gap_us"] == 1000
    assert sampler.stats()["missed"] == 0


def test_a_full_ring_keeps_the_old_samples():
    sampler, driver, ticks = make(capacity=4)
    for _ in range(6):
        tick(sampler, ticks, 1000)
    assert sampler.available() == 4
    assert sampler.overruns == 2
    assert read(sampler, 3) == [0, 1, 2]
    assert driver.k == 4  # what is dropped is not even read
    tick(sampler, ticks, 1000)
    assert read(sampler, 9) == [3, 4]
    assert sampler.available() == 0


def test_order_holds_while_the_ring_turns():
    sampler, _, ticks = make(capacity=5)
    found = []
    for turn in range(12):
        for _ in range(turn % 4):
            tick(sampler, ticks, 1000)
        found += read(sampler, 3)
    found += read(sampler, 5)
    assert found == list(range(18)), found
    assert sampler.overruns == 0


def test_errors_are_counted_and_leave_no_sample():
    sampler, driver, ticks = make()
    tick(sampler, ticks, 1000)
    driver.failure = OSError(5)
    tick(sampler, ticks, 1000)
    assert (sampler.errors, sampler.last_error) == (1, 5)
    driver.failure = None
    tick(sampler, ticks, 1000)
    driver.failure = ValueError("no errno")
    tick(sampler, ticks, 1000)
    assert (sampler.errors, sampler.last_error) == (2, 0)
    driver.failure = None
    tick(sampler, ticks, 1000)
    assert read(sampler, 8) == [0, 1, 2]
    assert (sampler.taken, sampler.missed) == (3, 0)


def test_a_failing_sensor_is_tried_ever_more_seldom():
    for rate_hz, tried in ((1000, [0, 1, 4, 11, 26, 57, 120, 183]), (100, [0, 1, 4, 11, 18]), (10, [0, 1, 2, 3, 4])):
        sampler, driver, ticks = make(rate_hz)
        driver.failure = OSError(5)
        found = []
        for i in range(tried[-1] + 1):
            before = driver.tries
            tick(sampler, ticks, 1000000 // rate_hz)
            if driver.tries != before:
                found.append(i)
        assert found == tried, (rate_hz, found)
        assert (sampler.errors, sampler.missed) == (tried[-1] + 1, 0)
        driver.failure = None
        while not sampler.taken:
            tick(sampler, ticks, 1000000 // rate_hz)
        tick(sampler, ticks, 1000000 // rate_hz)
        assert sampler.taken == 2  # it works: every tick counts again


def test_a_new_start_tries_at_once():
    sampler, driver, _ = make()
    driver.failure = OSError(5)
    sampler._tick(None)
    sampler._tick(None)
    driver.failure = None
    sampler.stop()
    sampler.start()
    sampler._tick(None)
    assert sampler.taken == 1


def test_counters_go_back_to_zero_at_the_edge_of_small_ints():
    import micropython

    sampler, driver, _ = make(capacity=2)
    silent = OSError(5)
    sampler._tick(None)
    sampler.taken = sampler.overruns = sampler.errors = _MOST
    take = sampler._tick
    micropython.heap_lock()
    try:
        take(None)
        take(None)
        take(None)
    finally:
        micropython.heap_unlock()
    assert (sampler.taken, sampler.overruns) == (0, 1)
    read(sampler, 2)
    driver.failure = silent
    sampler._tick(None)
    assert sampler.errors == 0


def test_sums_are_halved_before_they_overflow():
    import micropython

    sampler, _, ticks = make(0.01)  # a sample every 100 000 ms
    assert sampler._tick_us == 1000
    ticks.now = time.ticks_add(ticks.now, 100000)
    sampler._span, sampler._intervals = _HALF - 50000, 2684
    take = sampler._tick
    micropython.heap_lock()
    try:
        take(None)
    finally:
        micropython.heap_unlock()
    assert sampler._intervals == 1342
    assert abs(sampler.stats()["rate_hz"] - 0.01) < 0.00001
    # A pause of days: neither the interval nor what was missed leaves the small ints.
    ticks.now = time.ticks_add(ticks.now, _HALF + 12345)
    sampler._deviation = _HALF
    micropython.heap_lock()
    try:
        take(None)
        ticks.now = time.ticks_add(ticks.now, 100000)
        take(None)
    finally:
        micropython.heap_unlock()
    assert sampler._span <= _HALF + 1 and sampler._deviation <= _HALF + 1
    assert sampler.missed == _HALF // 100000 - 1, sampler.missed


def test_without_a_timer_poll_takes_what_is_due():
    sampler, _, ticks = make()
    sampler.poll()
    ticks.pass_by(999)
    sampler.poll()
    assert sampler.taken == 0
    ticks.pass_by(1)
    sampler.poll()
    sampler.poll()
    assert sampler.taken == 1
    ticks.pass_by(7300)  # late: one sample, not seven equal ones
    sampler.poll()
    sampler.poll()
    assert sampler.taken == 2
    ticks.pass_by(700)  # back on the beat
    sampler.poll()
    assert (sampler.taken, sampler.missed) == (3, 6)
    sampler.stop()
    ticks.pass_by(5000)
    sampler.poll()
    assert sampler.taken == 3


def test_lag_is_the_age_of_what_was_read():
    sampler, _, ticks = make(capacity=8)
    for _ in range(5):
        tick(sampler, ticks, 1000)
    ticks.pass_by(500)
    read(sampler, 2)
    assert sampler.lag_ms() == 3
    read(sampler, 3)
    assert sampler.lag_ms() == 0


def test_a_hard_timer_where_there_is_one():
    FakeTimer.made.clear()
    sampler = Sampler(Numbers(), 1000, 8, timer=FakeTimer)
    sampler.start()
    sampler.start()
    (timer,) = FakeTimer.made
    assert timer.options["hard"] and timer.options["period"] == 1 and "freq" not in timer.options
    timer.options["callback"](timer)
    assert sampler.taken == 1
    sampler.stop()
    assert not timer.running


def test_a_numbered_timer_where_there_is_no_other():
    Esp32Timer.made.clear()
    sampler = Sampler(Numbers(), 400, 8, timer=Esp32Timer)
    sampler.start()
    (timer,) = Esp32Timer.made
    assert timer.identity == 0 and "hard" not in timer.options
    assert abs(timer.options["freq"] - 400) < 0.01 and "period" not in timer.options


def test_a_new_rate_starts_a_new_timer_and_the_same_does_not():
    FakeTimer.made.clear()
    sampler = Sampler(Numbers(), 50, 8, timer=FakeTimer)
    sampler.start()
    sampler.set_rate(50)
    sampler.set_rate(0.5)
    assert [timer.running for timer in FakeTimer.made] == [False, True]
    assert [timer.options["period"] for timer in FakeTimer.made] == [20, 2000]
    sampler.stop()
    sampler.set_rate(10)
    assert len(FakeTimer.made) == 2
    assert abs(sampler.rate_hz - 10) < 0.001


def test_rates_that_make_no_sense_are_refused():
    sampler, _, _ = make()
    for rate_hz in (0, -1, 1001, float("nan"), float("inf")):
        assert refused(sampler.set_rate, rate_hz), rate_hz
    assert sampler.rate_hz == 1000


def test_the_boards_own_timer():
    sampler = Sampler(Numbers(), 200, 64)
    sampler.start()
    start = time.ticks_ms()
    while sampler.taken < 12:
        assert time.ticks_diff(time.ticks_ms(), start) < 5000, sampler.stats()
        time.sleep_ms(1)
    sampler.stop()
    assert (sampler.errors, sampler.overruns) == (0, 0), sampler.last_error
    assert read(sampler, 12) == list(range(12))
    taken = sampler.taken
    time.sleep_ms(20)
    assert sampler.taken == taken
