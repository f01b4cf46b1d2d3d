# Sampling: a timer takes samples into a ring, the program reads them out when it gets to it.
#
# `_tick` may run as a hard interrupt, with the heap locked, at up to 1 kHz: it allocates nothing, and no number in it
# leaves the small ints of a 32-bit board (below 2**30). One side writes, one side reads, each owns one index: no lock.

from array import array
from time import ticks_add, ticks_diff, ticks_ms, ticks_us

import micropython
from micropython import const

_MOST = const(0x3FFFFFFF)  # the largest small int of a 32-bit board: counters go back to 0 after it
_HALF = const(0x0FFFFFFF)  # sums are halved when one passes this; no interval counts for more
_SECOND = const(1000000)
_REST_US = const(64000)  # for so long at most a sensor that fails again and again is left alone

if hasattr(micropython, "alloc_emergency_exception_buf"):  # not on the unix port
    micropython.alloc_emergency_exception_buf(100)  # else an OSError that is raised in an interrupt has no errno


class Sampler:
    # driver: `.channels` and `.read_into(ring, offset)`, which puts one int16 count a channel at `offset` of an
    #     array('h'), without allocating; an exception of it is counted and leaves no sample.
    # capacity: samples (all channels at one instant) that wait at most. A full ring keeps the old samples and drops
    #     the new one, counted in `overruns`: what the reader has begun to read never changes under its hands.
    # timer: a class like machine.Timer; None: the board's; False: none, `poll` takes the samples.
    #
    # Counters, all of them back to 0 when they would pass 2**30 - 1: a tick is either `taken` (a sample stored), an
    # `overruns` (ring full) or an `errors` (the driver failed, or is left alone after that; `last_error` keeps the
    # errno, or 0 for another exception); `missed` are the ticks that never came.

    def __init__(self, driver, rate_hz, capacity=256, timer=None):
        self.channels = driver.channels
        self.taken = self.overruns = self.missed = self.errors = 0
        self.last_error = None
        self._read = driver.read_into
        self._slots = capacity + 1  # one stays free, so that full and empty look different
        self._ring = array("h", bytes(2 * self._slots * self.channels))
        self._head = 0  # slot of the next sample to store: _tick's alone
        self._tail = 0  # slot of the next sample to read: read_into's alone
        self._timer_class = _board_timer() if timer is None else timer
        self._timer = None
        self._callback = self._tick  # bound once: naming a bound method allocates
        self._running = False
        self._tick_us = self._period = 0
        self.set_rate(rate_hz)

    def attach(self, driver):
        # Reads another driver of as many channels from now on: the same sensor, opened anew.
        self._read = driver.read_into

    def set_rate(self, rate_hz):
        # Takes effect at once; samples that wait stay, statistics start afresh.
        if not 0.00001 <= rate_hz <= 1000:
            raise ValueError("rate_hz must lie in 0.00001..1000")
        # ticks_us wraps after 18 minutes on a board: slow sampling is measured in milliseconds.
        tick_us = 1 if rate_hz >= 1 else 1000
        self._set_period(int(_SECOND // tick_us / rate_hz + 0.5), tick_us)

    def _set_period(self, ticks, tick_us):
        if (ticks, tick_us) == (self._period, self._tick_us):
            return
        running = self._running
        self.stop()
        self._period = ticks
        self._tick_us = tick_us
        self._ticks = ticks_us if tick_us == 1 else ticks_ms
        self.rate_hz = _SECOND / (ticks * tick_us)
        self._longest_rest = _REST_US // (ticks * tick_us)
        self._restart_statistics()
        if running:
            self.start()

    def start(self):
        if self._running:
            return
        self._restart_statistics()
        self._failures = self._rest = 0  # failures in a row; ticks until the next try
        self._running = True
        if self._timer_class:
            self._timer = _start_timer(self._timer_class, self._period * self._tick_us, self._callback)
        else:
            self._due = ticks_add(self._last, self._period)

    def stop(self):
        self._running = False
        if self._timer is not None:
            self._timer.deinit()
            self._timer = None

    def poll(self):
        # Without a timer: takes the sample that is due, if one is. Late by whole periods, it takes one sample, not a
        # burst of equal ones; the rest count as missed.
        if self._timer is not None or not self._running:
            return
        late = ticks_diff(self._ticks(), self._due)
        if late >= 0:
            self._due = ticks_add(self._due, (late // self._period + 1) * self._period)
            self._tick(None)

    def available(self):
        waiting = self._head - self._tail
        return waiting if waiting >= 0 else waiting + self._slots

    def read_into(self, out, n):
        # Moves up to n samples to the start of `out` (int16, interleaved by channel); how many it moved.
        n = min(n, self.available())
        ring, channels, tail = self._ring, self.channels, self._tail
        at, end = tail * channels, self._slots * channels
        for i in range(n * channels):
            out[i] = ring[at]
            at += 1
            if at == end:
                at = 0
        self._tail = (tail + n) % self._slots
        return n

    def lag_ms(self):
        # How long ago the newest sample that was read was taken, in whole milliseconds.
        age = ticks_diff(self._ticks(), self._last)
        return (age + self.available() * self._period) * self._tick_us // 1000

    def stats(self):
        # Since start or a change of rate: the rate of the ticks (None before the first), their mean distance from an
        # even beat, the longest gap between two of them; and the counters.
        ticked = self._intervals > 0 and self._span > 0
        return {
            "rate_hz": self._intervals / self._span * (_SECOND // self._tick_us) if ticked else None,
            "jitter_us": self._deviation * self._tick_us // self._intervals if ticked else None,
            "gap_us": self._longest * self._tick_us,
            "taken": self.taken,
            "overruns": self.overruns,
            "missed": self.missed,
            "errors": self.errors,
        }

    def _restart_statistics(self):
        self._last = self._ticks()  # the first interval is the one from here to the first tick
        self._span = self._intervals = self._deviation = self._longest = self._late = 0

    def _tick(self, _):
        self._measure()
        if self._rest:
            self._rest -= 1
            self.errors = _plus(self.errors, 1)
            return
        head = self._head
        following = head + 1
        if following == self._slots:
            following = 0
        if following == self._tail:
            self.overruns = _plus(self.overruns, 1)
            return
        try:
            self._read(self._ring, head * self.channels)
        except Exception as error:  # whatever a driver does, the timer lives
            self._failed(error)
            return
        self._failures = 0
        self._head = following
        self.taken = _plus(self.taken, 1)

    def _failed(self, error):
        self.last_error = isinstance(error, OSError) and error.errno or 0
        self.errors = _plus(self.errors, 1)
        # A bus that hangs costs its whole time-out at every try. In an interrupt at 1 kHz nothing else would run any
        # more, so it is tried again at once, then after 2, 6, 14 ... ticks.
        self._failures = min(self._failures + 1, 6)
        self._rest = min((1 << self._failures) - 2, self._longest_rest)

    def _measure(self):
        now = self._ticks()
        interval = ticks_diff(now, self._last)
        self._last = now
        if interval > _HALF:
            interval = _HALF
        if interval > self._longest:
            self._longest = interval
        # How late this tick is, less than a period: whole periods count as missed, until a tick that was only held up
        # comes after all.
        period = self._period
        deviation = interval - period
        late = self._late + deviation
        if late >= period:
            self.missed = _plus(self.missed, late // period)
            late %= period
        elif late <= -period:
            late += period
            if self.missed:
                self.missed -= 1
        self._late = late
        if deviation < 0:
            deviation = -deviation
        # Both sums are halved, with their count, long before they leave the small ints: they forget, never overflow.
        span = self._span + interval
        deviation += self._deviation
        intervals = self._intervals + 1
        if span > _HALF or deviation > _HALF:
            span >>= 1
            deviation >>= 1
            intervals >>= 1
        self._span = span
        self._deviation = deviation
        self._intervals = intervals


def _plus(count, more):
    return count + more if count <= _MOST - more else 0


def _board_timer():
    try:
        from machine import Timer
    except ImportError:
        return False
    return Timer


def _start_timer(timer_class, period_us, callback):
    # A hard interrupt where the port offers one: garbage collection and long native calls then delay no sample.
    # rp2 takes id -1 and `hard`; ESP32 knows neither, its timers have numbers.
    pace = {"freq": _SECOND / period_us} if period_us % 1000 else {"period": period_us // 1000}
    for identity, options in ((-1, {"hard": True}), (-1, {}), (0, {})):
        try:
            return timer_class(identity, mode=timer_class.PERIODIC, callback=callback, **pace, **options)
        except (TypeError, ValueError) as error:
            refusal = error
    raise refusal
