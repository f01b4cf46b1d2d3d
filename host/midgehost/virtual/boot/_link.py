# The wire to the host: one request, one answer, over an inherited SEQPACKET socket. Allocates nothing itself, so that a
# sampling callback may use it.
import _ops


class Link:
    def __init__(self, fd):
        self._socket = open(fd, "r+b")
        self._out = bytearray(_ops.HEADER + _ops.PAYLOAD)
        self._seq = 0
        self.answer = bytearray(_ops.ANSWER + _ops.PAYLOAD)  # payload from index ANSWER on
        self.busy = False  # callbacks wait while it is set, see _interrupt

    def request(self, op, a=0, b=0, c=0, d=0, wanted=0, data=b""):
        # Length of the answer's payload. Raises what the host says: OSError(errno) or ValueError(text).
        if len(data) > _ops.PAYLOAD or wanted > _ops.PAYLOAD:
            raise ValueError("a virtual board transfers %d bytes at most" % _ops.PAYLOAD)
        self.busy = True
        try:
            got = self._exchange(op, a, b, c, d, wanted, data)
        finally:
            self.busy = False
        status = self.answer[0]
        if status == _ops.INVALID:
            raise ValueError(str(self.answer[_ops.ANSWER : got], "utf8"))
        if status:
            raise OSError(status)
        return got - _ops.ANSWER

    def _exchange(self, op, a, b, c, d, wanted, data):
        out = self._out
        seq = self._seq = (self._seq + 1) & 255
        out[0] = op
        out[1] = seq
        out[2] = a
        out[3] = b
        out[4] = c
        out[5] = d
        out[6] = wanted & 255
        out[7] = wanted >> 8
        n = _ops.HEADER
        for byte in data:  # a slice would allocate
            out[n] = byte
            n += 1
        self._socket.write(out, n)
        while True:
            if not self._socket.readinto(self.answer):
                raise SystemExit  # the host is gone
            if self.answer[1] == seq:  # another is the answer to a request that Ctrl-C broke off
                return _ops.ANSWER + self.answer[2] + (self.answer[3] << 8)
