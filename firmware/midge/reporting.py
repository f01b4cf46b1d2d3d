# Which samples of a sensor go out as records: of each reported channel one every so often, at whatever rate.

from midge.records import record


class Reporting:
    # config: the sensor's part of node.json.

    def __init__(self, config):
        self._channels = config["report"]
        self._every_ms = config["every_ms"]
        self._next = 0  # number of the next sample to report

    def is_due(self, sensor):
        # Whether a sample of the window is to be reported; then it is also time for what the stages say.
        return sensor.index + sensor.count - sensor.fresh > self._next

    def tell(self, sensor, tell):
        # Hands the records that are due to tell().
        every = max(1, int(self._every_ms * sensor.rate_hz / 1000 + 0.5))
        for i in range(sensor.fresh, sensor.count):
            number = sensor.index + i - sensor.fresh
            if number < self._next:
                continue
            self._next = number + every
            for channel in self._channels:
                value = sensor.window[i * sensor.channels + channel] * sensor.scale + sensor.offset
                tell(record(sensor.names[channel], value, sensor.time_of(i), sensor.unit))
