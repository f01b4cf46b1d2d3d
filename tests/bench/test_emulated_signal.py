"""Machine code for signals on the stock Pico image: proven at first use, and left alone where that fails."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from emulated import stock_image

from midgehost.codegen.ir.code import Builder
from midgehost.codegen.ir.lower_thumb import ThumbLowering
from midgehost.codegen.mpy import write_module
from midgehost.deploy.modules import compile_modules
from midgehost.virtual.emulated import EmulatedPico

pytestmark = pytest.mark.emulated

MODULE = "/lib/midge/kernels/multiscale.mpy"
_START = """
import os, sys
from midge.anomaly import make
judge = make('multiscale')
scores = []
for i in range(310):
    x = (i * 7919 %% 101) / 8
    scores.append(judge.update(x))
def text(path):
    try:
        return open(path).read()
    except OSError:
        return None
print('update' in judge.__dict__, text(%r + '.try'), text(%r + '.ok'))
print(['%%.4f' %% score for score in scores[300:]], 'midge.kernels.rehearsal' in sys.modules)
"""
START = _START % (MODULE, MODULE)


def pico(changed: Mapping[str, bytes] | None = None) -> EmulatedPico:
    stock_image()
    modules = compile_modules(["anomaly.multiscale", "anomaly.context", "fft"], "armv6m")
    return EmulatedPico(files={f"/lib/{path}": data for path, data in modules.items()} | dict(changed or {}))


def wrong() -> bytes:
    """Code that answers every sample with a score that it never wrote."""
    lowering = ThumbLowering()
    builder = Builder(lowering.features)
    builder.finish(2)
    return write_module("armv6m", "multiscale.py", {"step": lowering.assemble(builder)})


def endless() -> bytes:
    """Code that never ends."""
    lowering = ThumbLowering()
    builder = Builder(lowering.features)
    with builder.forever():
        pass
    builder.finish()
    return write_module("armv6m", "multiscale.py", {"step": lowering.assemble(builder)})


def test_it_is_proven_once() -> None:
    with pico() as board:
        used, trying, proven = board.exec(START, 60).splitlines()[0].split(maxsplit=2)
        assert (used, trying) == ("True", "None")
        digest, firmware = proven.split()
        assert len(digest) == 16
        board.reset()
        again = board.exec("import os\nos.remove('/lib/midge/kernels/rehearsal.mpy')\n" + START, 60)
        assert again.splitlines()[0] == f"True None {digest} {firmware}"


def test_what_fails_the_rehearsal_is_left_to_python() -> None:
    with pico() as board:
        wanted = board.exec(START, 60).splitlines()[1]
    with pico({MODULE: wrong()}) as board:
        found, scores = board.exec(START, 60).splitlines()
        assert found.startswith("False ")
        assert found.endswith(" failed None")
        assert scores == wanted
        board.reset()
        assert board.exec(START, 60).splitlines()[1] == wanted


def test_what_crashed_at_the_last_boot_is_left_to_python() -> None:
    with pico({MODULE: endless()}) as board:
        key = "from midge.kernels import signal\nfrom midge.kernels.trust import Trust\n"
        board.exec(f"{key}Trust({MODULE!r}, signal._digest({MODULE!r})).trying()", 60)
        found = board.exec(START, 60).splitlines()[0]
        assert found.startswith("False ")
        assert found.endswith(" None")


def test_code_of_another_arch_is_left_to_python() -> None:
    other = {f"/lib/{path}": data for path, data in compile_modules(["anomaly.multiscale"], "rv32imc").items()}
    with pico({MODULE: other[MODULE]}) as board:
        assert board.exec(START, 60).splitlines()[0] == "False None None"


def test_an_update_allocates_no_more_than_its_score() -> None:
    code = """
import gc
from array import array
from midge.anomaly import make
from midge.fft import Spectrum
x = array('f', [20 + (i * 7919 % 101) / 50 for i in range(400)])
judge = make('context', {'probation': 40})
for v in x:
    judge.update(v)
spectrum = Spectrum(64)
w = array('h', range(64))
spectrum.transform(w)
def count():
    start = gc.mem_alloc()
    for _ in range(100):
        judge.update(20.5)
    middle = gc.mem_alloc()
    spectrum.transform(w)
    return middle - start, gc.mem_alloc() - middle
gc.collect()
print(*count())
"""
    with pico() as board:
        updates, transform = map(int, board.exec(code, 60).split())
    assert updates <= 100 * 16 + 512  # a float each; now and then an alarm
    assert transform <= 96
