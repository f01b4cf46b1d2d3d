# A sensor of the node: its driver, the sampler that reads it, the window that its stages look at.
#
# A sensor that is silent takes nothing down: it is reported, and opened again after 1, 2, 4 ... 60 seconds.

import time
from array import array

from micropython import const

from midge import drivers
from midge.errors import MidgeError
from midge.sampling import Sampler
from midge.schedule import Batch, ChangeGate

_FIRST_RETRY_MS = const(1000)
_LAST_RETRY_MS = const(60000)
_PATIENCE_MS = const(500)  # a sensor that failed this long, and at three samples, is silent


class Sensor:
    # config: the sensor's part of node.json. threshold: of the change gate, None where every window is handled.
    # report(name, error): tells the world that the sensor has failed, or with None that it works again.
    #
    # After `poll` has returned True, `window` (int16, interleaved by channel) holds `count` samples, those from `fresh`
    # on never seen before; value = count * scale + offset. `index` is the number of the first fresh one since start.

    def __init__(self, config, threshold, clock, report):
        self.id = config["id"]
        self.channels = len(config["channels"])
        self.names = [self.id + "." + channel for channel in config["channels"]]
        self.unit = config["unit"]
        self.rate_hz = config["rate_hz"]
        # Ring and window are made once, while the heap still has room for them in one piece.
        self.sampler = Sampler(self, self.rate_hz, config["capacity"])
        self.window = array("h", bytes(2 * config["size"] * self.channels))
        self.count = self.fresh = self.index = 0
        self.scale, self.offset = 1.0, 0.0
        self.newest_ms = 0  # when the last sample of the window was taken
        self.gates = [ChangeGate(threshold) for _ in range(self.channels)] if threshold is not None else ()
        self._shared = config["size"] - (config["hop"] or config["size"])  # samples of a window seen in the last one
        self._config = config
        self._clock = clock
        self._report = report
        self._wanted = False  # whether the node is to sample
        self._batch = None  # None while the sensor is closed
        self._failed = False
        self._delay_ms = _FIRST_RETRY_MS
        self._retry_at = 0
        self._still = 0  # samples in a row that equal the one before
        self._last = array("h", bytes(2 * self.channels))

    def start(self):
        self._wanted = True
        self._retry_at = time.ticks_ms()

    def stop(self):
        self._wanted = False
        self._close()

    def set_rate_hz(self, rate_hz):
        # Above 0, up to 1000 Hz, at once. Raises ValueError.
        self.sampler.set_rate(rate_hz)
        self.rate_hz = rate_hz

    def read_into(self, ring, offset):
        # What the sampler reads before there is a driver.
        raise OSError(19)  # ENODEV

    def poll(self, now):
        # now: ticks_ms. True when a window has closed that is worth a look.
        if self._batch is None:
            if self._wanted and time.ticks_diff(now, self._retry_at) >= 0:
                self._open(now)
            return False
        self.sampler.poll()
        closed = self._batch.poll(now)
        if not closed:
            self._check(now)
            return False
        self.newest_ms = self._clock.now_ms() - self.sampler.lag_ms()
        self.index += self.count - self.fresh
        self.fresh, self.count = min(self.count, self._shared), closed
        self._watch_for_standstill()
        return not self.gates or self._moved()

    def time_of(self, i):
        # When sample i of the window was taken, in milliseconds.
        return self.newest_ms - int((self.count - 1 - i) * 1000 / self.rate_hz)

    def state(self):
        if not self._wanted:
            return "stopped"
        if self._batch:
            return "running"
        return "silent" if self._failed else "starting"

    def _open(self, now):
        config = self._config
        try:
            driver = drivers.open(config["driver"], config["config"])
            self.scale, self.offset = driver.scale, driver.offset
            self.sampler.attach(driver)
        except Exception as error:  # the driver is anyone's code
            self._fail(error, now)
            return
        while self.sampler.read_into(self.window, config["size"]):
            pass  # left over from before the gap
        self._batch = Batch(self.sampler, self.window, config["size"], config["hop"], config["max_ms"])
        self.index += self.count - self.fresh
        self.count = self.fresh = 0
        self._seen_errors, self._seen_taken = self.sampler.errors, self.sampler.taken
        self._checked = now
        self._failed = False
        self.sampler.start()

    def _close(self):
        self.sampler.stop()
        self._batch = None

    def _fail(self, error, now):
        self._close()
        self._failed = True
        self._retry_at = time.ticks_add(now, self._delay_ms)
        self._delay_ms = min(2 * self._delay_ms, _LAST_RETRY_MS)
        self._report(self.id, error)

    def _check(self, now):
        # Single failures are only counted, by the sampler; nothing but failures is a silent sensor.
        sampler = self.sampler
        if time.ticks_diff(now, self._checked) < max(_PATIENCE_MS, int(3000 / self.rate_hz)):
            return
        self._checked = now
        silent = sampler.taken == self._seen_taken and sampler.errors != self._seen_errors
        if sampler.taken != self._seen_taken and not self._still_too_long():
            self._delay_ms = _FIRST_RETRY_MS
            self._report(self.id, None)
        self._seen_taken, self._seen_errors = sampler.taken, sampler.errors
        if silent:
            what = "no sample for %d ms (errno %s)" % (_PATIENCE_MS, sampler.last_error)
            self._fail(MidgeError("sensor.no_answer", what), now)

    def _moved(self):
        moved = False
        position = self.fresh * self.channels
        for _ in range(self.fresh, self.count):
            for gate in self.gates:
                if gate.passes(self.window[position] * self.scale + self.offset):
                    moved = True
                position += 1
        return moved

    def _still_too_long(self):
        return 0 < self._config["stuck_after"] <= self._still

    def _watch_for_standstill(self):
        # Real signals have noise: a sensor whose counts never change has lost its supply, its bus or its mind.
        window, last, channels = self.window, self._last, self.channels
        for position in range(self.count * channels - 1, self.fresh * channels - 1, -1):
            if window[position] != last[position % channels]:
                self._still = 0
                for channel in range(channels):
                    last[channel] = window[(self.count - 1) * channels + channel]
                return
        before = self._still_too_long()
        self._still = min(self._still + self.count - self.fresh, 0x0FFFFFFF)
        if self._still_too_long() and not before:
            self._report(self.id, MidgeError("sensor.stuck", "%d samples were all the same" % self._still))
