"""The stock Pico image computes the detectors' scores bit for bit as single precision on the host does."""

from __future__ import annotations

import ast
import base64
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from emulated import stock_image

import float32
from midgehost import twin
from midgehost.deploy.modules import compile_modules
from midgehost.virtual.emulated import EmulatedPico

CASE = Path(__file__).resolve().parents[1] / "emulated_cases" / "detector_bits.py"
_ON_BOARD = """
import sys, binascii
sys.path.insert(0, '/case')
import detector_bits as case
from midge.anomaly import make
scores, alarms = case.judge(make({kind!r}, case.PARAMS[{kind!r}]), case.stream({n}), {n})
print(binascii.b2a_base64(bytes(scores)).decode(), end='')
print(alarms)
"""


def load_case() -> ModuleType:
    """The script that both sides run."""
    spec = importlib.util.spec_from_file_location("detector_bits", CASE)
    assert spec is not None and spec.loader is not None
    case = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)
    return case


def expected(kind: str, n: int) -> tuple[np.ndarray, list[int]]:
    """The scores and alarms in numpy's float32, in the device's order of operations."""
    case = load_case()
    values = (np.float32(x) for x in case.stream(n))
    scores, alarms = case.judge(float32.detector(kind, **case.PARAMS[kind]), values, n)
    return np.array(scores, dtype=np.float32), alarms


def check(kind: str, n: int) -> None:
    """The first n samples of the stream on the emulated Pico against the host."""
    stock_image()
    modules = compile_modules([f"anomaly.{kind}"], "armv6m")
    files = {f"/case/{path}": data for path, data in modules.items()}
    with EmulatedPico(files=files | {"/case/detector_bits.py": CASE.read_bytes()}) as pico:
        text, alarms = pico.exec(_ON_BOARD.format(kind=kind, n=n), timeout=120).split("\n")[:2]
    got = np.frombuffer(base64.b64decode(text), dtype="<u4")
    wanted, wanted_alarms = expected(kind, n)
    differ = np.flatnonzero(got != wanted.view("<u4"))
    assert not len(differ), f"sample {differ[0]}: {got.view('<f4')[differ[0]]!r} instead of {wanted[differ[0]]!r}"
    assert ast.literal_eval(alarms) == wanted_alarms


@pytest.mark.parametrize(("kind", "alarms"), [("window", [325, 430]), ("multiscale", [325]), ("context", [325, 430])])
def test_the_stream_alarms(kind: str, alarms: list[int]) -> None:
    assert expected(kind, 500)[1] == alarms


@pytest.mark.emulated
@pytest.mark.parametrize("kind", twin.DETECTORS)
def test_scores_on_the_stock_image_are_equal_bit_for_bit(kind: str) -> None:
    check(kind, 500)


@pytest.mark.emulated
@pytest.mark.soak
@pytest.mark.parametrize("kind", twin.DETECTORS)
def test_two_thousand_scores_on_the_stock_image(kind: str) -> None:
    check(kind, 2000)
    print(f"\n{kind}: 2000 scores on the stock Pico image equal numpy's float32 bit for bit")
