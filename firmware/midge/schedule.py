# When to look and when to speak: windows of samples, a gate for changes, an interval that tightens on trouble.
# Pure: no imports; times are handed in as ticks in milliseconds.

_WRAP = 0x3FFFFFFF  # ticks_ms counts modulo 2**30 on boards: `& _WRAP` makes every difference of two ticks right


class Batch:
    # Collects samples from `source` (a Sampler) into windows of `size` samples that start `hop` apart (default: size);
    # with max_ms, a window also closes, shorter, that long after the last one closed.
    # `buf` holds the window: int16 counts, interleaved by channel.

    def __init__(self, source, buf, size, hop=0, max_ms=0):
        if not 0 <= hop <= size:
            raise ValueError("hop must lie in 1..size")
        self.buf = buf
        self.size = size
        self._source = source
        self._view = memoryview(buf)
        self._keep = size - (hop or size)  # samples that two neighbouring windows share
        self._held = 0
        self._kept = 0  # of these, how many the last window had too
        self._closed = False  # the window in `buf` was handed out: make room before the next sample
        self._max_ms = max_ms
        self._since = None

    def poll(self, now_ms=0):
        # Samples in the window that has just closed, else 0. `buf` is then the caller's until the next poll.
        if self._closed:
            self._shift()
        channels = self._source.channels
        self._held += self._source.read_into(self._view[self._held * channels :], self.size - self._held)
        if self._since is None:
            self._since = now_ms
        late = self._max_ms and (now_ms - self._since) & _WRAP >= self._max_ms
        if self._held < self.size and not (late and self._held > self._kept):
            return 0
        self._since = now_ms
        self._closed = True
        return self._held

    def _shift(self):
        keep = min(self._keep, self._held)
        channels = self._source.channels
        start = (self._held - keep) * channels
        buf = self.buf
        for i in range(keep * channels):
            buf[i] = buf[start + i]
        self._held = self._kept = keep
        self._closed = False


class ChangeGate:
    # Lets a value through when it is further than `threshold` from the last one let through; the first always.

    def __init__(self, threshold):
        if not threshold >= 0:
            raise ValueError("threshold must not be negative")
        self.threshold = threshold
        self.last = None

    def passes(self, x):
        # Raises ValueError on NaN or infinity, which would shut the gate for good.
        if x - x != 0:
            raise ValueError("not a finite number: %r" % x)
        if self.last is not None and abs(x - self.last) <= self.threshold:
            return False
        self.last = x
        return True


class AdaptiveInterval:
    # The time between samples: alert_ms from the second anomaly in a row on, then half as long again with every quiet
    # step until it is back at normal_ms. One anomaly alone changes nothing, it only holds the way back.

    def __init__(self, normal_ms, alert_ms):
        self._set(normal_ms, alert_ms)
        self.ms = normal_ms
        self._anomalies = 0

    def set_normal_ms(self, ms):
        self._set(ms, self.alert_ms)

    def set_alert_ms(self, ms):
        self._set(self.normal_ms, ms)

    def _set(self, normal_ms, alert_ms):
        if not 1 <= alert_ms <= normal_ms:
            raise ValueError("alert_ms must lie in 1..normal_ms")
        self.normal_ms = normal_ms
        self.alert_ms = alert_ms

    def update(self, anomaly):
        # The interval to sample at from now on, in whole milliseconds (x1.5 is rounded up).
        if not anomaly:
            self._anomalies = 0
            self.ms = min(self.normal_ms, self.ms + (self.ms + 1) // 2)
        elif self._anomalies:
            self.ms = self.alert_ms
        else:
            self._anomalies = 1
        return self.ms
