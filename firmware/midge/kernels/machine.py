# Machine code: routines that the host generated for this board's arch, and the plan that calls them.
#
# A routine takes one small int, the address of its block >> 2; the block is DESIGN's nine words with absolute
# addresses, made once at load. All blocks lie in one array: a call takes 60 bytes of heap.

import sys
from array import array

import uctypes
import vfs
from micropython import const

from midge.errors import MidgeError
from midge.kernels import forget

_ABI = const(1)
_BLOCK = const(9)  # words
_CALL = const(48)  # bytes of a call in PLNM
_ALIGNMENT = const(16)  # of arena, tiles, scratch
_ARCHES = {4: "armv6m", 6: "armv7emsp", 7: "armv7emsp", 8: "armv7emsp", 10: "xtensawin", 11: "rv32imc"}


def load(model, bundle):
    # The bundle's machine code as the model's plan, proven on this board. Raises MidgeError where that cannot be.
    if bundle.damage:
        raise bundle.damage
    need = model.info["machine"]
    _require(need)
    from midge.kernels.trust import Trust

    trust = Trust(bundle.path, bundle.digest(*Machine.sections))
    forget("midge.kernels.trust")
    if trust.obstacle:
        raise _unfit(trust.obstacle)
    model.load(bundle, need, "TENM", Machine)
    if not trust.proven:
        _prove(model, bundle, trust)


def _unfit(why):
    return MidgeError("model.no_kernels", why)


def _require(need):
    # Raises unless this board's firmware runs code made for `need`, META's "machine".
    mpy = getattr(sys.implementation, "_mpy", 0)
    arch = _ARCHES.get(mpy >> 10 & 15, "none")
    if arch != need["arch"]:
        raise _unfit("machine code for %s, this board runs %s" % (need["arch"], arch))
    if mpy & 0x3FF != 0x306:
        raise _unfit("machine code of version 6.3, this firmware has %d.%d" % (mpy & 0xFF, mpy >> 8 & 3))
    oldest = tuple(int(part) for part in need["oldest_firmware"].split("."))
    if sys.implementation.version[: len(oldest)] < oldest:
        raise _unfit("machine code for firmware %s and later" % need["oldest_firmware"])


def _prove(model, bundle, trust):
    # The first calls of this code on this board, which may crash it.
    trust.trying()
    try:
        differ = model.self_test(bundle)
    except MidgeError:
        differ = True
    except BaseException:  # Ctrl-C: nothing is known
        trust.interrupted()
        raise
    if differ:
        trust.failed()
        raise _unfit("machine code failed its self-test")
    trust.passed()


class Machine:
    # A model's plan, see General.

    sections = ("PLNM", "PRMM", "KERN", "WGTM")

    @staticmethod
    def heap(bundle, need):
        return bundle.size("PRMM") + (bundle.size("WGTM") if need["residence"] == "ram" else 0)

    def __init__(self, model, bundle, arena):
        if model.info["machine"]["residence"] == "flash":
            from midge.kernels.weights import in_flash

            self._tiles = in_flash(bundle)
        else:
            self._tiles = _InRam(bundle.tiles("WGTM"))
        self.residence = self._tiles.residence
        self._params = bundle.words("PRMM")
        count = bundle.size("PLNM") // _CALL
        self._blocks = array("I", bytes(4 * _BLOCK * count))
        self._base = uctypes.addressof(self._blocks) >> 2
        self.rows = array("i", bytes(16 * count))
        self._routines = []  # by call
        # Tile and offset in it, by call, where a tile's address is only known when the call is made.
        self._streamed = array("i", bytes(8 * count)) if self.residence == "stream" else None
        kernels = _import(bundle)
        words = array("i", bytes(_CALL))
        bundle.seek("PLNM")
        for i in range(count):
            bundle.file.readinto(words)
            self._read_call(i, words, arena, kernels)

    def _read_call(self, i, words, arena, kernels):
        routine, in0, in1, out, tile, offset, param, scratch, row0, row1, operator, slice_rows = words
        routine = getattr(kernels, "k%d" % routine, None)
        if (
            routine is None
            or max(in0, in1, out, scratch) >= len(arena)
            or min(in0, in1, scratch, tile) < -1
            or min(out, param, row0) < 0
            or param > len(self._params)
            or not row0 <= row1
            or slice_rows < 1
            or (scratch >= 0 and scratch % _ALIGNMENT)
            or (tile >= 0 and (not 0 <= offset < self._tiles.size(tile) or offset % _ALIGNMENT))
        ):
            raise MidgeError("model.bad_bundle", "call %d leaves its memory" % i)
        self._routines.append(routine)
        block, at = self._blocks, _BLOCK * i
        base = uctypes.addressof(arena)
        if base % _ALIGNMENT:
            raise _unfit("the heap's memory is not aligned")
        block[at] = _ABI
        for word, place in ((1, in0), (2, in1), (3, out), (6, scratch)):
            block[at + word] = base + place if place >= 0 else 0
        if self._streamed is not None:
            self._streamed[2 * i] = tile
            self._streamed[2 * i + 1] = offset
        elif tile >= 0:
            block[at + 4] = self._tiles.address(tile) + offset
        block[at + 5] = uctypes.addressof(self._params) + 4 * param
        block[at + 7] = row0
        block[at + 8] = row1
        for j, word in enumerate((row0, row1, slice_rows, operator)):
            self.rows[4 * i + j] = word

    def start(self):
        self._tiles.check()

    def call(self, i):
        if self._streamed is not None:
            self._fetch(i)
        return self._routines[i](self._base + _BLOCK * i)

    def run(self, i, row, end):
        at = _BLOCK * i
        self._blocks[at + 7] = row
        self._blocks[at + 8] = end
        return self.call(i)

    def _fetch(self, i):
        # The call's weights from the file.
        tile = self._streamed[2 * i]
        if tile >= 0:
            self._blocks[_BLOCK * i + 4] = self._tiles.address(tile) + self._streamed[2 * i + 1]


class _InRam:
    residence = "ram"

    def __init__(self, tiles):
        self._tiles = tiles

    def size(self, tile):
        return len(self._tiles[tile]) if tile < len(self._tiles) else 0

    def address(self, tile):
        address = uctypes.addressof(self._tiles[tile])
        if address % _ALIGNMENT:
            raise _unfit("the heap's memory is not aligned")
        return address

    def check(self):
        pass


class _Section:
    # A file system that holds one file, a section of a bundle: the loader of .mpy files reads it where it lies.

    def __init__(self, bundle, kind, name):
        self._path = bundle.path
        self._offset = bundle.offset(kind)
        self._name = name

    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        pass

    def stat(self, path):
        if path != self._name:
            raise OSError(2)  # ENOENT
        return (0x8000, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def open(self, path, mode):
        file = open(self._path, "rb")
        file.seek(self._offset)
        return file


def _import(bundle):
    # The module of the bundle's routines, loaded once a boot: the memory of machine code is never given back.
    name = "midge_" + bundle.digest("KERN")
    if name not in sys.modules:
        folder = "/" + name
        vfs.mount(_Section(bundle, "KERN", folder + ".mpy"), folder)
        sys.path.insert(0, folder)
        try:
            __import__(name)
        except (ImportError, ValueError, OSError) as error:
            raise _unfit("machine code does not load: %s" % error)
        finally:
            sys.path.pop(0)
            vfs.umount(folder)
    return sys.modules[name]
