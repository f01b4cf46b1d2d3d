"""Power cuts inside a flash write: what a real board can leave behind, and a killed process never does."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class PowerCut:
    """A power cut inside the `write`-th flash write since boot: `share` thousandths of its bytes still arrive."""

    write: int
    share: int

    @classmethod
    def seeded(cls, seed: int, writes: int) -> PowerCut:
        """A cut somewhere in the first `writes` writes."""
        chance = random.Random(seed)
        return cls(chance.randint(1, writes), chance.randrange(1000))


@dataclass(frozen=True)
class Torn:
    """What a power cut left: the write at `offset` of the flash was to be `length` bytes, `kept` of them arrived."""

    offset: int
    length: int
    kept: int
