# midge: device
# The clock and the node's own health.
from midge.clock import Clock
from midge.errors import MidgeError, describe
from midge.monitor import Monitor, largest_block, reset_cause


class Time:
    # A board's time: `seconds` since `epoch` (a year), ticks as small as a board's.
    def __init__(self, epoch, seconds, ticks=0):
        self.epoch, self.seconds, self.ticks = epoch, seconds, ticks

    def gmtime(self, seconds=None):
        seconds = self.seconds if seconds is None else seconds
        return (self.epoch + seconds // 31557600,)

    def time_ns(self):
        return self.seconds * 1000000000 + 123999999

    def ticks_ms(self):
        return self.ticks & 0x3FFFFFFF


def test_both_epochs_give_unix_time():
    for epoch, seconds in ((1970, 1795508367), (2000, 1795508367 - 946684800)):
        clock = Clock(Time(epoch, seconds))
        assert clock.is_set()
        assert clock.now_ms() == 1795508367123


def test_a_clock_that_is_not_set_counts_from_boot():
    for epoch, seconds in ((1970, 1609459200), (2000, 12)):  # a Pico wakes in 2021, an ESP32 in 2000
        source = Time(epoch, seconds, 5000)
        clock = Clock(source)
        source.ticks += 250
        assert not clock.is_set()
        assert clock.now_ms() == 250
        source.seconds += 10 * 31557600
        assert clock.is_set() == (epoch == 1970)


def test_uptime_goes_on_where_ticks_wrap():
    source = Time(2000, 0, 0x3FFFFFFF - 99)
    clock = Clock(source)
    for _ in range(3):
        source.ticks += 0x20000000
        clock.uptime_ms()
    assert clock.uptime_ms() == 3 * 0x20000000


def values(records):
    return {r["n"]: r.get("v", r.get("vs", r.get("vb"))) for r in records}


def test_latencies():
    monitor = Monitor(Clock())
    assert monitor.latency_us() is None
    monitor.inferred(1500)
    assert monitor.latency_us() == (1500, 1500)
    for us in range(1, 201):
        monitor.inferred(us * 1000)
    assert monitor.inferences == 201
    mean, p95 = monitor.latency_us()  # of the last 64: 137 .. 200 ms
    assert (mean, p95) == (168500, 197000), (mean, p95)
    found = values(monitor.records())
    assert abs(found["sys.latency_ms"] - 168.5) < 1e-3 and abs(found["sys.latency_p95_ms"] - 197) < 1e-3
    assert found["sys.inferences"] == 201


def test_counting_an_inference_allocates_nothing():
    import micropython

    monitor = Monitor(Clock())
    count = monitor.inferred
    micropython.heap_lock()
    try:
        for _ in range(100):
            count(1234)
    finally:
        micropython.heap_unlock()
    assert monitor.latency_us() == (1234, 1234)


def test_errors_by_code():
    monitor = Monitor(Clock())
    for code in ("sensor.no_answer", "model.too_big", "sensor.no_answer"):
        monitor.failed(code)
    found = values(monitor.records())
    assert found["sys.errors"] == 3
    assert found["sys.errors.sensor.no_answer"] == 2 and found["sys.errors.model.too_big"] == 1


def test_the_longest_collection():
    monitor = Monitor(Clock())
    assert values(monitor.records())["sys.collect_ms"] == 0
    monitor.collect()
    assert 0 < values(monitor.records())["sys.collect_ms"] < 1000


class Stats:
    def __init__(self, ticked):
        self.ticked = ticked

    def stats(self):
        return {
            "rate_hz": 49.5 if self.ticked else None,
            "jitter_us": 120 if self.ticked else None,
            "gap_us": 21500,
            "taken": 7,
            "overruns": 1,
            "missed": 2,
            "errors": 3,
        }


def test_samplers_by_sensor():
    found = values(Monitor(Clock(), {"accel": Stats(True), "temp": Stats(False)}).records())
    assert found["sys.accel.rate"] == 49.5 and abs(found["sys.accel.jitter_ms"] - 0.12) < 1e-6
    assert (found["sys.temp.gap_ms"], found["sys.temp.missed"], found["sys.temp.errors"]) == (21.5, 2, 3)
    assert "sys.temp.rate" not in found


def test_what_is_said_at_start():
    found = values(Monitor(Clock()).start_records())
    assert found["sys.reset"] == reset_cause() != "unknown"
    assert found["sys.clock_set"] in (True, False)
    assert found["sys.block"] > 10000


def test_the_largest_block_can_be_allocated():
    import gc

    size = largest_block()
    assert 0 < size <= gc.mem_free()
    held = bytearray(size)
    assert len(held) == size
    held = None
    gc.collect()


def test_any_exception_has_a_code():
    assert describe(KeyError("x"))["code"] == "board.exception"
    assert describe(OSError(5))["what"].startswith("OSError")
    error = MidgeError("sensor.stuck", "for long")
    assert str(error) == "sensor.stuck: for long"
