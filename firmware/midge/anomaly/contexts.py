# What a signal did before, in 188 bytes: which levels it visited, in which order, and how long it stayed.
#
# Two tracks (the signal and a smoothed copy), eight levels each. One bit an event: a level, a pair and a triple of
# successive levels (repeats removed), and a stay that reached 2^m samples at a level. It never forgets.

from array import array

_TRACKS = 2
_LEVELS = 0  # bit offsets within a track's 89 bytes
_PAIRS = 8
_TRIPLES = 72
_STAYS = 584
_TRACK_BITS = 712
_LONGEST = 1 << 15  # the last stay that has a bit


class Contexts:
    def __init__(self):
        self._seen = bytearray(_TRACKS * _TRACK_BITS // 8)
        self._last = bytearray(_TRACKS * 3)  # the last three levels of each track, the newest first
        self._stay = array("H", bytes(2 * _TRACKS))

    def reset(self):
        for buffer in (self._seen, self._last, self._stay):
            for i in range(len(buffer)):
                buffer[i] = 0

    def state(self):
        return self._seen, self._last, self._stay

    def surprise(self, track, level):
        # Half-points for what this track sees for the first time: 2 a level, 4 a pair, 1 a triple, 2 a long stay.
        last = self._last
        at = track * 3
        if level != last[at]:
            last[at + 2] = last[at + 1]
            last[at + 1] = last[at]
            last[at] = level
            self._stay[track] = 1
            pair = last[at + 1] << 3 | level
            return (
                2 * self._first(track, _LEVELS + level)
                + 4 * self._first(track, _PAIRS + pair)
                + self._first(track, _TRIPLES + (last[at + 2] << 6 | pair))
            )
        stay = self._stay[track]
        if stay == _LONGEST:
            return 0
        stay += 1
        self._stay[track] = stay
        if stay & (stay - 1):
            return 0
        power = 0
        while stay >> power > 1:
            power += 1
        return 2 * (self._first(track, _STAYS + (level << 4 | power)) and power >= 3)

    def _first(self, track, event):
        # True the first time that this is asked.
        bit = track * _TRACK_BITS + event
        seen = self._seen
        mask = 1 << (bit & 7)
        if seen[bit >> 3] & mask:
            return False
        seen[bit >> 3] |= mask
        return True
