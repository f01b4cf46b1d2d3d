# Machine code for detectors and spectra, in modules beside this one: multiscale, context, spectrum. The host adds what
# a node needs for arches that it generates code for; elsewhere their Python classes do the same.
#
# A routine takes one small int, the address of its block >> 2, and returns a status. The words of a block are the abi,
# then addresses of the arrays that are the state, and numbers.

from array import array

_ABI = 1

# What detectors and their machine code exchange, an array of floats made by anomaly/scales.py.
SAMPLE = 0
SCORE = 1
THRESHOLD = 2
ALARMED = 9  # not 0: the last sample raised an alarm

# What a detector's step returns; LEARNT ones when a replay has ended, CALM ones after an alarm.
LEARNING = 0
SCORED = 2
ALARM = 3
UNUSABLE = 4
RECORDED = 5
LEARNT = 6
LEARNT_ALARM = 7
LEARNT_CALM = 9


def routine(module, name):
    # A function of such a module, or None. ValueError: code for another arch or firmware.
    try:
        return getattr(__import__("midge.kernels." + module, None, None, (name,)), name)
    except (ImportError, ValueError, MemoryError):
        return None


def block(*words):
    # A block of arrays, for which their addresses stand, and numbers.
    return array("I", [_ABI] + [word if isinstance(word, int) else address(word) for word in words])


def address(buffer):
    import uctypes

    return uctypes.addressof(buffer)


def updater(step, words, io, follow):
    # The `update` of a detector: a function of its own, as it finds what it uses faster than a method does. `follow`
    # takes what is not a mere score.
    at = address(words) >> 2

    def update(x):
        io[0] = x  # SAMPLE
        status = step(at)
        if status == 2:  # SCORED
            return io[1]  # SCORE
        return follow(status, x)

    return update
