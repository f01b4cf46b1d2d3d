"""Runs lowered operators on the general kernels, on an emulated core: `levels.Job` with machine code."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Sequence

from levels import Array, Job

from midgehost.codegen.kernels import general
from midgehost.codegen.machine import MachineCall
from midgehost.codegen.sim import Core
from midgehost.models.ops.base import Call, Place


def run_on(core: Core, jobs: Sequence[Job]) -> tuple[list[list[Array]], int]:
    """The outputs of each job, and what they cost together; calls are cut into random slices of rows."""
    found: list[list[Array]] = []
    total = 0
    for job in jobs:
        mark = core.mark()
        arena = core.put(bytes(job.arena()))
        rng = random.Random(job.cut_seed)
        for call in job.lowering.calls:
            total += run_call(core, job, call, arena, rng)
        found.append(job.outputs(core.read(arena, job.offsets[-2])))
        core.release(mark)
    return found, total


def run_call(core: Core, job: Job, call: Call, arena: int, rng: random.Random, status: int = 0) -> int:
    """Runs one call in slices, which must end with this status; what they cost."""
    machine = general(call, core.arch)

    def at(place: Place | None) -> int:
        return 0 if place is None else arena + job.offsets[place.tensor] + place.offset

    operands = (at(machine.in0), at(machine.in1), at(machine.out))
    return run_slices(core, machine, operands, cuts(machine.rows, rng if job.cut_seed is not None else None), status)


def cuts(rows: int, rng: random.Random | None) -> list[int]:
    """Where the slices of `rows` begin, and the end."""
    inner = set() if rng is None else {rng.randrange(rows + 1) for _ in range(rng.randrange(4))}
    return sorted({0, rows} | inner)


def run_slices(
    core: Core, machine: MachineCall, operands: tuple[int, int, int], rows: Sequence[int], status: int = 0
) -> int:
    """Runs a machine call slice by slice; what they cost."""
    code = core.load(machine.routine.code)
    weights = core.load(machine.weights) if machine.weights else 0
    params = core.load(struct.pack(f"<{len(machine.params)}i", *machine.params), 4) if machine.params else 0
    scratch = core.alloc(machine.scratch_bytes) if machine.scratch_bytes else 0
    total = 0
    for a, b in itertools.pairwise(rows):
        ended, cost = core.call(code, core.block(*operands, weights, params, scratch, (a, b)))
        assert ended == status
        total += cost
    return total
