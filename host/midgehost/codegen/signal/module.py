"""The detectors and the spectrum as .mpy modules of machine code, one for each device module that uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from midgehost.codegen.ir.code import Builder
from midgehost.codegen.kernels import LOWERINGS
from midgehost.codegen.mpy import write_module
from midgehost.codegen.signal import detectors, spectrum

# Module below midge.kernels -> its functions. Each takes the address of its block >> 2 and returns a status.
MODULES: Final[Mapping[str, Mapping[str, Callable[[Builder], None]]]] = {
    "multiscale": {"step": detectors.multiscale},
    "context": {"step": detectors.context},
    "spectrum": {"transform": spectrum.transform, "magnitudes": spectrum.magnitudes},
}


def signal_module(name: str, arch: str) -> bytes:
    """One of MODULES as an .mpy file."""
    code = {function: machine_code(name, function, arch) for function in MODULES[name]}
    return write_module(arch, f"{name}.py", code)


@cache
def machine_code(name: str, function: str, arch: str) -> bytes:
    """A function of one of MODULES."""
    lowering = LOWERINGS[arch]()
    builder = Builder(lowering.features)
    MODULES[name][function](builder)
    return lowering.assemble(builder)
