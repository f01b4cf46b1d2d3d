# machine.I2C and SoftI2C. A transfer is one request; a device that is not there or does not answer is OSError(EIO).
import _ops


def make(link, Pin):
    def number(pin):
        if pin is None:
            return _ops.NONE
        return Pin(pin)._number

    class SoftI2C:
        def __init__(self, scl, sda, *, freq=400000, timeout=50000):
            self._open(_ops.NONE, scl, sda)

        def _open(self, bus, scl, sda):
            link.request(_ops.I2C_OPEN, bus, number(sda), number(scl))
            self._sda, self._scl = link.answer[_ops.ANSWER], link.answer[_ops.ANSWER + 1]

        def _transfer(self, address, data, buf):
            if not 0 <= address < 128:
                raise ValueError("invalid I2C address")
            n = link.request(_ops.I2C, address, self._sda, self._scl, 0, len(buf), data)
            answer = link.answer
            for i in range(n):  # a slice would allocate
                buf[i] = answer[_ops.ANSWER + i]

        def scan(self):
            found = []
            for address in range(0x08, 0x78):
                try:
                    self._transfer(address, b"", b"")
                    found.append(address)
                except OSError:
                    pass
            return found

        def readfrom_into(self, address, buf, stop=True):
            self._transfer(address, b"", buf)

        def readfrom(self, address, nbytes, stop=True):
            buf = bytearray(nbytes)
            self._transfer(address, b"", buf)
            return bytes(buf)

        def writeto(self, address, buf, stop=True):
            self._transfer(address, buf, b"")
            return len(buf)

        def writevto(self, address, vector, stop=True):
            return self.writeto(address, b"".join(vector), stop)

        def readfrom_mem_into(self, address, register, buf, *, addrsize=8):
            self._transfer(address, _register(register, addrsize), buf)

        def readfrom_mem(self, address, register, nbytes, *, addrsize=8):
            buf = bytearray(nbytes)
            self._transfer(address, _register(register, addrsize), buf)
            return bytes(buf)

        def writeto_mem(self, address, register, buf, *, addrsize=8):
            self._transfer(address, bytes(_register(register, addrsize)) + bytes(buf), b"")

    class I2C(SoftI2C):
        def __init__(self, id=0, *, scl=None, sda=None, freq=400000, timeout=50000):
            self._open(id if 0 <= id < _ops.NONE else _ops.NONE - 1, scl, sda)

    return {"I2C": I2C, "SoftI2C": SoftI2C}


_one = bytearray(1)
_two = bytearray(2)


def _register(register, addrsize):
    if addrsize == 8:
        _one[0] = register
        return _one
    if addrsize != 16:
        raise ValueError("addrsize must be 8 or 16")
    _two[0] = register >> 8
    _two[1] = register & 255
    return _two
