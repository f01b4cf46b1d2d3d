"""A virtual board's pins as the host sees them: levels, their history, and inputs that the host drives."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from midgehost.virtual.boot import _ops


@dataclass
class _Pad:
    mode: int = _ops.PIN_IN
    pull: int = 0
    latch: int = 0  # what the program last wrote
    driven: int | None = None  # what the outside drives
    edges: int = 0  # that interrupt

    @property
    def level(self) -> int:
        if self.mode == _ops.PIN_OUT or (self.mode == _ops.PIN_OPEN_DRAIN and self.latch == 0):
            return self.latch
        if self.driven is not None:
            return self.driven
        return 1 if self.pull == _ops.PULL_UP or self.mode == _ops.PIN_OPEN_DRAIN else 0


class Pins:
    """Pads by number. `pins[15]` is the level now; `drive` sets an input from outside. Used from any thread."""

    def __init__(self, interrupt: Callable[[int, int], None], now: Callable[[], float] = time.monotonic) -> None:
        self.on_drive: Callable[[int, int | None], None] = lambda _pin, _level: None  # what `drive` is to tell
        self._now = now
        self._interrupt = interrupt  # (pin, edge), called with the lock held
        self._pads: defaultdict[int, _Pad] = defaultdict(_Pad)
        self._history: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)
        self._changed = threading.Condition(threading.RLock())

    def __getitem__(self, pin: int) -> int:
        with self._changed:
            return self._pads[pin].level

    def history(self, pin: int) -> list[tuple[float, int]]:
        """Every change of level: (seconds by the clock that it was made with, new level)."""
        with self._changed:
            return list(self._history[pin])

    def wait(self, pin: int, level: int, timeout: float) -> bool:
        """Waits until the pin has that level. False if it does not within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pads[pin].level == level, timeout)

    def drive(self, pin: int, level: int | None) -> None:
        """Drives a pin from outside; None lets it float."""
        with self._change(pin) as pad:
            pad.driven = None if level is None else int(bool(level))
        self.on_drive(pin, level)

    def driven(self, pin: int) -> int | None:
        """The level that the outside drives a pin to, None if it lets it float."""
        with self._changed:
            return self._pads[pin].driven

    # --- what the board does

    def configure(self, pin: int, mode: int, pull: int) -> None:
        with self._change(pin) as pad:
            pad.mode, pad.pull = mode, pull

    def write(self, pin: int, level: int) -> None:
        with self._change(pin) as pad:
            pad.latch = level

    def output(self, pin: int, level: int) -> None:
        """Makes a pin an output, and sets it."""
        with self._change(pin) as pad:
            pad.mode, pad.latch = _ops.PIN_OUT, level

    def watch(self, pin: int, edges: int) -> None:
        with self._changed:
            self._pads[pin].edges = edges

    def reset(self) -> None:
        """Every pad back to a floating input, as at power-on; what the outside drives stays."""
        for pin in list(self._pads):
            with self._change(pin) as pad:
                pad.mode, pad.pull, pad.latch, pad.edges = _ops.PIN_IN, 0, 0, 0

    @contextmanager
    def _change(self, pin: int) -> Generator[_Pad]:
        with self._changed:
            pad = self._pads[pin]
            was = pad.level
            yield pad
            if pad.level == was:
                return
            self._history[pin].append((self._now(), pad.level))
            edge = _ops.RISING if pad.level else _ops.FALLING
            if pad.edges & edge:
                self._interrupt(pin, edge)
            self._changed.notify_all()
