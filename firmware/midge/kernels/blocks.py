# Where a file's bytes lie in the memory-mapped flash of an rp2 board. A littlefs file is a list of blocks: block 0 is
# all data, block n begins with ctz(n) + 1 words that lead to earlier blocks. littlefs itself says which flash blocks
# these are: a second, read-only littlefs on the same flash opens the file, and its reads are watched.

import os

import rp2
import vfs


class _Watched:
    # The flash as a block device that remembers the last block read. Nothing can be written through it.

    def __init__(self, flash):
        self._flash = flash
        self.block = 0

    def readblocks(self, block, buffer, offset=0):
        self.block = block
        return self._flash.readblocks(block, buffer, offset)

    def writeblocks(self, block, buffer, offset=0):
        raise OSError(30)  # EROFS

    def ioctl(self, request, argument):
        return self._flash.ioctl(request, argument) if request in (4, 5) else 0


def views(path, places):
    # A memoryview of the file's bytes for each (offset, length) of `places`, one after the other; none if the file is
    # on no littlefs of this flash, or the firmware (before 1.25) does not show its flash.
    flash = rp2.Flash()
    try:
        memory = memoryview(flash)
        watched = _Watched(flash)
        file = vfs.VfsLfs2(watched).open(path if path[0] == "/" else os.getcwd() + "/" + path, "rb")
    except (TypeError, OSError):
        return []
    size = flash.ioctl(5, 0) or 4096
    found = []
    known = -1
    for i in range(0, len(places), 2):
        n, at = _in_blocks(places[i], size)
        if n != known:
            file.seek(places[i])
            file.read(1)
            known = n
        start = watched.block * size + at
        found.append(memory[start : start + places[i + 1]])
    file.close()
    return found


def _in_blocks(offset, size):
    # (which block of the file, where in it) an offset is. lfs_ctz_index in littlefs' lfs.c.
    n = offset // (size - 8)
    if n:
        n = (offset - 4 * (_ones(n - 1) + 2)) // (size - 8)
    return n, offset - (size - 8) * n - 4 * _ones(n)


def _ones(n):
    count = 0
    while n:
        n &= n - 1
        count += 1
    return count
