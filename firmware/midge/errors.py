# Errors a board raises on purpose. `code` is dotted and append-only, the same on board and host: docs/errors.md lists
# them; what to do about a code is the host's to say.
# Pure: no imports, so it runs on MicroPython, CircuitPython and CPython alike.


class MidgeError(Exception):
    def __init__(self, code, what):
        # One argument for the base class: str(error) and a traceback then read the same on every port.
        super().__init__("%s: %s" % (code, what))
        self.code = code
        self.what = what


def describe(error):
    # Any exception as the {"code", "what"} that replies and logs carry. A MidgeError may come from another copy of this
    # module: the boot code has its own.
    if hasattr(error, "what"):
        code, what = error.code, error.what
    elif isinstance(error, MemoryError):
        code, what = "board.out_of_memory", str(error) or "no heap left"
    else:
        code, what = "board.exception", "%s: %s" % (type(error).__name__, error)
    return {"code": code, "what": what}
