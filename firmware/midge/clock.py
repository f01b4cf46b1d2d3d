# Time as records carry it: integer milliseconds since 1970 where the board's clock is set, else since boot.

import time

_SET_FROM = 2024  # a board whose year is earlier was never told the time: Pico starts in 2021, ESP32 in 2000
_WRAP = 0x3FFFFFFF  # ticks_ms counts modulo 2**30 on boards, that is 12 days


class Clock:
    def __init__(self, source=time):
        self._time = source
        # Pico counts from 1970, ESP32 from 2000; the port itself knows.
        self._epoch_s = 0 if source.gmtime(0)[0] == 1970 else 946684800
        self._ticks = source.ticks_ms()
        self._uptime = 0

    def is_set(self):
        return self._time.gmtime()[0] >= _SET_FROM

    def now_ms(self):
        if self.is_set():
            return self._time.time_ns() // 1000000 + self._epoch_s * 1000
        return self.uptime_ms()

    def uptime_ms(self):
        # Since this clock was made. Must be called once in 12 days at least, or a turn of ticks_ms is lost.
        ticks = self._time.ticks_ms()
        self._uptime += (ticks - self._ticks) & _WRAP
        self._ticks = ticks
        return self._uptime
