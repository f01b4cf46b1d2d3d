# The flash chip: a file on the host behind MicroPython's block protocol, with erase, and power cuts inside a write.

_BLANK = b"\xff" * 256


class Flash:
    BLOCK = 4096

    def __init__(self, path, cut, on_cut):
        # cut: None, or (number of the write that is torn, thousandths of it that still arrive)
        self._file = open(path, "r+b")
        self._blocks = self._file.seek(0, 2) // self.BLOCK
        self._cut_at, self._cut_share = cut or (0, 0)
        self._on_cut = on_cut
        self._writes = 0

    def readblocks(self, block, buf, offset=0):
        # A board's driver is no Python: Ctrl-C does not end it halfway. Here it would leave littlefs with a cache that
        # believes to hold the block.
        try:
            self._read(block, buf, offset)
        except KeyboardInterrupt:
            self._read(block, buf, offset)
            raise

    def _read(self, block, buf, offset):
        self._file.seek(block * self.BLOCK + offset)
        self._file.readinto(buf)

    def writeblocks(self, block, buf, offset=0):
        self._write(block * self.BLOCK + offset, buf, len(buf))

    def ioctl(self, op, arg):
        if op == 4:
            return self._blocks
        if op == 5:
            return self.BLOCK
        if op == 6:
            self._write(arg * self.BLOCK, _BLANK, self.BLOCK)
        return 0

    def _write(self, at, buf, length):
        # `buf` over and over until `length` bytes are written
        self._writes += 1
        keep = length
        if self._writes == self._cut_at:
            keep = length * self._cut_share // 1000
        self._file.seek(at)
        left = keep
        while left > 0:
            left -= self._file.write(buf, min(left, len(buf)))
        if self._writes == self._cut_at:
            self._on_cut(at, length, keep)
