# Weights in flash that cannot be read as memory: each tile is read from the bundle's file into one of two buffers
# before its call. In every run one tile is checked again, in turn.

import uctypes

from midge.kernels.weights import moved, sound


class Streamed:
    residence = "stream"

    def __init__(self, path, places):
        self._file = open(path, "rb")
        self._places = places
        lengths = {places[i] for i in range(1, len(places), 2)}
        self._buffers = [bytearray(max(lengths)) for _ in range(2)]
        self._addresses = [uctypes.addressof(buffer) for buffer in self._buffers]
        self._views = {n: memoryview(self._buffers[0])[:n] for n in lengths}  # to check a tile in the first buffer
        self._held = [-1, -1]
        self._filled = 0  # which buffer was filled last
        self._reads = 0  # in this run
        self._turn = 0  # which of them is checked
        self._due = self._moved = False

    def address(self, tile):
        # Where the tile lies until another one is asked for.
        held = self._held
        if held[0] == tile:
            return self._addresses[0]
        if held[1] == tile:
            return self._addresses[1]
        check = self._reads == self._turn
        self._reads += 1
        i = 0 if check else 1 - self._filled
        held[i] = -1
        length = self._places[2 * tile + 1]
        try:
            self._file.seek(self._places[2 * tile])
            whole = self._file.readinto(self._buffers[i], length) == length
        except OSError:
            whole = False
        if not whole or (check and not sound(self._views[length])):
            self._moved = True
            raise moved()
        if check:
            self._due = False
        held[i] = tile
        self._filled = i
        return self._addresses[i]

    def check(self):
        if self._moved:
            raise moved()
        self._turn = 0 if self._due else self._turn + 1  # due: the run before had no such read
        self._reads = 0
        self._due = True
