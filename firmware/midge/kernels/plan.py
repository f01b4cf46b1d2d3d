# A plan runs call by call, a call in slices of rows: what every kind of plan shares.

from midge.errors import MidgeError


class Plan:
    # `rows` has four words a call: first row, last row, rows a slice, operator. `compute` does rows of a call and
    # gives the kernel's status.

    rows = ()

    def __init__(self):
        self._at = self._done = 0  # in `rows`, and rows of that call; made here, as a run allocates nothing

    def compute(self, i, row, end):
        raise NotImplementedError

    def check(self):
        # Before every run.
        pass

    def run(self):
        self.start()
        while self.step() >= 0:
            pass

    def start(self):
        self.check()
        self._at = self._done = 0

    def step(self):
        # Computes the next slice and gives its operator, or -1 when all is done.
        at, rows = self._at, self.rows
        if at >= len(rows):
            return -1
        last = rows[at + 1]
        row = rows[at] + self._done
        end = row + rows[at + 2]
        if end >= last:
            end = last
            self._at += 4
            self._done = 0
        else:
            self._done += rows[at + 2]
        status = self.compute(at >> 2, row, end)
        if status:
            self.refused(at >> 2, status)
        return rows[at + 3]

    def refused(self, i, status):
        raise MidgeError("model.kernel_status", "operator %d: status %d" % (self.rows[4 * i + 3], status))
