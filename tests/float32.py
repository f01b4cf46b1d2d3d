"""The device's detectors in single precision, as a board computes them: the same source on numpy's float32.

Every value that a detector keeps is read back as a `numpy.float32`, and an operation of one with a Python number is
done in float32; so each step rounds once, as on a board whose floats are single.
"""

from __future__ import annotations

import importlib
import sys
from array import array
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from midgehost.resources import firmware_dir

_PACKAGE = "_midge_float32"


def detector(kind: str, **params: Any) -> Any:
    """A detector of the device, in float32; feed it `numpy.float32` values."""
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(firmware_dir() / "midge")]
        sys.modules[_PACKAGE] = package
    made = importlib.import_module(f"{_PACKAGE}.anomaly").make(kind, params)
    for name, module in sys.modules.items():
        if name.startswith(f"{_PACKAGE}.anomaly.") and hasattr(module, "sqrt"):
            module.sqrt = np.sqrt  # type: ignore[attr-defined]
    _to_float32(made)
    return made


def feed(judge: Any, values: Iterable[float]) -> Iterator[tuple[float | None, bool]]:
    """Runs a float32 detector over values; yields (score, alarm) for each."""
    for x in np.asarray(values, dtype=np.float32):
        yield judge.update(x), bool(judge.alarm)


def _to_float32(owner: Any) -> None:
    for name, value in vars(owner).items():
        if isinstance(value, array) and value.typecode == "f":
            setattr(owner, name, np.array(value, dtype=np.float32))
        elif type(value).__module__.startswith(_PACKAGE):
            _to_float32(value)
