"""What can go wrong between a chip and esptool, for tests: each field is one fault, and none happens by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

ALWAYS = 1 << 30


@dataclass
class Faults:
    """Faults of one board. The counts go down as the faults happen."""

    lost_answers: dict[int, int] = field(default_factory=dict)  # command -> how many of its answers are lost
    short_answers: dict[int, int] = field(default_factory=dict)  # command -> how many of its answers lack a byte
    flipped: int | None = None  # flash address whose lowest bit flips once it is written
    flipped_read: int | None = None  # flash address whose lowest bit flips on its way to the client
    dies_after: int | None = None  # data blocks that it takes before it says nothing any more
    vanishes_after: int | None = None  # data blocks that it takes before its port is gone
    chatter: bytes = b""  # sent before each of the first `chatters` answers to SYNC
    chatters: int = 0

    def take(self, counts: dict[int, int], command: int) -> bool:
        """Whether a fault of that command happens now."""
        left = counts.get(command, 0)
        counts[command] = max(left - 1, 0)
        return left > 0
