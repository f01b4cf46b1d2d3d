# Weights in tiles that do not move: in RAM, or in flash that can be read as memory (rp2 since MicroPython 1.25). In
# flash each tile is followed by its CRC-32 and lies in one block of the bundle's littlefs file; blocks lie anywhere,
# but stay there while the file is not written to. Before every run one tile is checked again, in turn.

import binascii

import uctypes
from micropython import const

from midge.errors import MidgeError

# The CRC-32 of anything that is followed by its CRC-32: a small int, so comparing allocates nothing.
_CHECKED = const(0x2144DF1C)


def sound(tile):
    return binascii.crc32(tile) == _CHECKED


def moved():
    return MidgeError("model.weights_moved", "the bundle's file was written to: load it again")


class Tiles:
    residence = "ram"

    def __init__(self, tiles):
        self._tiles = tiles
        self._turn = 0

    def address(self, tile):
        return uctypes.addressof(self._tiles[tile])

    def check(self):
        pass


class Mapped(Tiles):
    residence = "flash"

    def check(self):
        if not sound(self._tiles[self._turn]):
            raise moved()
        turn = self._turn + 1
        self._turn = turn if turn < len(self._tiles) else 0
