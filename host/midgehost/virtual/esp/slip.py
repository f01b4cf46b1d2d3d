"""SLIP frames (RFC 1055): END, the content with END and ESC escaped, END."""

from __future__ import annotations

import re

_END, _ESC, _ESC_END, _ESC_ESC = b"\xc0", b"\xdb", b"\xdb\xdc", b"\xdb\xdd"
_BAD_ESCAPE = re.compile(rb"\xdb(?![\xdc\xdd])")
_LONGEST = 1 << 16


def encode(content: bytes) -> bytes:
    """The frame of that content."""
    return _END + content.replace(_ESC, _ESC_ESC).replace(_END, _ESC_END) + _END


class Decoder:
    """Finds the frames in a stream. Noise before the first END, bad escapes and what has no end are dropped."""

    def __init__(self) -> None:
        self._frame: bytearray | None = None  # None: no END seen yet, or given up on

    def feed(self, data: bytes) -> list[bytes]:
        """The contents of the frames that end in `data`."""
        frames: list[bytes] = []
        for i, part in enumerate(data.split(_END)):
            if i:  # an END came before it
                if self._frame and not _BAD_ESCAPE.search(self._frame):
                    frames.append(bytes(self._frame).replace(_ESC_END, _END).replace(_ESC_ESC, _ESC))
                self._frame = bytearray()
            if self._frame is not None:
                self._frame += part
                if len(self._frame) > _LONGEST:
                    self._frame = None
        return frames
