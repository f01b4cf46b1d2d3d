"""What a board tells of itself, for the checks."""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass

from midgehost.boards import Board
from midgehost.deploy.devices import Found
from midgehost.deploy.probe import BoardInfo, probe
from midgehost.deploy.probe import set_clock as give_time
from midgehost.deploy.transport import SerialTransport

_READ_CLOCK = "import time\nprint(*time.gmtime()[:6])"
_ENTER_TIMEOUT = 5.0  # s


@dataclass(frozen=True)
class Facts:
    """`info` is None where the board was not asked: a node runs on it, or nothing answers. Clocks: seconds since 1970,
    UTC; `zone_s` is how far this computer's local time is ahead of it."""

    found: Found
    info: BoardInfo | None = None
    board: Board | None = None
    board_clock: int = 0
    host_clock: int = 0
    zone_s: int = 0


def facts_of(found: Found, *, set_clock: bool = False) -> Facts:
    """Interrupts the board, asks it, and starts again what ran. Raises what `Transport.exec` raises."""
    port = found.port
    with SerialTransport(port.path, port.path, port.time_scale, enter_timeout=_ENTER_TIMEOUT) as line:
        info = probe(line)
        now = time.gmtime()
        if set_clock:
            give_time(line, now)
        there = tuple(int(word) for word in line.exec(_READ_CLOCK).split())
        if not found.idle:
            line.reset()
    return Facts(
        found,
        info,
        info.board,
        board_clock=calendar.timegm((*there, 0, 0, 0)),
        host_clock=calendar.timegm(now),
        zone_s=time.localtime().tm_gmtoff,
    )
