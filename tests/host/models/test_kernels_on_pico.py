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
AT_ONCE = 8  # jobs a file: their results fit the board's heap


def compare_on_pico(cases: int, seed: int) -> dict[str, tuple[int, int]]:
    """(cases, values) of each operator on seeded cases; any difference from TFLM fails."""
    try:
        find_image("pico")
    except NotFound as error:
        pytest.skip(str(error))
    modules = ["errors", "kernels.general", *(f"kernels.viper.{family}" for family in FAMILIES)]
    files = {f"/lib/{path}": data for path, data in compile_modules(modules, "armv6m").items()}
    files["/run_kernels.py"] = RUNNER.read_bytes()
    makers = {**SMALL, **HEAVY}
    batches = []
    for kind in makers:
        jobs = [(job, want) for job, want in reference_jobs(makers, kind, cases, seed)[0] if not job.lowering.alias]
        batches += [(kind, jobs[i : i + AT_ONCE]) for i in range(0, len(jobs), AT_ONCE)]
    for number, (_, jobs) in enumerate(batches):
        files[f"/cases{number}"] = packed([job for job, _ in jobs])
    done: dict[str, tuple[int, int]] = {}
    with EmulatedPico(files=files) as pico:
        pico.exec("import run_kernels")
        for number, (kind, jobs) in enumerate(batches):
            pico.exec(f"run_kernels.run('viper', '/cases{number}', '/results')", 120)
            results = unpacked([job for job, _ in jobs], pico.get("/results"))
            for (job, want), outputs in zip(jobs, results, strict=True):
                np.testing.assert_array_equal(outputs[0], want, f"{kind} {job.node}")
            count, values = done.get(kind, (0, 0))
            done[kind] = count + len(jobs), values + sum(want.size for _, want in jobs)
    return done


def test_viper_equals_tflm() -> None:
    done = compare_on_pico(3, 2)
    assert sum(count for count, _ in done.values()) > 50


@pytest.mark.soak
def test_viper_equals_tflm_soak() -> None:
    print("\n| operator on emulated:pico | cases | values | mismatches |\n|---|---|---|---|")
    for kind, (count, values) in compare_on_pico(40, 3).items():
        print(f"| {kind} | {count} | {values:,} | 0 |")
