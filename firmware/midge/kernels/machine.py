# Machine code: routines that the host generated for this board's arch. This module reads them and their plan from a
# bundle and makes every call's block; routines.py runs it.

import sys

import uctypes
import vfs
from micropython import const

from midge.errors import MidgeError
from midge.kernels import forget
from midge.kernels.routines import Routines
from midge.kernels.weights import Mapped, Tiles, sound

SECTIONS = ("PLNM", "PRMM", "KERN", "WGTM")

_ABI = const(1)
_BLOCK = const(9)  # words
_CALL = const(12)  # words of a call in PLNM
_ALIGNMENT = const(16)  # of arena, tiles, scratch
_ARCHES = {4: "armv6m", 6: "armv7emsp", 7: "armv7emsp", 8: "armv7emsp", 10: "xtensawin", 11: "rv32imc"}


def require(bundle, need):
    # Raises MidgeError unless this board runs code made for `need`, META's "machine"; gives what is known about it.
    if bundle.damage:
        raise bundle.damage
    _require_firmware(need)
    from midge.kernels.trust import Trust

    trust = Trust(bundle.path, bundle.digest(*SECTIONS))
    forget("midge.kernels.trust")
    if trust.obstacle:
        raise _unfit(trust.obstacle)
    return trust


def heap(bundle, need):
    # Bytes that the plan takes at least, beside the arena.
    return bundle.size("PRMM") + (bundle.size("WGTM") if need["residence"] == "ram" else 0)


def read(bundle, arena, need):
    # The plan of the bundle's machine code.
    places = bundle.places("WGTM")
    weights = _weights(bundle, places, need)
    sizes = [places[i] - (4 if need["residence"] == "flash" else 0) for i in range(1, len(places), 2)]
    params = bundle.words("PRMM")
    words = bundle.words("PLNM")
    count = len(words) // _CALL
    longest = max(words[i] for i in range(9, len(words), _CALL))
    plan = Routines(count, longest, weights, params)
    kernels = _import(bundle)
    for i in range(count):
        _read_call(plan, i, words[_CALL * i : _CALL * (i + 1)], arena, params, weights, sizes, kernels)
    return plan


def _unfit(why):
    return MidgeError("model.no_kernels", why)


def _require_firmware(need):
    mpy = getattr(sys.implementation, "_mpy", 0)
    arch = _ARCHES.get(mpy >> 10 & 15, "none")
    if arch != need["arch"]:
        raise _unfit("machine code for %s, this board runs %s" % (need["arch"], arch))
    if mpy & 0x3FF != 0x306:
        raise _unfit("machine code of version 6.3, this firmware has %d.%d" % (mpy & 0xFF, mpy >> 8 & 3))
    oldest = tuple(int(part) for part in need["oldest_firmware"].split("."))
    if sys.implementation.version[: len(oldest)] < oldest:
        raise _unfit("machine code for firmware %s and later" % need["oldest_firmware"])


def _weights(bundle, places, need):
    if need["residence"] == "ram":
        return Tiles(bundle.tiles("WGTM"))
    start = bundle.offset("WGTM")
    for i in range(0, len(places), 2):
        places[i] += start
    try:
        from midge.kernels.blocks import views

        tiles = views(bundle.path, places)
        forget("midge.kernels.blocks")
        if tiles and not any(uctypes.addressof(tile) % _ALIGNMENT for tile in tiles) and all(map(sound, tiles)):
            return Mapped(tiles)
    except ImportError:  # no rp2
        pass
    from midge.kernels.streamed import Streamed

    return Streamed(bundle.path, places)


def _read_call(plan, i, words, arena, params, weights, sizes, kernels):
    routine, in0, in1, out, tile, offset, param, scratch, row0, row1, operator, slice_rows = words
    routine = getattr(kernels, "k%d" % routine, None)
    if (
        routine is None
        or max(in0, in1, out, scratch) >= len(arena)
        or min(in0, in1, scratch, tile) < -1
        or min(out, param, row0) < 0
        or param > len(params)
        or not row0 <= row1
        or slice_rows < 1
        or (scratch >= 0 and scratch % _ALIGNMENT)
        or (tile >= 0 and (tile >= len(sizes) or not 0 <= offset < sizes[tile] or offset % _ALIGNMENT))
    ):
        raise MidgeError("model.bad_bundle", "call %d leaves its memory" % i)
    block, at = plan.blocks, _BLOCK * i
    base = uctypes.addressof(arena)
    block[at] = _ABI
    for word, place in ((1, in0), (2, in1), (3, out), (6, scratch)):
        block[at + word] = base + place if place >= 0 else 0
    if plan.places:
        plan.places[2 * i] = tile
        plan.places[2 * i + 1] = offset
    elif tile >= 0:
        block[at + 4] = weights.address(tile) + offset
    block[at + 5] = uctypes.addressof(params) + 4 * param
    block[at + 7] = row0
    block[at + 8] = row1
    if (base | block[at + 4]) % _ALIGNMENT:
        raise _unfit("the heap's memory is not aligned")
    plan.routines.append(routine)
    plan.cut[i] = slice_rows < row1 - row0
    for j, word in enumerate((row0, row1, min(slice_rows, row1), operator)):
        plan.rows[4 * i + j] = word


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
