# The plan that every board runs, on viper or portable (bytecode) kernels. What a call is: DESIGN.md, "Kernel call";
# here words 1 to 6 of its block are offsets in arena, tile and parameters, which a kernel gets beside the block. The
# family of a kernel is its number >> 4; only the families that a model uses are imported.

import sys
from array import array

from midge.errors import MidgeError
from midge.kernels.plan import Plan

_FAMILIES = ("", "dense", "conv", "pool", "elementwise", "move", "table", "softmax")
_PROBE = "@micropython.viper\ndef f(x: int) -> int:\n    return x\n"
_ABI = 1
_CALL = 12  # words of a call in PLAN

SECTIONS = ("PLAN", "PARM", "WGHT")


def best(level):
    # The level asked for, or (None) the best that this board has. Raises MidgeError for one that it has not.
    if level not in (None, "viper", "portable") or level == "viper" and not _has_viper():
        raise MidgeError("model.no_kernels", "no %s kernels on this board" % level)
    return level or ("viper" if _has_viper() else "portable")


class General(Plan):
    residence = "ram"

    def __init__(self, bundle, arena, level):
        super().__init__()
        self._arena = arena
        self._tiles = bundle.tiles("WGHT")
        self._params = bundle.words("PARM")
        words = bundle.words("PLAN")
        kernels = _kernels(level, {words[i] for i in range(0, len(words), _CALL)})
        self.rows = array("i", bytes(16 * (len(words) // _CALL)))
        self._calls = []  # (kernel, block, tile)
        for i in range(len(words) // _CALL):
            call = words[_CALL * i : _CALL * (i + 1)]
            tile = call[4]
            if tile >= len(self._tiles) or call[11] < 1 or max(call[1:4]) >= len(self._arena) or call[3] < 0:
                raise MidgeError("model.bad_bundle", "a call leaves the arena")
            memory = self._tiles[tile] if tile >= 0 else self._arena
            block = array("i", [_ABI, call[1], call[2], call[3], call[5], call[6], call[7], call[8], call[9]])
            self._calls.append((kernels[call[0]], block, memory))
            for j, word in enumerate((8, 9, 11, 10)):
                self.rows[4 * i + j] = call[word]

    def compute(self, i, row, end):
        kernel, block, tile = self._calls[i]
        block[7] = row
        block[8] = end
        return kernel(block, self._arena, tile, self._params)


def _kernels(level, numbers):
    # {number: kernel}. Raises MidgeError for a kernel that this board does not have.
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
