# Starts a slot's node and watches over one on trial: it confirms itself, or the next boot starts the one before it.
# Trusted base, which lies outside of the slots. What only the choice of a slot needs is in slots.py, and leaves the
# heap before the node comes.
#
# What is remembered, each file replaced by a rename (docs/updates.md draws the states):
#   active    the slot that runs: writing it is what confirms an update
#   trial     slot and starts left of an update; while one of them is going on also the word "run"
#   floor     the highest version that was ever confirmed
#   fallback  slot, version and reason of the update that failed last
#   hold      seconds for which a deployment wants the board idle

import gc
import json
import os
import sys
import time

import machine
from micropython import const

from midge.errors import MidgeError, describe

ROOT = "/midge/"

_WATCHDOG_MS = (30000, 8000)  # the longest that the board takes: rp2 counts 8.3 s at most, and never stops
_OPENING_MS = const(120000)  # what a node may take to open ...
_GRACE_MS = const(60000)  # ... and, beyond the time it asks for, to confirm itself
_PROMPT_MS = const(2000)
_RESERVE = const(2048)  # bytes to write down a failure with when the node has eaten the heap
_EEXIST = const(17)


def start(boards=None):
    # Runs the node. Returns when there is none, or Ctrl-C has stopped it: the prompt's timer, where it needs one.
    # `boards`: the names that this board goes by.
    try:
        seconds = _held()
        if seconds:
            return _timer(machine.Timer.ONE_SHOT, seconds * 1000, machine.reset)
        from midge.slots import select

        update = select(boards)
        select = None
        leave()
    except KeyboardInterrupt:
        spare()
        return None
    return update and update.run()


def text(name):
    # What a file says; "" where there is none.
    try:
        with open(ROOT + name) as file:
            return file.read().strip()
    except (OSError, ValueError):  # UnicodeError is one
        return ""


def write(name, content):
    # Whole at any moment.
    path = ROOT + name
    with open(path + ".new", "w") as file:
        file.write(content)
    try:
        os.rename(path + ".new", path)
    except OSError as error:
        if error.errno != _EEXIST:  # FAT's: it renames onto nothing
            raise
        os.remove(path)
        os.rename(path + ".new", path)


def remove(name):
    try:
        os.remove(ROOT + name)
    except OSError:
        pass


def spare():
    # A start that a person or the host ended does not count.
    parts = text("trial").split()
    if len(parts) == 3:
        write("trial", "%s %d" % (parts[0], int(parts[1]) + 1))


def fall_back(slot, version, why):
    # why: {"code", "what"}.
    try:
        write("fallback", json.dumps({"slot": slot, "version": version, "why": why}))
    except OSError:  # full
        pass
    remove("trial")
    print("midge: version %d in slot %s is given up: %s: %s" % (version, slot, why["code"], why["what"]))


def leave():
    # From here on `midge` is whatever sys.path finds next; what was imported leaves the heap.
    for name in list(sys.modules):
        if name.split(".")[0] == "midge":
            del sys.modules[name]
    sys.path.pop(0)
    gc.collect()


def _held():
    # The order is good for one boot, and not for one after a loss of power: whoever gave it has lost the board as well.
    seconds = text("hold")
    if not seconds:
        return 0
    spare()
    remove("hold")
    return 0 if machine.reset_cause() == machine.PWRON_RESET else int(seconds)


def _timer(mode, period_ms, action):
    try:
        timer = machine.Timer(-1)
    except ValueError:  # ESP32 before 1.25 has numbered timers only
        timer = machine.Timer(0)
    timer.init(mode=mode, period=period_ms, callback=lambda _: action())
    return timer


def watchdog():
    # Started, or None where the board has none.
    for timeout in _WATCHDOG_MS:
        try:
            return machine.WDT(timeout=timeout)
        except (ValueError, AttributeError):  # too long; a board without
            pass
    return None


class Update:
    # The node that runs, as an update: `state` trial | confirmed | fell_back (an update failed, this is the one before
    # it), `version`; `why` {"code", "what"} and `failed`, the version, of the update that failed.

    def __init__(self, slot, version, state, failed=0, why=None):
        self.slot = slot
        self.version = version
        self.state = state
        self.failed = failed
        self.why = why
        self._wdt = None
        self._until = 0
        self._reserve = None
        self._failure = None

    def run(self):
        # The node's life; returns as `start` does. What a node that is not on trial raises is raised.
        sys.path.insert(0, ROOT + self.slot + "/lib")
        try:
            if self.state == "trial":
                self._reserve = bytearray(_RESERVE)
                self._wdt = watchdog()
                self.patient(_OPENING_MS)
            __import__("midge.node", None, None, ("run",)).run(ROOT + self.slot + "/node.json", self)
        except KeyboardInterrupt:
            return self._stopped()
        except BaseException as error:
            if self.state != "trial":
                raise
            self._reserve = None
            leave()
            self.fail(self._failure or describe(error), error, True)
        if self.state == "trial":
            self.fail(describe(MidgeError("update.ended", "the node came to an end")))

    def patient(self, ms):
        # The trial is to be confirmed within so many milliseconds.
        self._until = time.ticks_add(time.ticks_ms(), ms)

    def begin(self, confirm_ms):
        # The node is open.
        self.patient(confirm_ms + _GRACE_MS)

    def feed(self):
        # After progress. The watchdog that a trial has started outlives it.
        if self.state == "trial" and time.ticks_diff(self._until, time.ticks_ms()) < 0:
            self.fail(describe(MidgeError("update.not_confirmed", "it went on without being healthy")))
        if self._wdt:
            self._wdt.feed()

    def confirm(self):
        write("active", self.slot)
        self.state = "confirmed"
        self._reserve = None
        write("floor", str(self.version))
        remove("trial")
        remove("fallback")

    def fail(self, why, error=None, last=False):
        # Ends the trial, and does not return. Where even the reserve is too little, whoever called this makes room by
        # being left: only `run` knows of SystemExit.
        self._failure = why
        self._reserve = None
        gc.collect()
        try:
            fall_back(self.slot, self.version, why)
            if error:
                sys.print_exception(error)
        except MemoryError:
            if not last:
                raise SystemExit
        machine.reset()

    def about(self):
        # For a status.
        return {"state": self.state, "version": self.version, "failed": self.failed, "why": self.why}

    def _stopped(self):
        spare()
        if self._wdt:  # it cannot be stopped, and a person at the prompt is no fault
            return _timer(machine.Timer.PERIODIC, _PROMPT_MS, self._wdt.feed)
        return None
