"""The viper kernels on the emulated Pico: 32-bit words, 31-bit small ints, no unaligned words, a locked heap."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz import reference_jobs
from levels import RUNNER, packed, unpacked
from test_heavy_ops import MAKERS as HEAVY
from test_small_ops import MAKERS as SMALL

from midgehost.deploy.modules import compile_modules
from midgehost.errors import NotFound
from midgehost.virtual.emulated import EmulatedPico, find_image

pytestmark = pytest.mark.emulated

FAMILIES = ("dense", "conv", "pool", "elementwise", "move", "table", "softmax")


def compare_on_pico(cases: int, seed: int) -> list[tuple[str, int, int]]:
    """(operator, cases, values) of seeded cases; any difference from TFLM fails."""
    try:
        find_image("pico")
    except NotFound as error:
        pytest.skip(str(error))
    modules = ["errors", "kernels", *(f"kernels.viper.{family}" for family in FAMILIES)]
    files = {f"/lib/{path}": data for path, data in compile_modules(modules, "armv6m").items()}
    files["/run_kernels.py"] = RUNNER.read_bytes()
    makers = {**SMALL, **HEAVY}
    batches = {}
    for number, kind in enumerate(makers):
        jobs = [(job, want) for job, want in reference_jobs(makers, kind, cases, seed)[0] if not job.lowering.alias]
        if jobs:
            batches[kind] = (f"/cases{number}", jobs)
            files[f"/cases{number}"] = packed([job for job, _ in jobs])
    done = []
    with EmulatedPico(files=files) as pico:
        pico.exec("import run_kernels")
        for kind, (path, jobs) in batches.items():
            pico.exec(f"run_kernels.run('viper', {path!r}, '/results')", 120)
            for (job, want), outputs in zip(
                jobs, unpacked([job for job, _ in jobs], pico.get("/results")), strict=True
            ):
                np.testing.assert_array_equal(outputs[0], want, f"{kind} {job.node}")
            done.append((kind, len(jobs), sum(want.size for _, want in jobs)))
    return done


def test_viper_equals_tflm() -> None:
    done = compare_on_pico(3, 2)
    assert sum(count for _, count, _ in done) > 50


@pytest.mark.soak
def test_viper_equals_tflm_soak() -> None:
    print("\n| operator on emulated:pico | cases | values | mismatches |\n|---|---|---|---|")
    for kind, count, values in compare_on_pico(40, 3):
        print(f"| {kind} | {count} | {values:,} | 0 |")
