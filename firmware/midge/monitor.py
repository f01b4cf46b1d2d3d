# How the node itself is doing: memory, inference, errors, its last reset; as records named `sys.*`.

import gc
import time
from array import array

from micropython import const

from midge.records import record

_RECENT = const(64)  # inferences that mean and p95 look back on
_LONGEST = const(0x0FFFFFFF)  # microseconds that a latency counts for at most
_RESETS = (
    ("PWRON_RESET", "power on"),
    ("HARD_RESET", "hard"),
    ("WDT_RESET", "watchdog"),
    ("DEEPSLEEP_RESET", "deep sleep"),
    ("SOFT_RESET", "soft"),
)


class Monitor:
    # clock: a Clock. samplers: a dict, by sensor; what they count is reported as `sys.<sensor>.<counter>`.

    def __init__(self, clock, samplers=None):
        self.inferences = 0
        self.errors = {}  # code: how often
        self.longest_collect_us = 0
        self._clock = clock
        self._samplers = {} if samplers is None else samplers
        self._latencies = array("i", bytes(4 * _RECENT))  # microseconds, the newest overwrites the oldest

    def inferred(self, us):
        # Counts an inference that took so long. Allocates nothing.
        self._latencies[self.inferences % _RECENT] = min(us, _LONGEST)
        self.inferences += 1

    def failed(self, code):
        self.errors[code] = self.errors.get(code, 0) + 1

    def collect(self):
        # gc.collect(), and how long it held everything up that is no hard interrupt.
        start = time.ticks_us()
        gc.collect()
        self.longest_collect_us = max(self.longest_collect_us, time.ticks_diff(time.ticks_us(), start))

    def latency_us(self):
        # (mean, 95th percentile by nearest rank) of the last inferences, in whole microseconds; None before the first.
        count = min(self.inferences, _RECENT)
        if count == 0:
            return None
        ordered = sorted(self._latencies[:count])
        return sum(ordered) // count, ordered[(count * 95 + 99) // 100 - 1]

    def start_records(self):
        # What is worth saying once, at start-up. The probe for the largest block is slow: here, not in records().
        t = self._clock.now_ms()
        return [
            record("sys.reset", reset_cause(), t),
            record("sys.clock_set", self._clock.is_set(), t),
            record("sys.block", largest_block(), t, "B"),
        ]

    def records(self):
        t = self._clock.now_ms()
        found = [
            record("sys.uptime", self._clock.uptime_ms() // 1000, t, "s"),
            record("sys.heap", gc.mem_free(), t, "B"),
            record("sys.collect_ms", self.longest_collect_us / 1000, t, "ms"),
            record("sys.inferences", self.inferences, t),
        ]
        latency = self.latency_us()
        if latency:
            found.append(record("sys.latency_ms", latency[0] / 1000, t, "ms"))
            found.append(record("sys.latency_p95_ms", latency[1] / 1000, t, "ms"))
        found.append(record("sys.errors", sum(self.errors.values()), t))
        for code in sorted(self.errors):
            found.append(record("sys.errors." + code, self.errors[code], t))
        for sensor in sorted(self._samplers):
            found.extend(_sampling("sys.%s." % sensor, self._samplers[sensor].stats(), t))
        return found


def update_records(update, t):
    # Which update the node is, and which one failed before it.
    found = [record("sys.update", update.state, t), record("sys.update.version", update.version, t)]
    if update.why:
        found.append(record("sys.update.failed", update.failed, t))
        found.append(record("sys.update.why", "%s: %s" % (update.why["code"], update.why["what"]), t))
    return found


def largest_block():
    # Bytes of the largest allocation that succeeds, to within 256: by trying. micropython.mem_info knows the number
    # too, but prints it into the link's line. Every failed try collects garbage, so this takes a while; it never asks
    # for more than is free, because an ESP32 heap would grow at the cost of Wi-Fi's memory.
    gc.collect()
    fits, too_big = 0, gc.mem_free() + 1
    while too_big - fits > 256:
        size = (fits + too_big) // 2
        try:
            bytearray(size)
            fits = size
        except MemoryError:
            too_big = size
        gc.collect()
    return fits


def reset_cause():
    # Why the board started, in words; "unknown" on a port that cannot tell.
    import machine

    if hasattr(machine, "reset_cause"):
        cause = machine.reset_cause()
        for constant, words in _RESETS:
            if getattr(machine, constant, None) == cause:
                return words
    return "unknown"


def _sampling(prefix, stats, t):
    found = [record(prefix + key, stats[key], t) for key in ("taken", "overruns", "missed", "errors")]
    found.append(record(prefix + "gap_ms", stats["gap_us"] / 1000, t, "ms"))
    if stats["rate_hz"] is not None:
        found.append(record(prefix + "rate", stats["rate_hz"], t, "Hz"))
        found.append(record(prefix + "jitter_ms", stats["jitter_us"] / 1000, t, "ms"))
    return found
