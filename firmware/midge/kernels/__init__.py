# Kernels by number, at the level that a board can run: portable (bytecode) or viper. The family of a kernel is its
# number >> 4; only the families that a model uses are imported.

import sys

from midge.errors import MidgeError

_FAMILIES = ("", "dense", "conv", "pool", "elementwise", "move", "table", "softmax")
_PROBE = "@micropython.viper\ndef f(x: int) -> int:\n    return x\n"


def levels():
    # What this board can run, best first.
    return ("viper", "portable") if _has_viper() else ("portable",)


def load(level, numbers):
    # {number: kernel} at a level. Raises MidgeError for a level or kernel that this board does not have.
    if level not in levels():
        raise MidgeError("model.no_kernels", "no %s kernels on this board" % level)
    found = {}
    for number in numbers:
        family = number >> 4
        if not 0 < family < len(_FAMILIES):
            raise MidgeError("model.no_kernels", "kernel %#x is not known" % number)
        name = "midge.kernels.%s.%s" % (level, _FAMILIES[family])
        try:
            __import__(name)
        except (ImportError, ValueError) as error:  # not deployed, or an .mpy of another arch
            raise MidgeError("model.no_kernels", "%s: %s" % (name, error))
        kernel = sys.modules[name].KERNELS.get(number)
        if kernel is None:
            raise MidgeError("model.no_kernels", "kernel %#x is not known" % number)
        found[number] = kernel
    return found


def _has_viper():
    # Precompiled viper runs wherever the .mpy loads. From source it needs the emitter, and on 1.26 and 1.27 it must
    # not be the one that clobbers the index of `p[i]` on Thumb and RV32 (research: kernels, defect 4).
    if __file__.endswith(".mpy"):
        return getattr(sys.implementation, "_mpy", 0) >> 10 != 0
    version = sys.implementation.version[:2]
    if version in ((1, 26), (1, 27)) and sys.platform != "linux":
        return False
    try:
        exec(_PROBE, {})
    except SyntaxError:
        return False
    return True
