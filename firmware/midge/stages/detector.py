# A streaming detector on one channel (every sample) or on one feature (every window).
# Values: the highest score of the window, whether any of its samples raised an alarm.

from midge import anomaly
from midge.errors import MidgeError
from midge.records import record
from midge.stages import Base


class Stage(Base):
    def __init__(self, config, node):
        super().__init__(config, node, 2)
        self.judge = anomaly.make(config["kind"], config["params"])
        self.settings = (self.judge, tuple(config["params"]))
        self.unusual = False  # whether the last sample's score was above the threshold, hold-off or not
        self._channel = config.get("channel")
        self._feature = config.get("value")
        self._tell = node.tell
        self._alarm = False  # as last told
        self._alarms = 0
        self._last = None  # number of the sample that raised the last alarm
        self._windows = 0
        self._highest = None  # score since the last record

    def run(self, sensor):
        self.values[self.at], self.values[self.at + 1] = None, False
        try:
            if self._feature is None:
                self._samples(sensor)
            elif self.values[self._feature] is not None:
                self._windows += 1
                self._judge(self.values[self._feature], self._windows - 1, sensor, sensor.count - 1)
        except ValueError as error:
            raise MidgeError("signal.not_finite", str(error))

    def records(self, t):
        if self._highest is None:
            return ()
        highest, self._highest = self._highest, None
        return (record(self.id + ".score", highest, t),)

    def about(self):
        return {"alarms": self._alarms, "last_alarm": self._last}

    def _samples(self, sensor):
        window, step, scale, offset = sensor.window, sensor.channels, sensor.scale, sensor.offset
        position = sensor.fresh * step + self._channel
        for i in range(sensor.fresh, sensor.count):
            self._judge(window[position] * scale + offset, sensor.index + i - sensor.fresh, sensor, i)
            position += step

    def _judge(self, x, number, sensor, i):
        judge = self.judge
        score = judge.update(x)
        if score is None:
            self.unusual = False
            return
        self.unusual = score > judge.threshold
        highest = self.values[self.at]
        if highest is None or score > highest:
            self.values[self.at] = score
            if self._highest is None or score > self._highest:
                self._highest = score
        if judge.alarm:
            self.values[self.at + 1] = True
        if judge.alarm != self._alarm:
            self._alarm = judge.alarm
            self._edge(number, sensor.time_of(i))

    def _edge(self, number, t):
        self._tell(record(self.id + ".alarm", self._alarm, t), True)
        if self._alarm:
            self._alarms += 1
            self._last = number
            self._tell(record(self.id + ".sample", number, t), True)
