"""The raw REPL of any board, whatever the board does just now: mpremote's protocol on our line.

mpremote is imported here only. Its reads wait between characters and copy all that came for each; these read what is
there, and the line's deadline ends them. Raw REPL, raw paste: MicroPython's `docs/reference/repl.rst`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from mpremote.transport_serial import SerialTransport as MpremoteTransport

from midgehost.deploy.line import Line

_BANNER = b"raw REPL; CTRL-B to exit\r\n"
_REBOOT = b"soft reboot\r\n"
_END = b"\x04"  # of a program's output, and of its error's

_PAUSES = (0.0, 0.0005, 0.01)  # s between two Ctrl-C's of many, at most; one of these by chance
_CHATTER = 0.02  # s in which a board that is left alone says nothing


class RawRepl(MpremoteTransport):  # type: ignore[misc] - mpremote has no types
    """mpremote's protocol on our line. Its own constructor opens the port, and loses why it could not."""

    def __init__(self, line: Line) -> None:
        self.serial: Any = line
        self.in_raw_repl = False
        self.use_raw_paste = True
        self.mounted = False
        self.is_pty = True
        self._questions = 0
        self._mixed = False  # something else came with the answer

    # --- getting there ------------------------------------------------------------------------------------------------

    def interrupt(self, burst: float = 0.0) -> None:
        """Stops what runs: a program, half a paste, half a line.

        A `burst` of that many seconds is for programs that catch KeyboardInterrupt, and for boards that boot: of many
        Ctrl-C's, one comes while an earlier one is handled, outside of the `try`, or before main.py has come to it.
        """
        self.serial.write(b"\r\x03")
        end = time.monotonic() + burst
        while time.monotonic() < end:
            self.serial.drain(random.random() * random.choice(_PAUSES))
            self.serial.write(b"\x03")

    def enter(self) -> None:
        """From an interrupted program to the raw prompt."""
        self.serial.write(b"\r\x01")
        self.serial.skip_to(_BANNER)
        self.synchronise()

    def synchronise(self) -> None:
        """Reads up to the answer to a question of our own: banners of earlier tries would be taken for answers. The
        question does not hold its answer, so an echo is none; and `print` may be a name of the user's."""
        self._questions += 1
        number = self._questions
        self.serial.write(b"import builtins as _midge\n_midge.print('mid''ge',%d)\x04" % number)
        self.serial.skip_to(b"midge %d\r\n" % number)
        self._mixed = self.serial.read_until(_END) + self.serial.read_until(_END) != 2 * _END
        self.in_raw_repl = self.use_raw_paste = True  # mpremote gives raw paste up after one damaged answer

    def is_chatty(self) -> bool:
        """Whether something prints beside what we run: a timer, a thread. Our answers would be mixed with it."""
        return self._mixed or self.serial.gather(_CHATTER) > len(b">")

    def soft_reset(self) -> None:
        """From the raw prompt through boot.py back to it. Timers and threads end."""
        self.in_raw_repl = False
        self.serial.write(b"\x04")
        self.serial.skip_to(_REBOOT)
        self.serial.skip_to(_BANNER)
        self.synchronise()

    # --- what mpremote does with it -----------------------------------------------------------------------------------

    def read_until(
        self,
        min_num_bytes: int,
        ending: bytes,
        timeout: float | None = None,
        data_consumer: Callable[[bytes], None] | None = None,
        timeout_overall: float | None = None,
    ) -> bytes:
        """Everything up to `ending`; a consumer gets it in pieces as it comes. The line's deadline is the only one."""
        if data_consumer is None:
            return self.serial.read_until(ending)
        while True:
            piece = self.serial.read_part(ending)
            data_consumer(piece)
            if piece.endswith(ending):
                return piece

    def raw_paste_write(self, command_bytes: bytes) -> None:
        """Sends code as the board has room for it; what a timer prints meanwhile is passed over."""
        window = room = int.from_bytes(self.serial.read(2), "little")
        at = 0
        while at < len(command_bytes):
            while room == 0 or self.serial.inWaiting():
                byte = self.serial.read(1)
                if byte == b"\x01":
                    room += window
                elif byte == b"\x04":  # it has seen enough: a syntax error
                    self.serial.write(b"\x04")
                    return
            part = command_bytes[at : at + room]
            self.serial.write(part)
            at += len(part)
            room -= len(part)
        self.serial.write(b"\x04")
        self.serial.read_until(b"\x04")
