# An update on trial: it confirms itself, or the next boot starts the node before it. Trusted base, see boot.py.

import gc
import json
import os
import sys
import time

import machine
from micropython import const, kbd_intr

from midge.errors import MidgeError, describe
from midge.running import ROOT, Update, leave

_WATCHDOG_MS = (30000, 8000)  # the longest that the board takes: rp2 counts 8.3 s at most, and never stops
_OPENING_MS = const(120000)  # what a node may take to open ...
_GRACE_MS = const(60000)  # ... and, beyond the time it asks for, to confirm itself
_PROMPT_MS = const(2000)
_RESERVE = const(2048)  # bytes to write down a failure with when the node has eaten the heap
_EEXIST = const(17)


def text(name):
    # What a file of the bookkeeping says; "" where there is none.
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
    # A start that a person or the host ended does not count. Ctrl-C often comes in bursts: the rest of one waits.
    kbd_intr(-1)
    parts = text("trial").split()
    if len(parts) == 3:
        write("trial", "%s %d" % (parts[0], int(parts[1]) + 1))
    kbd_intr(3)


def fall_back(slot, version, why):
    # why: {"code", "what"}.
    try:
        write("fallback", json.dumps({"slot": slot, "version": version, "why": why}))
    except OSError:  # full
        pass
    remove("trial")
    print("midge: version %d in slot %s is given up: %s: %s" % (version, slot, why["code"], why["what"]))


def timer(mode, period_ms, action):
    try:
        made = machine.Timer(-1)
    except ValueError:  # ESP32 before 1.25 has numbered timers only
        made = machine.Timer(0)
    made.init(mode=mode, period=period_ms, callback=lambda _: action())
    return made


def watchdog():
    # Started, or None where the board has none.
    for timeout in _WATCHDOG_MS:
        try:
            return machine.WDT(timeout=timeout)
        except (ValueError, AttributeError):  # too long; a board without
            pass
    return None


class Trial(Update):
    # `fail` ends it; the node calls that, and `confirm`, as it sees fit.

    state = "trial"
    _reserve = _failure = _wdt = None

    def run(self):
        # Returns only when Ctrl-C came: the timer that the prompt needs.
        try:
            try:
                kbd_intr(3)
                self._reserve = bytearray(_RESERVE)
                self._wdt = watchdog()
                self._patient(_OPENING_MS)
                self._run()
            except KeyboardInterrupt:
                return self._stopped()
        except KeyboardInterrupt:  # one more, before `spare` could make it wait
            return self._stopped()
        except BaseException as error:
            if self.state != "trial":
                raise
            self._reserve = None
            leave()
            self.fail(self._failure or describe(error), error, True)
        if self.state == "trial":
            self.fail(describe(MidgeError("update.ended", "the node came to an end")), None, True)

    def begin(self, confirm_ms):
        self._patient(confirm_ms + _GRACE_MS)

    def feed(self):
        # The watchdog that a trial has started outlives it.
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

    def _patient(self, ms):
        # The trial is to be confirmed within so many milliseconds.
        self._until = time.ticks_add(time.ticks_ms(), ms)

    def _stopped(self):
        spare()
        if self._wdt:  # it cannot be stopped, and a person at the prompt is no fault
            return timer(machine.Timer.PERIODIC, _PROMPT_MS, self._wdt.feed)
