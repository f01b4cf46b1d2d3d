# midge: starts the node of the active slot. Written by `midge deploy`, taken away by `midge remove`.
import os
import sys

import machine


def _text(path):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return ""


def _hold(seconds):
    # (Re)starts the clock that gives the board back to its node when the host has gone silent.
    global _timer
    try:
        _timer = machine.Timer(-1)
    except ValueError:  # ESP32 before 1.25 has numbered timers only
        _timer = machine.Timer(0)
    _timer.init(mode=machine.Timer.ONE_SHOT, period=seconds * 1000, callback=lambda _: machine.reset())


def _held():
    # Seconds for which a deployment wants the board idle, else 0. It cannot just interrupt the node: a watchdog that
    # runs would bite it. The order is good for one boot, and not for one after a loss of power: whoever gave it has
    # lost the board as well.
    seconds = _text("/midge/hold")
    if not seconds:
        return 0
    os.remove("/midge/hold")
    return 0 if machine.reset_cause() == machine.PWRON_RESET else int(seconds)


_slot = _text("/midge/active")
_seconds = _held()
if _seconds:
    _hold(_seconds)
elif _slot:
    sys.path.insert(0, "/midge/%s/lib" % _slot)
    import midge.node

    midge.node.run("/midge/%s/node.json" % _slot)
