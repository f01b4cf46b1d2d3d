# machine.Timer: a thread that sleeps to each deadline and posts the callback. Which ids exist is the profile's matter.
import _thread
import time

import _interrupt
import _ops

_NAP_US = 5000  # how soon a thread notices deinit()


def make(link, controller):
    running = {}  # esp32: two objects with one id are one timer

    class Timer:
        ONE_SHOT, PERIODIC = 0, 1

        def __init__(self, id=-1, **options):
            link.request(_ops.TIMER, data=(id & 0xFFFFFFFF).to_bytes(4, "little"))
            self._id = id
            self._source = _interrupt.Source(controller, self)
            self._run = 0  # number of the thread that may post
            if options:
                self.init(**options)

        def init(self, *, mode=1, freq=-1, period=-1, tick_hz=1000, callback=None, hard=False):
            period_us = int(1000000 / freq) if freq > 0 else period * 1000000 // tick_hz
            if period_us <= 0:
                raise ValueError("a timer needs freq or period")
            if self._id >= 0:
                if self._id in running:
                    running[self._id].deinit()
                running[self._id] = self
            self._source.callback = callback
            self._run += 1
            _thread.start_new_thread(self._loop, (self._run, mode, period_us))

        def deinit(self):
            self._run += 1
            self._source.callback = None

        def _loop(self, run, mode, period_us):
            due = time.ticks_us()
            while True:
                due = time.ticks_add(due, period_us)
                while True:  # the collector's signal ends a sleep early
                    if self._run != run:
                        return
                    left = time.ticks_diff(due, time.ticks_us())
                    if left <= 0:
                        break
                    time.sleep_us(min(left, _NAP_US))
                self._source.post()
                if mode == 0:
                    return

    return Timer
