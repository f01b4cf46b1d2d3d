# Features of a window. Values: one for each feature of each channel, in the order of the node file.

from array import array

from midge.features import Features
from midge.records import record
from midge.stages import Base


class Stage(Base):
    def __init__(self, config, node):
        self._fields = config["fields"]
        super().__init__(config, node, len(self._fields))
        self._window = config["window"]
        self._channels = config["channels"]
        self._params = config["params"]
        # Where the stage takes every channel the window serves as it is, else its channels are gathered here.
        whole = self._channels == list(range(node.sensors[self.sensor].channels))
        self._buffer = None if whole else array("h", bytes(2 * self._window * len(self._channels)))
        self._features = None

    def run(self, sensor):
        if self._features is None:
            self._features = self._built(sensor)  # its scale is known once the sensor has answered
        out = self._features.extract(self._gathered(sensor))
        for i in range(len(self._fields)):
            self.values[self.at + i] = out[i]

    def records(self, t):
        found = []
        for i, field in enumerate(self._fields):
            if self.values[self.at + i] is not None:
                found.append(record(self.id + "." + field, self.values[self.at + i], t))
        return found

    def _built(self, sensor):
        return Features(
            window=self._window,
            rate_hz=sensor.rate_hz,
            channels=len(self._channels),
            scale=sensor.scale,
            offset=sensor.offset,
            **self._params,
        )

    def _gathered(self, sensor):
        if self._buffer is None:
            return sensor.window
        buffer, window, step = self._buffer, sensor.window, sensor.channels
        position = 0
        for start in range(0, self._window * step, step):
            for channel in self._channels:
                buffer[position] = window[start + channel]
                position += 1
        return buffer
