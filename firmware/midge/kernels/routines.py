# A plan of machine code as it runs. A routine takes one small int, the address of its block >> 2; the block is DESIGN's
# nine words with absolute addresses. All blocks lie in one array.

from array import array

import uctypes
from micropython import const

from midge.kernels.plan import Plan

_BLOCK = const(9)  # words


class Routines(Plan):
    # `weights` knows where each tile is: an object with `residence`, `address(tile)` and `check()`.

    def __init__(self, count, longest, weights, params):
        super().__init__()
        self.residence = weights.residence
        self.rows = array("i", bytes(16 * count)) if longest > 65535 else array("H", bytes(8 * count))
        self.blocks = array("I", bytes(4 * _BLOCK * count))
        self.routines = []  # by call
        self.cut = bytearray(count)  # 1: more than one slice
        # Tile and offset in it by call, where a tile's address is known only when the call is made.
        self.places = array("i", bytes(8 * count)) if self.residence == "stream" else None
        self.check = weights.check
        self._weights = weights
        self._params = params  # kept: blocks have their addresses
        self._base = uctypes.addressof(self.blocks) >> 2

    def run(self):
        # In one sweep, as every call costs time beside its kernel's.
        self.check()
        cut = self.cut
        block = self._base
        i = 0
        for routine in self.routines:
            if cut[i]:
                status = self._in_slices(i)
            else:
                if self.places:
                    self._fetch(i)
                status = routine(block)
            if status:
                self.refused(i, status)
            block += _BLOCK
            i += 1

    def compute(self, i, row, end):
        at = _BLOCK * i
        self.blocks[at + 7] = row
        self.blocks[at + 8] = end
        if self.places:
            self._fetch(i)
        return self.routines[i](self._base + at)

    def _fetch(self, i):
        tile = self.places[2 * i]
        if tile >= 0:
            self.blocks[_BLOCK * i + 4] = self._weights.address(tile) + self.places[2 * i + 1]

    def _in_slices(self, i):
        row, last, size = self.rows[4 * i], self.rows[4 * i + 1], self.rows[4 * i + 2]
        while row < last:
            end = min(row + size, last)
            status = self.compute(i, row, end)
            if status:
                return status
            row = end
        return 0
