# What is remembered beside a bundle about its machine code: <bundle>.try from before its first call, which may crash
# the board, until its self-test has ended; <bundle>.ok when it passed. Each holds the code's key, so that another
# bundle at the same path starts anew. Where nothing can be written the self-test runs at every load.

import os
import sys

_FAILED = " failed"


class Trust:
    # `proven`: the self-test passed on this firmware. `obstacle`: why the code must not be called, or None.

    def __init__(self, path, key):
        self._trying = path + ".try"
        self._ok = path + ".ok"
        self._key = "%s %s" % (key, ".".join(str(part) for part in sys.implementation.version[:3]))
        self.proven = _read(self._ok) == self._key
        mark = _read(self._trying)
        self.obstacle = None
        if mark == self._key and not self.proven:
            self.obstacle = "machine code crashed at the last boot"
        elif mark == self._key + _FAILED:
            self.obstacle = "machine code failed its self-test"

    def trying(self):
        _write(self._trying, self._key)

    def passed(self):
        _remove(self._trying)
        _write(self._ok, self._key)
        self.proven = True

    def failed(self):
        _write(self._trying, self._key + _FAILED)

    def interrupted(self):
        _remove(self._trying)


def _read(path):
    try:
        with open(path) as file:
            return file.read()
    except (OSError, ValueError):  # UnicodeError is one
        return ""


def _write(path, text):
    try:
        with open(path, "w") as file:
            file.write(text)
        if hasattr(os, "sync"):
            os.sync()
    except OSError:  # read-only, or full
        pass


def _remove(path):
    try:
        os.remove(path)
    except OSError:
        pass
