"""The device's own detectors and spectrum with their machine code on an emulated core.

The arrays of a device object lie in Python; each call copies them to the core and back. Floats are numpy's float32, so
that what a class computes in Python rounds as on a board.
"""

from __future__ import annotations

import importlib
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from midgehost.codegen import sim
from midgehost.codegen.signal.module import machine_code
from midgehost.resources import firmware_dir

_PACKAGE = "_midge_emulated"
_WITH_FLOATS = ("anomaly.scales", "anomaly.probation", "anomaly.context")


class EmulatedDevice:
    """Stands in for the parts of midge.kernels.signal that only a board has."""

    def __init__(self, arch: str) -> None:
        self.arch = arch
        self.counts: list[int] = []  # what each call took, in the core's unit
        self._core = sim.core(arch)
        self._buffers: dict[int, tuple[int, Any]] = {}  # by address on the core
        self._code: dict[tuple[str, str], int] = {}

    def close(self) -> None:
        """Frees the core."""
        self._core.close()

    def module(self, name: str) -> Any:
        """A module of the device package."""
        return importlib.import_module(f"{_PACKAGE}.{name}")

    def routine(self, module: str, name: str) -> Callable[[int], int]:
        """A function of the machine code's modules."""
        if (module, name) not in self._code:
            self._code[module, name] = self._core.load(machine_code(module, name, self.arch))
        return lambda at: self._call(self._code[module, name], at << 2)

    def address(self, buffer: Any) -> int:
        """Where a buffer lies on the core."""
        for at, (_, known) in self._buffers.items():
            if known is buffer:
                return at
        at = self._core.put(bytes(buffer))
        self._buffers[at] = (len(bytes(buffer)), buffer)
        return at

    def _call(self, code: int, block: int) -> int:
        for at, (_, buffer) in self._buffers.items():
            self._core.write(at, bytes(buffer))
        status, count = self._core.call(code, block)
        self.counts.append(count)
        for at, (size, buffer) in self._buffers.items():
            memoryview(buffer).cast("B")[:] = self._core.read(at, size)
        return status


@contextmanager
def emulated(arch: str) -> Iterator[EmulatedDevice]:
    """A core, and the device package on it."""
    device = EmulatedDevice(arch)
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(firmware_dir() / "midge")]
    sys.modules[_PACKAGE] = package
    sys.modules["micropython"] = micropython = ModuleType("micropython")
    vars(micropython)["native"] = lambda function: function
    try:
        signal: Any = device.module("kernels.signal")
        signal.routine, signal.address = device.routine, device.address
        for name in _WITH_FLOATS:
            device.module(name).array = _array
        yield device
    finally:
        device.close()
        del sys.modules["micropython"]
        for name in [name for name in sys.modules if name.split(".")[0] == _PACKAGE]:
            del sys.modules[name]


class _Floats(np.ndarray[Any, np.dtype[np.float32]]):
    """An array of single precision that is true or false as the device's are."""

    def __bool__(self) -> bool:
        return len(self) > 0


def _array(kind: str, values: Any) -> Any:
    """An array; floats are numpy's."""
    if kind != "f":
        return array(kind, values)
    made = np.frombuffer(values, np.float32).copy() if isinstance(values, bytes) else np.array(values, np.float32)
    return made.view(_Floats)
