# The node: what a compiled node file describes, running. Ctrl-C ends it, with timers and outputs off.
#
# One pass of the loop: poll the link, let each sensor close its window, hand that to the stages, look at the rules,
# put outputs back. Whatever fails is reported under its own name, the rest goes on.

import gc
import json
import time

from micropython import const

from midge import stages
from midge.actions import Action, Outputs
from midge.clock import Clock
from midge.commands import Commands
from midge.errors import describe
from midge.links.serial import SerialLink
from midge.monitor import Monitor, update_records
from midge.records import record
from midge.reporting import Reporting
from midge.schedule import AdaptiveInterval
from midge.sensors import Sensor

_COLLECT_MS = const(1000)  # from one garbage collection to the next at least; it stops what is no hard interrupt
_IDLE_MS = const(1)
_FATAL = ("board.exception", "board.out_of_memory")  # errors that end a trial, as those of models do
_OUTBOX = const(12)  # records that wait to be written as one line: as objects they take much more room than as text


def run(path, update=None):
    # update: the boot code's Update, where that has started the node. Raises KeyboardInterrupt.
    with open(path) as f:
        config = json.load(f)
    gc.collect()
    node = Node(config, update)
    try:
        node.open(config)
        node.start()
        node.begin_trial(config)
        config = None  # what parts do not keep of it is not needed again
        while True:
            node.turn()
    finally:
        node.close()


