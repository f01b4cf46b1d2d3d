# What calls back into the program: a timer or a pin. Callbacks run from MicroPython's scheduler, between bytecodes, and
# like a board's soft interrupts they wait for the end of a bus transfer and for enable_irq().
import micropython

_schedule = micropython.schedule


class Controller:
    def __init__(self, link):
        self.link = link
        self.enabled = True

    def disable(self):
        was = self.enabled
        self.enabled = False
        return was

    def enable(self, state=True):
        self.enabled = state


class Source:
    def __init__(self, controller, owner):
        self.callback = None
        self._controller = controller
        self._owner = owner
        self._deliver_bound = self._deliver  # made once: a bound method is an allocation

    def post(self):
        # From any thread. A full scheduler queue loses the call, as on a board.
        try:
            _schedule(self._deliver_bound, None)
        except RuntimeError:
            pass

    def _deliver(self, _):
        if self._controller.link.busy or not self._controller.enabled:
            self.post()
        elif self.callback:
            self.callback(self._owner)
