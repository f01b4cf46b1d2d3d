"""What DTR and RTS do to a board. Pure: levels and times go in, resets come out.

UartBridge is the two transistors of every development board (Espressif's "Boot Mode Selection"): RTS alone holds the
chip in reset, DTR alone pulls the boot pin down, both together do nothing. UsbJtag is the chip's own USB-Serial-JTAG
(technical reference manuals, "Reset SoC into Download Mode"): RTS alone resets it, and DTR alone, before, makes that
reset end in download mode.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

_RISE_S = 0.01  # what the capacitor at the reset pin takes; only then the chip looks at its boot pin


class Reset(Enum):
    """What happens to the chip."""

    HELD = "held"
    FLASH = "flash"  # it starts from its flash
    DOWNLOAD = "download"  # it starts in the ROM loader


class Circuit(Protocol):
    """Lines are True where asserted. Times are of one clock, in seconds."""

    def change(self, now: float, dtr: bool, rts: bool) -> list[Reset]:
        """The lines have new levels. What that does, and what has happened since the last change."""
        ...

    def passed(self, now: float) -> list[Reset]:
        """What has happened by now, with the lines as they are."""
        ...

    @property
    def due(self) -> float | None:
        """When `passed` will have something to say; None while that takes a change."""
        ...


class UartBridge:
    def __init__(self) -> None:
        self.due: float | None = None
        self._dtr = self._rts = False

    def change(self, now: float, dtr: bool, rts: bool) -> list[Reset]:
        happened = self.passed(now)
        was_held = self._rts and not self._dtr
        self._dtr, self._rts = dtr, rts
        held = rts and not dtr
        if held and not was_held:
            self.due = None
            happened.append(Reset.HELD)
        elif was_held and not held:
            self.due = now + _RISE_S
        return happened

    def passed(self, now: float) -> list[Reset]:
        if self.due is None or now < self.due:
            return []
        self.due = None
        return [Reset.DOWNLOAD if self._dtr and not self._rts else Reset.FLASH]


class UsbJtag:
    due: float | None = None

    def __init__(self) -> None:
        self._download = False
        self._resetting = False

    def change(self, now: float, dtr: bool, rts: bool) -> list[Reset]:
        was_resetting, self._resetting = self._resetting, rts and not dtr
        if not rts:
            self._download = dtr
        if self._resetting and not was_resetting:
            return [Reset.HELD, Reset.DOWNLOAD if self._download else Reset.FLASH]
        return []

    def passed(self, now: float) -> list[Reset]:
        return []
