# The node that runs, as an update. Trusted base; what of it stays in the heap.

import gc
import sys

ROOT = "/midge/"


class Update:
    # `state` is confirmed, or fell_back: an update failed, and this is the one before it; or trial, see trial.py.
    # `version`; `why` {"code", "what"} and `failed`, the version, of the update that failed. A node calls `begin` when
    # it is open, and `feed` after progress.

    state = "confirmed"

    def __init__(self, slot, version, failed=0, why=None):
        self.slot = slot
        self.version = version
        self.failed = failed
        self.why = why
        if why:
            self.state = "fell_back"

    def run(self):
        # The node's life, until Ctrl-C.
        try:
            self._run()
        except KeyboardInterrupt:
            pass

    def begin(self, confirm_ms):
        pass

    def feed(self):
        pass

    def about(self):
        # For a status.
        return {"state": self.state, "version": self.version, "failed": self.failed, "why": self.why}

    def _run(self):
        sys.path.insert(0, ROOT + self.slot + "/lib")
        __import__("midge.node", None, None, ("run",)).run(ROOT + self.slot + "/node.json", self)


def leave():
    # From here on `midge` is whatever sys.path finds next; what was imported leaves the heap.
    for name in list(sys.modules):
        if name.split(".")[0] == "midge":
            del sys.modules[name]
    sys.path.pop(0)
    gc.collect()
