"""The device's detectors over a recording, before anyone deploys."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midgehost import twin
from midgehost.errors import DataError

_LARGEST = 1e30  # of a parameter: single-precision floats end at 3e38


@dataclass(frozen=True)
class Alarm:
    """One alarm: the sample's number and, where the recording has one, its time stamp."""

    index: int
    time: str
    score: float


@dataclass(frozen=True)
class Detection:
    """What a detector said: a score a sample (None while it learns), the alarms, the samples that are no numbers."""

    scores: list[float | None]
    alarms: list[Alarm]
    threshold: float
    skipped: list[int]


def detect(values: Sequence[float], kind: str, times: Sequence[str] = (), **params: Any) -> Detection:
    """Runs detector `kind` (window, multiscale, context). A NaN or infinity is skipped and listed.

    Raises DataError for an unknown kind or a bad parameter.
    """
    judge = _make(kind, params)
    scores: list[float | None] = []
    alarms: list[Alarm] = []
    skipped: list[int] = []
    for index, value in enumerate(values):
        try:
            ((score, alarm),) = twin.feed(judge, [value])
        except ValueError:
            skipped.append(index)
            scores.append(None)
            continue
        scores.append(score)
        if alarm and score is not None:
            alarms.append(Alarm(index, times[index] if index < len(times) else "", score))
    return Detection(scores, alarms, judge.threshold, skipped)


def _make(kind: str, params: Mapping[str, Any]) -> twin.Detector:
    if kind not in twin.DETECTORS:
        raise DataError(f"There is no detector {kind!r}.", f"Use one of {', '.join(twin.DETECTORS)}.")
    known = inspect.signature(type(twin.detector(kind))).parameters
    for name in params:
        if name not in known:
            raise DataError(f"The {kind} detector has no {name}.", f"It takes {', '.join(known)}.")
        if not abs(params[name]) < _LARGEST:
            raise DataError(f"{name} cannot be {params[name]}.", f"Give a number below {_LARGEST:g}.")
    try:
        return twin.detector(kind, **params)
    except (ValueError, OverflowError, MemoryError) as error:
        raise DataError(f"The {kind} detector does not take this: {error}.", "Change that parameter.") from None
