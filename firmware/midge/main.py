# midge: starts the node of the active slot. Written by `midge deploy`, taken away by `midge remove`.
import os
import sys


def _text(path):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return ""


def _hold(seconds):
    # (Re)starts the clock that gives the board back to its node when the host has gone silent.
    from machine import Timer, reset

    global _timer
    try:
        _timer = Timer(-1)
    except ValueError:  # ESP32 before 1.25 has numbered timers only
        _timer = Timer(0)
    _timer.init(mode=Timer.ONE_SHOT, period=seconds * 1000, callback=lambda _: reset())


_slot = _text("/midge/active")
_seconds = _text("/midge/hold")
if _seconds:
    # A deployment wants the board idle. It cannot just interrupt the node: a watchdog that runs would bite it. The
    # order is good for one boot only, so that a broken deployment never keeps the node from starting again.
    os.remove("/midge/hold")
    _hold(int(_seconds))
elif _slot:
    sys.path.insert(0, "/midge/%s/lib" % _slot)
    import midge.node

    midge.node.run("/midge/%s/node.json" % _slot)
