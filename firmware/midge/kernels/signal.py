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

# What a detector's step returns besides 0 while it learns and 2 for a score: LEARNT ones when a replay has ended, CALM
# ones after an alarm.
ALARM = 3
UNUSABLE = 4
RECORDED = 5
LEARNT = 6
LEARNT_ALARM = 7
LEARNT_CALM = 9


_modules = {}  # name: a module that may be called, or None


def routine(module, name):
    # A function of such a module, or None: it is not there, made for another arch or firmware, or not to be trusted.
    if module not in _modules:
        _modules[module] = _imported(module)
        if _modules[module] and not _proven(module):
            _modules[module] = None
    return getattr(_modules[module], name) if _modules[module] else None


def _imported(module):
    try:
        return __import__("midge.kernels." + module, None, None, (module,))
    except (ImportError, ValueError, MemoryError):
        return None


def _proven(module):
    # The first calls of this code on this board, which may crash it: as for a model's code, see trust.py.
    from midge.kernels import forget
    from midge.kernels.trust import Trust

    path = _modules[module].__file__
    trust = Trust(path, _digest(path))
    forget("midge.kernels.trust")
    if trust.obstacle or trust.proven:
        return trust.proven
    from midge.kernels.rehearsal import passes

    trust.trying()
    try:
        passed = passes(module)
    except Exception:
        passed = False
    except BaseException:  # Ctrl-C: nothing is known
        trust.interrupted()
        raise
    forget("midge.kernels.rehearsal")
    if passed:
        trust.passed()
    else:
        trust.failed()
    return passed


def _digest(path):
    from binascii import hexlify
    from hashlib import sha256

    digest = sha256()
    piece = bytearray(512)
    with open(path, "rb") as file:
        while True:
            count = file.readinto(piece)
            if not count:
                return hexlify(digest.digest()[:8]).decode()
            digest.update(memoryview(piece)[:count])


def block(*words):
    # A block of arrays, for which their addresses stand, and numbers.
    return array("I", [_ABI] + [word if isinstance(word, int) else address(word) for word in words])


def address(buffer):
    import uctypes

    return uctypes.addressof(buffer)


def updater(step, words, io, follow):
    # A detector's `update`. `follow` takes a step's status, and the sample, where there is more to do.
    from .updater import updater

    return updater(step, address(words) >> 2, io, follow)
