"""The random models of tests/host/codegen, by the thousand: every arch, form, tile and slice, hostile memory."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from midgehost.codegen import sim

pytestmark = pytest.mark.soak

HOST = Path(__file__).resolve().parents[1] / "host"
MODELS = 500


@pytest.mark.parametrize("block", range(2))
@pytest.mark.parametrize("arch", sim.ARCHES)
def test_random_models(monkeypatch: pytest.MonkeyPatch, arch: str, block: int) -> None:
    for folder in ("models", "codegen"):
        monkeypatch.syspath_prepend(str(HOST / folder))
    attack = importlib.import_module("random_models")
    first = 10_000 + MODELS * block
    with sim.core(arch) as core:
        ran = sum(attack.check_model(core, seed) for seed in range(first, first + MODELS))
    print(f"\n{arch}: seeds {first} to {first + MODELS - 1}, {ran} inferences, every value equal")
