"""The pure device modules, on the host: one implementation of detectors, features, records and forests, run twice.

Detectors, features, records, forests and the check of updates import nothing that CPython lacks. They are loaded from
the device package by path, under a private name: `midge` itself is importable on boards only.

A board's floats are single precision. CPython's are not, so `detector()` and `feed()` round what goes in, and the
modules keep their state in single-precision arrays: the alarms are those of a board.
"""

from __future__ import annotations

import importlib
import sys
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import Any, Protocol, cast

from midgehost.resources import firmware_dir

_PACKAGE = "_midge_device"
PURE = ("anomaly", "crypto", "errors", "features", "fft", "forest", "manifest", "records", "update")
DETECTORS = ("window", "multiscale", "context")


class Detector(Protocol):
    """A streaming detector: see `firmware/midge/anomaly`."""

    threshold: float
    alarm: bool

    def update(self, x: float) -> float | None:
        """The score of x, or None while there is too little to judge by. Raises ValueError for NaN and infinity."""
        ...

    def reset(self) -> None:
        """Forgets every sample; the parameters stay."""
        ...


class Features(Protocol):
    """A feature extractor over windows of raw counts: see `firmware/midge/features.py`."""

    size: int
    out: array[float]

    def extract(self, buf: array[int]) -> array[float]:
        """Features of `window * channels` interleaved int16 counts, channel by channel, in `out`."""
        ...


@cache
def module(name: str) -> ModuleType:
    """The pure device module `name`, one of `PURE`. Raises ValueError for any other."""
    if name not in PURE:
        raise ValueError(f"{name!r} is no pure device module: use one of {', '.join(PURE)}")
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE, "midge's pure device modules, as the host runs them.")
        package.__path__ = [str(firmware_dir() / "midge")]
        sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.{name}")


def detector(kind: str, **params: Any) -> Detector:
    """A new detector, `kind` being one of `DETECTORS`. Raises ValueError for an unknown kind or a bad parameter."""
    return cast(Detector, module("anomaly").make(kind, params))


def features(names: Iterable[str], window: int, rate_hz: float, channels: int = 1, scale: float = 1.0) -> Features:
    """A feature extractor; `scale` is the unit per count. Raises ValueError for an unknown name or a bad window."""
    return cast(Features, module("features").Features(list(names), window, rate_hz, channels, scale))


def feed(judge: Detector, values: Iterable[float]) -> Iterator[tuple[float | None, bool]]:
    """Runs a detector over values as a board would see them, in single precision; yields (score, alarm) for each."""
    for x in array("f", values):
        yield judge.update(x), judge.alarm
