# machine.Pin, PWM and ADC. Levels live on the host, where tests see and drive them; edges come over another socket.
import _thread

import _interrupt
import _ops
import machine


def make(link, controller, events_fd):
    pins = {}  # number -> Pin; a pin is one object, as on a board

    def listen():
        events = open(events_fd, "rb")
        event = bytearray(2)  # number, edge
        while events.readinto(event):
            pins[event[0]]._edge(event[1])

    class Pin(machine.PinBase):
        IN, OUT, OPEN_DRAIN = _ops.PIN_IN, _ops.PIN_OUT, _ops.PIN_OPEN_DRAIN
        PULL_UP, PULL_DOWN = _ops.PULL_UP, _ops.PULL_DOWN
        IRQ_RISING, IRQ_FALLING = _ops.RISING, _ops.FALLING
        _listening = False

        def __new__(cls, id, *args, **options):
            if isinstance(id, Pin):
                return id
            if isinstance(id, str):
                link.request(_ops.PIN_OPEN, _ops.NONE, data=id.encode())
            else:
                link.request(_ops.PIN_OPEN, _number(id))
            number = link.answer[_ops.ANSWER]
            pin = pins.get(number)
            if pin is None:
                pin = pins[number] = super().__new__(cls)
                pin._number, pin._mode, pin._source, pin._flags = number, _ops.PIN_IN, None, 0
            return pin

        def __init__(self, id, mode=-1, pull=None, *, value=None):
            if mode != -1 or pull is not None or value is not None:
                self.init(mode, pull, value=value)

        def init(self, mode=-1, pull=None, *, value=None):
            if value is not None:
                link.request(_ops.PIN_WRITE, self._number, 1 if value else 0)
            if mode != -1:
                self._mode = mode
            link.request(_ops.PIN_INIT, self._number, self._mode, pull or 0)

        def value(self, level=None):
            if level is None:
                link.request(_ops.PIN_READ, self._number)
                return link.answer[_ops.ANSWER]
            link.request(_ops.PIN_WRITE, self._number, 1 if level else 0)

        def __call__(self, *level):
            return self.value(*level)

        def on(self):
            self.value(1)

        def off(self):
            self.value(0)

        high, low = on, off

        def toggle(self):
            self.value(1 - self.value())

        def irq(self, handler=None, trigger=_ops.RISING | _ops.FALLING, hard=False):
            if self._source is None:
                self._source = _interrupt.Source(controller, self)
            self._source.callback = handler
            link.request(_ops.PIN_IRQ, self._number, trigger if handler else 0)
            if not Pin._listening:
                Pin._listening = True
                _thread.start_new_thread(listen, ())
            return self

        def flags(self):
            return self._flags

        def _edge(self, edge):
            self._flags = edge
            self._source.post()

        def __repr__(self):
            return "Pin(%d)" % self._number

    class PWM:
        def __init__(self, pin, *, freq=0, duty_u16=0):
            self._pin = pin if isinstance(pin, Pin) else Pin(pin)
            self._freq, self._duty = freq, duty_u16
            self._send()

        def freq(self, hz=None):
            if hz is None:
                return self._freq
            self._freq = hz
            self._send()

        def duty_u16(self, duty=None):
            if duty is None:
                return self._duty
            self._duty = duty
            self._send()

        def deinit(self):
            self._freq = 0
            self._send()

        def _send(self):
            data = self._freq.to_bytes(4, "little") + self._duty.to_bytes(2, "little")
            link.request(_ops.PWM, self._pin._number, data=data)

    class ADC:
        def __init__(self, pin):
            if isinstance(pin, int):
                link.request(_ops.ADC_OPEN, _number(pin), 1)
            else:
                link.request(_ops.ADC_OPEN, pin._number)
            self._number = link.answer[_ops.ANSWER]

        def read_u16(self):
            link.request(_ops.ADC_READ, self._number)
            return link.answer[_ops.ANSWER] | link.answer[_ops.ANSWER + 1] << 8

    return {"Pin": Pin, "PWM": PWM, "ADC": ADC}


def _number(id):
    return id if 0 <= id < _ops.NONE else _ops.NONE