class Node:
    def __init__(self, config, update=None):
        self.update = update
        self.name = config["name"]
        self.values = [None] * config["values"]  # what stages say, for rules; None: not known
        self.running = False
        self.interval_s = config["monitor_ms"] / 1000
        self.clock = Clock()
        self.link = SerialLink(config["link"]["queue"], name=self.name)
        self._samplers = {}  # by sensor
        self.monitor = Monitor(self.clock, self._samplers)
        self.sensors, self.stages, self.actions = [], [], []
        self.disabled = {}  # stages that could not be made: id, error code
        self.interval = None
        self.threshold = None
        self._failing = {}  # name: [code, how often]
        self._outbox = []  # records of this pass
        self._models = {}  # place in the node file: inference stage
        self._wdt = None
        self._confirm_at = None  # ticks_ms, in a trial that has begun
        self.outputs = None

    def open(self, config):
        # Whatever needs large blocks comes first, while the heap has them: rings and windows, then arenas and weights.
        import machine

        sampling = config["sampling"]
        self.outputs = Outputs(machine.Pin)
        self.threshold = sampling.get("threshold")
        if sampling["mode"] == "adaptive":
            self.interval = AdaptiveInterval(sampling["normal_ms"], sampling["alert_ms"])
        for part in config["sensors"]:
            sensor = Sensor(part, self.threshold, self.clock, self.report)
            self.sensors.append(sensor)
            self._samplers[sensor.id] = sensor.sampler
        self._open_stages(config["stages"])
        self.actions = [Action(part, self) for part in config["actions"]]
        self.link.on_command(Commands(self).answer)
        self.link.send(self.monitor.start_records())
        self._tell_update()
        self._reporting = [Reporting(part) for part in config["sensors"]]
        self._spoke = self._collected = time.ticks_ms()
        if "watchdog_ms" in config:
            self._wdt = machine.WDT(timeout=config["watchdog_ms"])

    def close(self):
        self.stop()
        if self.outputs:
            self.outputs.off()

    def start(self):
        self.running = True
        for sensor in self.sensors:
            sensor.start()

    def begin_trial(self, config):
        # An update confirms itself when it has run so long without what `report` takes for its own fault.
        if self.on_trial():
            confirm_ms = config["update"]["confirm_ms"]
            self._confirm_at = time.ticks_add(time.ticks_ms(), confirm_ms)
            self.update.begin(confirm_ms)

    def stop(self):
        self.running = False
        for sensor in self.sensors:
            sensor.stop()

    def set_threshold(self, value):
        self.threshold = value
        for sensor in self.sensors:
            for gate in sensor.gates:
                gate.threshold = value

    def set_interval_s(self, value):
        if value < 1:
            raise ValueError("interval_s must be at least 1")
        self.interval_s = value

    def turn(self):
        # One pass.
        try:
            busy = self._work()
            self.feed()
        except Exception as error:  # not KeyboardInterrupt: that one ends the node
            self.report("node", error)
            gc.collect()
            busy = False
        if not busy:
            time.sleep_ms(_IDLE_MS)

    def breathe(self):
        # Called between two kernels of a model: the rest of the node lives here.
        self.link.poll()
        self.outputs.poll(time.ticks_ms())
        for sensor in self.sensors:
            sensor.sampler.poll()
        self.feed()

    def feed(self):
        # The watchdogs, after work that went well: here, between kernels and between the parts of a start.
        if self._wdt:
            self._wdt.feed()
        if self.update:
            self.update.feed()

    def tell(self, made, urgent=False):
        # A record for the link; urgent ones overtake, and do not give way when the queue is full.
        if urgent:
            self.link.send((made,), True)
            return
        self._outbox.append(made)
        if len(self._outbox) == _OUTBOX:
            self._flush()

    def report(self, name, error):
        # A failure of `name`, or with None its end. A failure that repeats is told the 1st, 2nd, 4th, 8th ... time.
        t = self.clock.now_ms()
        if error is None:
            if self._failing.pop(name, None):
                self.tell(record(name + ".error", "none", t), True)
            return
        why = describe(error)
        code = why["code"]
        if self.on_trial() and (code.startswith("model.") or code in _FATAL):
            self.update.fail(why, error)
        self.monitor.failed(code)
        entry = self._failing.get(name)
        if entry is None or entry[0] != code:
            entry = self._failing[name] = [code, 0]
        entry[1] += 1
        if entry[1] & (entry[1] - 1) == 0:
            self.tell(record(name + ".error", code, t), True)
            self.link.log(name, error)

    def model_of(self, place):
        # What an alert says of the model at that place of the node file.
        return self._models[place].about() if place in self._models else {}

    def _open_stages(self, parts):
        for part in sorted(parts, key=lambda part: part["use"] != "inference"):
            try:
                self.stages.append(stages.open(part, self))
            except Exception as error:
                why = describe(error)
                if self.on_trial():
                    self.update.fail(why, error)
                self.disabled[part["id"]] = why["code"]
                self.report(part["id"], error)
                gc.collect()
            self.feed()
        self.stages.sort(key=lambda stage: stage.at)
        for place, part in enumerate(parts):
            for stage in self.stages:
                if stage.id == part["id"] and part["use"] == "inference":
                    self._models[place] = stage

    def _work(self):
        now = time.ticks_ms()
        self.link.poll()
        self.outputs.poll(now)
        busy = False
        for number, sensor in enumerate(self.sensors):
            if sensor.poll(now):
                busy = True
                self._step(number, sensor)
        if time.ticks_diff(now, self._spoke) >= 1000 * self.interval_s:
            self._spoke = now
            for made in self.monitor.records():
                self.tell(made)
        if self._outbox:
            self._flush()
        if busy and time.ticks_diff(now, self._collected) >= _COLLECT_MS:
            self._collected = now
            self.monitor.collect()
        if self._confirm_at is not None and time.ticks_diff(now, self._confirm_at) >= 0:
            self._confirm_at = None
            self.update.confirm()
            self._tell_update()
        return busy

    def _step(self, number, sensor):
        reporting = self._reporting[number]
        due = reporting.is_due(sensor)
        unusual = False
        for stage in self.stages:
            if stage.sensor != number:
                continue
            try:
                stage.run(sensor)
            except Exception as error:
                stage.forget()
                self.report(stage.id, error)
            else:
                self.report(stage.id, None)
                unusual = unusual or getattr(stage, "unusual", False)
                if due:
                    for made in stage.records(sensor.newest_ms):
                        self.tell(made)
        for action in self.actions:
            action.poll(sensor.newest_ms)
        if due:
            reporting.tell(sensor, self.tell)
        if self.interval is not None:
            self._adapt(sensor, unusual)

    def _flush(self):
        outbox, self._outbox = self._outbox, []
        try:
            self.link.send(outbox)
        except MemoryError:  # they are lost: kept, they would leave the heap no room to recover
            self.link.lost += len(outbox)
            raise

    def _adapt(self, sensor, unusual):
        before = self.interval.ms
        if self.interval.update(unusual) != before:
            sensor.set_rate_hz(1000 / self.interval.ms)

    def on_trial(self):
        return self.update is not None and self.update.state == "trial"

    def _tell_update(self):
        if self.update:
            for made in update_records(self.update, self.clock.now_ms()):
                self.tell(made)
