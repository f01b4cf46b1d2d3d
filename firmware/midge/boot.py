# What a board does when it starts: nothing while a deployment holds it, else it chooses a slot and proves it.
# Trusted base, which lies outside of the slots: boot, slots, running, trial, update and what they import. All of it but
# running.py, and trial.py during a trial, leaves the heap before the node comes.
#
# What is remembered, each file replaced by a rename (docs/updates.md draws the states):
#   active    the slot that runs: writing it is what confirms an update
#   trial     slot and starts left of an update; while one of them is going on also the word "run"
#   floor     the highest version that was ever confirmed
#   fallback  slot, version and reason of the update that failed last
#   hold      seconds for which a deployment wants the board idle

import machine

from midge.running import leave
from midge.slots import select
from midge.trial import remove, spare, text, timer


def choose(boards):
    # (the Update to run or None, the timer of a board that is held or None). `boards`: the names of this board.
    try:
        seconds = _held()
        if seconds:
            return None, timer(machine.Timer.ONE_SHOT, seconds * 1000, machine.reset)
        return select(boards), None
    except KeyboardInterrupt:
        return None, None
    finally:
        leave()


def _held():
    # The order is good for one boot, and not for one after a loss of power: whoever gave it has lost the board as well.
    seconds = text("hold")
    if not seconds:
        return 0
    spare()
    remove("hold")
    return 0 if machine.reset_cause() == machine.PWRON_RESET else int(seconds)
