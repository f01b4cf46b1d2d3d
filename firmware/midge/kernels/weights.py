# Weights that stay in flash. The host has cut them into tiles, each inside of one block of the bundle's littlefs file
# and followed by its CRC-32. Where flash can be read as memory (rp2 since MicroPython 1.25), a call gets the address of
# its tile in flash; blocks lie anywhere, but do not move while the file is not written to. Elsewhere each tile is read
# from the file into one of two buffers before its call. At every start one tile is checked again, in turn.

import binascii

import uctypes
from micropython import const

from midge.errors import MidgeError
from midge.kernels import forget

# The CRC-32 of anything that is followed by its CRC-32: a small int, so comparing allocates nothing.
_CHECKED = const(0x2144DF1C)


def in_flash(bundle):
    places = bundle.places("WGTM")
    start = bundle.offset("WGTM")
    for i in range(0, len(places), 2):
        places[i] += start
    try:
        from midge.kernels.blocks import views
    except ImportError:  # no rp2
        return Streamed(bundle.path, places)
    found = views(bundle.path, places)
    forget("midge.kernels.blocks")
    for view in found:
        if uctypes.addressof(view) % 16 or binascii.crc32(view) != _CHECKED:
            return Streamed(bundle.path, places)
    return Mapped(found) if found else Streamed(bundle.path, places)


class Mapped:
    # Tiles used where they lie.

    residence = "flash"

    def __init__(self, views):
        self._views = views
        self._turn = 0

    def size(self, tile):
        return len(self._views[tile]) - 4 if tile < len(self._views) else 0

    def address(self, tile):
        return uctypes.addressof(self._views[tile])

    def check(self):
        turn = self._turn
        if binascii.crc32(self._views[turn]) != _CHECKED:
            raise _moved()
        turn += 1
        self._turn = turn if turn < len(self._views) else 0


class Streamed:
    # Tiles read into two buffers in turn.

    residence = "stream"

    def __init__(self, path, places):
        self._file = open(path, "rb")
        self._places = places
        lengths = {places[i] for i in range(1, len(places), 2)}
        buffers = [bytearray(max(lengths)) for _ in range(2)]
        self._addresses = [uctypes.addressof(buffer) for buffer in buffers]
        self._views = [{n: memoryview(buffer)[:n] for n in lengths} for buffer in buffers]
        self._held = [-1, -1]
        self._filled = 0  # which buffer was filled last
        self._turn = 0
        self._due = False

    def size(self, tile):
        return self._places[2 * tile + 1] - 4 if 2 * tile < len(self._places) else 0

    def address(self, tile):
        # Where the tile lies until the second other tile after it is asked for.
        for i in range(2):
            if self._held[i] == tile:
                return self._addresses[i]
        i = self._filled = 1 - self._filled
        self._held[i] = -1
        length = self._places[2 * tile + 1]
        try:
            self._file.seek(self._places[2 * tile])
            whole = self._file.readinto(self._views[i][length]) == length
        except OSError:
            whole = False
        if whole and self._due and tile == self._turn:
            whole = binascii.crc32(self._views[i][length]) == _CHECKED
            self._due = not whole
        if not whole:
            raise _moved()
        self._held[i] = tile
        return self._addresses[i]

    def check(self):
        # The tile that is checked is the next one after that of the run before.
        if not self._due:
            self._due = True
            self._turn += 1
            if 2 * self._turn >= len(self._places):
                self._turn = 0


def _moved():
    return MidgeError("model.weights_moved", "the bundle's file was written to: load it again")
