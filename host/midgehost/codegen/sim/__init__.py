"""Emulated cores, on which generated kernels are run, counted and compared."""

from __future__ import annotations

import importlib
from typing import Final

from midgehost.codegen.sim.core import Core, Fault
from midgehost.errors import DataError, Missing

__all__ = ["ARCHES", "Core", "Fault", "core"]

# arch -> module below this package that defines `make(arch) -> Core`
ARCHES: Final = {"armv6m": "armv6m", "armv7emsp": "unicorn_core", "rv32imc": "unicorn_core", "xtensawin": "xtensa"}


def core(arch: str) -> Core:
    """A new core of that mpy arch. Raises DataError if there is none, Missing without the extra `sim`."""
    if arch not in ARCHES:
        raise DataError(f"There is no emulated {arch} core.", f"Choose one of {', '.join(ARCHES)}.")
    try:
        made: Core = importlib.import_module(f"{__name__}.{ARCHES[arch]}").make(arch)
    except ImportError as error:
        raise Missing(error.name or "the emulator", "sim") from None
    return made
