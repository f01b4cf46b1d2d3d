# Time as a board has it: whole seconds since the port's epoch, eight-tuples, a clock that nobody has set at power-on.
import time

import _module
import _ops

_unix = time.time
_unix_ns = time.time_ns
_gmtime = time.gmtime
_mktime = time.mktime


def make(link, epoch, ahead):
    # epoch: Unix time of the port's second 0; ahead: seconds that the board's clock is ahead of the host's. -> RTC
    offset = [ahead]

    def now():
        return int(_unix()) + offset[0] - epoch

    def gmtime(seconds=None):
        return _gmtime((now() if seconds is None else int(seconds)) + epoch)[:8]

    def mktime(fields):
        return int(_mktime(tuple(fields[:8]) + (0,))) - epoch

    def time_ns():
        return _unix_ns() + (offset[0] - epoch) * 1000000000

    class RTC:
        def datetime(self, fields=None):
            # (year, month, day, weekday, hours, minutes, seconds, subseconds)
            if fields is None:
                t = gmtime()
                return (t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0)
            year, month, day, _, hours, minutes, seconds, _ = fields
            wanted = mktime((year, month, day, hours, minutes, seconds, 0, 0))
            offset[0] += wanted - now()
            link.request(_ops.CLOCK, data=(offset[0] & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little"))

    _module.Module(
        time, without=("clock", "ticks_cpu"), time=now, time_ns=time_ns, gmtime=gmtime, localtime=gmtime, mktime=mktime
    )
    return RTC
