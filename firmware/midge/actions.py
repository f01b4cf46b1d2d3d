# Actions: what happens when a rule becomes true. Outputs are set at once and put back later, without waiting.

import time

from midge.records import alert
from midge.rules import evaluate


class Outputs:
    # The pins that actions drive. Each rests at the opposite of what its action sets.

    def __init__(self, pin_class):
        self._pin_class = pin_class
        self._pins = {}  # number: Pin
        self._resting = {}  # number: level
        self._until = {}  # number: ticks_ms at which it goes back to rest

    def add(self, number, active):
        if number not in self._pins:
            self._pins[number] = self._pin_class(number, self._pin_class.OUT, value=1 - active)
            self._resting[number] = 1 - active

    def set(self, number, level, for_ms=None):
        self._pins[number].value(level)
        if for_ms is None:
            self._until.pop(number, None)
        else:
            self._until[number] = time.ticks_add(time.ticks_ms(), for_ms)

    def rest(self, number):
        self.set(number, self._resting[number])

    def poll(self, now):
        for number in self._until:
            if time.ticks_diff(now, self._until[number]) >= 0:
                self.rest(number)
                return  # rest() has changed the dict; the others' turn comes with the next poll

    def off(self):
        for number in self._pins:
            self.rest(number)


class Action:
    # config: the action's part of node.json. `poll` looks at the rule, and acts when it has become true.

    def __init__(self, config, node):
        self._config = config
        self._node = node
        self._stack = [None] * len(config["when"])
        self._holds = False
        for step in config["do"]:
            if "gpio" in step:
                node.outputs.add(step["gpio"], step["value"])

    def poll(self, t):
        # t: the time that records of this action carry.
        held = self._holds
        self._holds = evaluate(self._config["when"], self._node.values, self._stack)
        if self._holds == held:
            return
        for step in self._config["do"]:
            if "gpio" in step:
                self._drive(step)
            elif self._holds:
                self._say(step, t)

    def _drive(self, step):
        if self._holds:
            self._node.outputs.set(step["gpio"], step["value"], step.get("for_ms"))
        elif "for_ms" not in step:
            self._node.outputs.rest(step["gpio"])

    def _say(self, step, t):
        if "log" in step:
            self._node.link.log(step["log"])
            return
        config = self._config
        model = self._node.model_of(config.get("model"))
        score = self._node.values[config["score"]] if "score" in config else None
        made = alert(config["text"], t, score=score, **model)
        made["n"] = step["record"]
        self._node.tell(made, True)
