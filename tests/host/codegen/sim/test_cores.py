"""The emulated cores: results, counts, and every rule that a routine may break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from copy_routine import COPY, riscv, thumb

from midgehost.codegen import sim
from midgehost.codegen.sim import Core, Fault
from midgehost.errors import DataError

BAD = {  # what a routine does wrong: its code on Arm and on RISC-V, and what is said
    "r4 clobbered": (thumb(0x2400, 0x2001, 0x4770), riscv(0x00100413, 0x00100513, 0x00008067), "did not restore"),
    "sp moved": (thumb(0xB082, 0x2001, 0x4770), riscv(0xFF010113, 0x00100513, 0x00008067), "did not restore sp"),
    "no small int": (thumb(0x2002, 0x4770), riscv(0x00200513, 0x00008067), "no small int"),
    "no instruction": (thumb(0xE800, 0x0000), riscv(0), "routine"),
    "runs away": (thumb(0xE7FE), riscv(0x0000006F), "longer than"),
}


@pytest.fixture(params=COPY)
def core(request: pytest.FixtureRequest) -> Iterator[Core]:
    """Every core that is always there."""
    pytest.importorskip("rp2040py" if request.param == "armv6m" else "unicorn")
    with sim.core(request.param) as made:
        yield made


@pytest.mark.parametrize("check", [True, False])
def test_copies_and_counts(core: Core, check: bool) -> None:
    """M0+: LDR and STR 2, taken branch 2; M33: an access after an access 1, taken branch 1 + 2; RV32: instructions."""
    code = core.load(COPY[core.arch])
    source, out = core.put(bytes(range(48))), core.alloc(48)
    counts = []
    for rows in (1, 10, 11):
        core.write(out, bytes(48))
        status, count = core.call(code, core.block(in0=source, out=out, rows=(0, rows)), check)
        assert status == 0
        counts.append(count)
    assert core.read(out, 48) == bytes(range(44)) + bytes(4)
    loop = {"armv6m": 2 + 2 + 3 + 2, "armv7emsp": 2 + 1 + 3 + 3, "rv32imc": 6}[core.arch]
    assert counts[2] - counts[1] == loop and counts[1] - counts[0] == 9 * loop
    # Entry and exit; on the M0+ the branch that leaves the loop takes 1, on the M33 the branch here counts 2.
    assert counts[0] == {"armv6m": 21, "armv7emsp": 18, "rv32imc": 14}[core.arch]


def test_status_is_a_small_int(core: Core) -> None:
    """2 * 4 + 1 is status 4."""
    code = {"rv32imc": riscv(0x00900513, 0x00008067)}.get(core.arch, thumb(0x2009, 0x4770))
    assert core.call(core.load(code), core.block())[0] == 4


def test_accesses_outside_are_refused(core: Core) -> None:
    """Unaligned, behind a piece of memory, into read-only memory, nowhere; and the core works on after that."""
    code = core.load(COPY[core.arch])
    source, out = core.put(bytes(16)), core.alloc(16)
    cases = [
        (source + 2, out, "not aligned"),
        (source, out + 2, "not aligned"),
        (source + 16, out, "outside"),
        (source, out + 16, "outside"),
        (source, code, "outside"),
    ]
    for in0, target, said in cases:
        with pytest.raises(Fault, match=said):
            core.call(code, core.block(in0=in0, out=target))
    with pytest.raises(Fault):
        core.call(code, core.block(in0=0, out=out), check=False)
    assert core.call(code, core.block(in0=source, out=out))[0] == 0


@pytest.mark.parametrize("what", BAD)
def test_bad_routines_are_refused(core: Core, what: str) -> None:
    """What the ABI forbids."""
    core.limit = 1000
    arm, riscv, said = BAD[what]
    with pytest.raises(Fault, match=said):
        core.call(core.load(riscv if core.arch == "rv32imc" else arm), core.block())


def test_released_memory_is_used_again(core: Core) -> None:
    """New code at the address of old code is what runs."""
    mark = core.mark()
    one, two = (
        (riscv(0x00300513, 0x00008067), riscv(0x00500513, 0x00008067))
        if core.arch == "rv32imc"
        else (thumb(0x2003, 0x4770), thumb(0x2005, 0x4770))
    )
    first = core.load(one)
    assert core.call(first, core.block()) == (1, core.call(first, core.block())[1])
    core.release(mark)
    second = core.load(two)
    assert second == first and core.call(second, core.block())[0] == 2


def test_unknown_arch_is_refused() -> None:
    """With the names that there are."""
    with pytest.raises(DataError, match="armv6m, armv7emsp"):
        sim.core("avr")
