"""What the interpreter prints, turned into what a board sends: line ends, and no second banner after a raw soft reset.

The unix port writes `\\n` from `print` and `\\r\\n` from its REPL; a board sends `\\r\\n` for both. Its output is a
pipe, not a terminal, so nothing else touches it.
"""

from __future__ import annotations

import re

_RAW_BANNER = b"raw REPL; CTRL-B to exit"
_FRIENDLY_BANNER = b'Type "help()" for more'
_LONE_NEWLINE = re.compile(rb"(?<!\r)\n")


class Console:
    """One board's output. `raw` tells whether its REPL is in raw mode, as the banners that pass by say."""

    def __init__(self) -> None:
        self.raw = False
        self._last = b""  # enough of what went out to see a banner that two reads share
        self._hidden: bytes | None = None

    def hide_until_raw(self) -> None:
        """The next output is a friendly banner that a board does not print: drop it up to the raw one."""
        self._hidden = b""

    def feed(self, text: bytes) -> bytes:
        """The bytes that the board sends for this output."""
        if self._hidden is not None:
            self._hidden += text
            start = self._hidden.find(_RAW_BANNER)
            if start < 0:
                return b""
            text, self._hidden = self._hidden[start:], None
        after_return = self._last.endswith(b"\r")
        self._watch(text)
        if after_return and text.startswith(b"\n"):
            return b"\n" + _LONE_NEWLINE.sub(b"\r\n", text[1:])
        return _LONE_NEWLINE.sub(b"\r\n", text)

    def restart(self, *, soft: bool) -> None:
        """A new interpreter begins; a soft reset keeps the raw mode."""
        self.raw = self.raw and soft
        self._last, self._hidden = b"", None

    def _watch(self, text: bytes) -> None:
        seen = self._last + text
        raw, friendly = seen.rfind(_RAW_BANNER), seen.rfind(_FRIENDLY_BANNER)
        if raw != friendly:
            self.raw = raw > friendly
        self._last = seen[-len(_RAW_BANNER) :]
