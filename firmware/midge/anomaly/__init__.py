# Streaming anomaly detectors, one a module: a board imports only the one that its node file names.
#
# All share one interface: update(x) -> score, or None while there is too little to judge by; `alarm`, whether the
# last sample raised one; `threshold`, what a score is compared with; reset(). A NaN, an infinity or a number beyond
# 1e12 is a broken sensor: update() raises ValueError and leaves the detector as it was.
# Pure: runs on MicroPython, CircuitPython and CPython alike.

_CLASSES = {"window": "WindowZScore", "multiscale": "MultiscaleZScore", "context": "ContextZScore"}


def make(kind, params=None):
    # The detector that a node file calls "anomaly.<kind>", with its params. ValueError: unknown kind, or a bad param.
    if kind not in _CLASSES:
        raise ValueError("no detector %r: use one of %s" % (kind, ", ".join(sorted(_CLASSES))))
    return _load(kind)(**(params or {}))


def _load(kind):
    name = _CLASSES[kind]
    return getattr(__import__(__name__ + "." + kind, None, None, (name,)), name)


def __getattr__(name):
    # `from midge.anomaly import WindowZScore` works, and still imports no other detector.
    for kind in _CLASSES:
        if _CLASSES[kind] == name:
            return _load(kind)
    raise AttributeError(name)
