# A model on a window, or on the features of one. Values: class and its probability, a reconstruction's mean squared
# error, or a number, as the model's output is meant.

import gc
import struct
import time

from midge.errors import MidgeError
from midge.inference import Model
from midge.records import record
from midge.stages import Base


class Stage(Base):
    def __init__(self, config, node):
        super().__init__(config, node, 2 if config["says"] == "class" else 1)
        gc.collect()
        try:
            self.model = Model(config["model"], breathe=node.feed)
        except MemoryError as error:
            raise MidgeError("model.too_big", str(error) or "no heap left for the model")
        if node.on_trial() and self.model.self_test(node.feed):
            raise MidgeError("model.self_test", "its test vectors come out wrong")
        self._input, self._output = self.model.inputs[0], self.model.outputs[0]
        self._labels = config.get("labels")
        self._channels = config.get("channels")
        self._vector = config.get("value")
        self._size = config.get("size")
        self._breathe = node.breathe
        self._monitor = node.monitor
        self._conclude = {"class": self._to_class, "score": self._to_score, "value": self._to_value}[config["says"]]
        self._fields = {"class": ("class", "p"), "score": ("score",), "value": ("value",)}[config["says"]]
        self._new = False

    def run(self, sensor):
        if self._vector is not None and None in self.values[self._vector : self._vector + self._size]:
            self.forget()
            return
        start = time.ticks_us()
        try:
            self._fill(sensor)
        except (ValueError, OverflowError):  # what int() says to NaN and infinity
            raise MidgeError("signal.not_finite", "the model's input is no number")
        for _ in self.model.steps():
            self._breathe()
        self._conclude(sensor)
        self._monitor.inferred(time.ticks_diff(time.ticks_us(), start))
        self._new = True

    def records(self, t):
        if not self._new:
            return ()
        self._new = False
        return [record(self.id + "." + f, self.values[self.at + i], t) for i, f in enumerate(self._fields)]

    def about(self):
        model = self.model
        return {"model": model.name, "plan": model.plan_hash, "kernels": model.level}

    def _elements(self, sensor):
        # The model's input in units, in its order: by sample, then channel; or the features.
        if self._vector is not None:
            for i in range(self._vector, self._vector + self._size):
                yield self.values[i]
            return
        window, scale, offset = sensor.window, sensor.scale, sensor.offset
        for start in range(0, sensor.count * sensor.channels, sensor.channels):
            for channel in self._channels:
                yield window[start + channel] * scale + offset

    def _fill(self, sensor):
        # The one conversion on the way in: q = round(x / scale) + zero point, halves away from zero, saturated.
        out = self.model.input(0)
        position = 0
        if self._input.dtype == "float32":
            for x in self._elements(sensor):
                struct.pack_into("<f", out, position, x)
                position += 4
            return
        scale, zero_point = self._input.scale, self._input.zero_point
        for x in self._elements(sensor):
            x /= scale
            q = zero_point + (int(x + 0.5) if x >= 0 else -int(0.5 - x))
            out[position] = (-128 if q < -128 else 127 if q > 127 else q) & 255
            position += 1

    def _result(self, i):
        # Output i in units.
        out = self.model.output(0)
        if self._output.dtype == "float32":
            return struct.unpack_from("<f", out, 4 * i)[0]
        return ((out[i] ^ 128) - 128 - self._output.zero_point) * self._output.scale

    def _to_class(self, sensor):
        best, p = 0, self._result(0)
        for i in range(1, len(self._labels)):
            result = self._result(i)
            if result > p:
                best, p = i, result
        self.values[self.at], self.values[self.at + 1] = self._labels[best], p

    def _to_score(self, sensor):
        total = 0.0
        i = 0
        for x in self._elements(sensor):
            difference = self._result(i) - x
            total += difference * difference
            i += 1
        self.values[self.at] = total / i

    def _to_value(self, sensor):
        self.values[self.at] = self._result(0)
