"""The RV32IMC assembler: equal bytes to GNU as, checked ranges, and a few programs run in unicorn."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from midgehost.codegen.asm.base import AssemblyError
from midgehost.codegen.asm.rv32 import A0, A1, A2, RA, S0, SP, T0, T6, ZERO, Rv32

_AS, _OBJCOPY = "riscv64-unknown-elf-as", "riscv64-unknown-elf-objcopy"
_NAMES = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
    "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
]  # fmt: skip
_THREE = [
    "add", "sub", "sll", "slt", "sltu", "xor", "srl", "sra", "or", "and",
    "mul", "mulh", "mulhsu", "mulhu", "div", "divu", "rem", "remu",
]  # fmt: skip
_IMMEDIATE = ["addi", "slti", "sltiu", "xori", "ori", "andi"]
_SHIFTS = ["slli", "srli", "srai"]
_MEMORY = ["lb", "lh", "lw", "lbu", "lhu", "sb", "sh", "sw"]
_BRANCHES = ["beq", "bne", "blt", "bge", "bltu", "bgeu"]


def _gnu(text: str, folder: Path, march: str) -> bytes:
    if shutil.which(_AS) is None:
        pytest.skip(f"{_AS} is missing: apt-get install binutils-riscv64-unknown-elf")
    source, elf, raw = folder / "a.s", folder / "a.o", folder / "a.bin"
    # GNU as turns branches to labels into far or short forms as it likes: ours are always 32 bits and near.
    source.write_text(".option norelax\n" + text)
    subprocess.run([_AS, f"-march={march}", "-mabi=ilp32", "-o", elf, source], check=True)
    subprocess.run([_OBJCOPY, "-O", "binary", "-j", ".text", elf, raw], check=True)
    return raw.read_bytes()


def _method(assembler: Rv32, name: str) -> Callable[..., None]:
    return getattr(assembler, name + "_" if name in ("and", "or") else name)


def _program(assembler: Rv32, rng: random.Random) -> str:
    """The same random instructions into `assembler` and as text."""
    lines: list[str] = []

    def register() -> int:
        return rng.choice((rng.randrange(32), rng.randrange(8, 16), 2, 0))

    def number(low: int, high: int) -> int:
        near = max(low, min(high, rng.randrange(-40, 140)))
        return rng.choice((low, high, 0, near, near & ~3, rng.randint(low, high) & ~15))

    for _ in range(40):
        for name in _THREE:
            rd, a, b = register(), register(), register()
            a = rng.choice((a, rd))
            _method(assembler, name)(rd, a, b)
            lines.append(f"{name} {_NAMES[rd]}, {_NAMES[a]}, {_NAMES[b]}")
        for name in _IMMEDIATE:
            rd, a, value = register(), register(), number(-2048, 2047)
            a = rng.choice((a, rd))
            _method(assembler, name)(rd, a, value)
            lines.append(f"{name} {_NAMES[rd]}, {_NAMES[a]}, {value}")
        for name in _SHIFTS:
            rd, a, value = register(), register(), rng.randrange(32)
            a = rng.choice((a, rd))
            _method(assembler, name)(rd, a, value)
            lines.append(f"{name} {_NAMES[rd]}, {_NAMES[a]}, {value}")
        for name in _MEMORY:
            rd, a, value = register(), register(), number(-2048, 2047)
            _method(assembler, name)(rd, a, value)
            lines.append(f"{name} {_NAMES[rd]}, {value}({_NAMES[a]})")
        rd, a, page = register(), register(), rng.choice((0, 1, 31, 32, 0xFFFE0, 0xFFFDF, rng.randrange(1 << 20)))
        assembler.lui(rd, page)
        lines.append(f"lui {_NAMES[rd]}, {page}")
        assembler.jr(a)
        lines.append(f"jr {_NAMES[a]}")
        assembler.jalr(rd, a, 8)
        lines.append(f"jalr {_NAMES[rd]}, 8({_NAMES[a]})")
        value = rng.choice(
            (0, -1, 31, 32, 2047, 2048, 0x7FF800, 1 << 31, -(1 << 31), rng.randrange(-(1 << 31), 1 << 31))
        )
        rd = rng.randrange(3, 32)
        assembler.li(rd, value)
        lines.append(f"li {_NAMES[rd]}, {value}")
    for name, text in (("nop", "nop"), ("ret", "ret"), ("ebreak", "ebreak")):
        _method(assembler, name)()
        lines.append(text)
    for name in ("neg", "not_", "mv"):
        _method(assembler, name)(A0, T6)
        lines.append(f"{name.rstrip('_')} a0, t6")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("compress", [True, False])
def test_every_instruction_has_the_bytes_of_gnu_as(compress: bool, tmp_path: Path) -> None:
    assembler = Rv32(compress)
    text = _program(assembler, random.Random(1))
    march = "rv32imc" if compress else "rv32im"
    assert assembler.code() == _gnu(text, tmp_path, march)


def test_branches_jumps_and_addresses_have_the_bytes_of_gnu_as(tmp_path: Path) -> None:
    assembler = Rv32(compress=False)
    lines: list[str] = []
    for label, repeat in (("a", 3), ("b", 900), ("c", 5)):
        assembler.label(label)
        lines.append(f"{label}:")
        for name in _BRANCHES:
            for target in {"a": "ab", "b": "bc", "c": "bc"}[label]:
                if (label, target) == ("b", "c"):
                    continue  # too far to name here: see below
                _method(assembler, name)(A1, T6, target)
                lines.append(f"{name} a1, t6, {target}")
        for target in "abc":
            assembler.j(target)
            assembler.call(target)
            lines += [f"jal zero, {target}", f"jal ra, {target}"]
        for _ in range(repeat):
            assembler.nop()
            lines.append("nop")
    assert assembler.code() == _gnu("\n".join(lines) + "\n", tmp_path, "rv32im")


@pytest.mark.parametrize(
    "emit",
    [
        lambda a: a.addi(A0, A0, 2048),
        lambda a: a.lw(A0, A1, -2049),
        lambda a: a.sb(A0, A1, 2048),
        lambda a: a.slli(A0, A0, 32),
        lambda a: a.lui(A0, 1 << 20),
        lambda a: a.li(A0, 1 << 32),
        lambda a: a.add(32, A0, A1),
        lambda a: a.mv(A0, -1),
        lambda a: a.j("nowhere"),
    ],
)
def test_operands_that_do_not_fit_are_refused(emit: Callable[[Rv32], None]) -> None:
    assembler = Rv32()
    with pytest.raises(AssemblyError):
        emit(assembler)
        assembler.code()


def test_a_branch_that_is_too_far_is_refused_unless_it_is_a_far_one() -> None:
    def code(far: bool) -> bytes:
        assembler = Rv32(compress=False)
        assembler.beq(A0, A1, "end", far)
        for _ in range(1100):
            assembler.nop()
        assembler.label("end")
        return assembler.code()

    with pytest.raises(AssemblyError, match="branch's distance"):
        code(far=False)
    skip, jump = struct.unpack_from("<2I", code(far=True))
    assert skip == 0x00B51463  # bne a0, a1, .+8
    assert jump & 0xFFF == 0x06F  # j


def _run(assembler: Rv32, *arguments: int) -> int:
    """a0 after the code has returned."""
    unicorn = pytest.importorskip("unicorn", reason="unicorn is missing: pip install 'midge[sim]'")
    from unicorn import riscv_const

    core = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
    core.mem_map(0x20000000, 1 << 16)
    core.mem_write(0x20000000, assembler.code())
    for i, value in enumerate(arguments):
        core.reg_write(riscv_const.UC_RISCV_REG_A0 + i, value & 0xFFFFFFFF)
    core.reg_write(riscv_const.UC_RISCV_REG_SP, 0x2000F000)
    core.reg_write(riscv_const.UC_RISCV_REG_RA, 0x2000FF00)
    core.emu_start(0x20000000, 0x2000FF00, count=100000)
    assert core.reg_read(riscv_const.UC_RISCV_REG_PC) == 0x2000FF00
    return core.reg_read(riscv_const.UC_RISCV_REG_A0)


@pytest.mark.parametrize(
    "value", [0, 1, -1, 31, -33, 2047, 2048, -2049, 0x12345678, 0x7FFFFFFF, -(1 << 31), 0xFFFFF800]
)
def test_li_makes_every_constant(value: int) -> None:
    assembler = Rv32()
    assembler.li(A0, value)
    assembler.ret()
    assert _run(assembler) == value & 0xFFFFFFFF


@pytest.mark.parametrize("compress", [True, False])
def test_loops_calls_tables_and_far_branches_run(compress: bool) -> None:
    """Sum of squares of 1..n by a subroutine, with a factor from a table behind more than 4 KB of nops."""
    a = Rv32(compress)
    a.addi(SP, SP, -16)
    a.sw(RA, SP, 12)
    a.li(A1, 0)
    a.label("loop")
    a.beqz(A0, "end", far=True)
    a.call("square")
    a.add(A1, A1, A2)
    a.addi(A0, A0, -1)
    a.j("loop")
    for _ in range(2500):
        a.nop()
    a.label("square")
    a.mul(A2, A0, A0)
    a.ret()
    a.label("end")
    a.la(T0, "table")
    a.lw(T0, T0, 4)
    a.mul(A0, A1, T0)
    a.bne(S0, S0, "loop")  # far by itself: the label is known
    a.bgeu(ZERO, RA, "loop")
    a.lw(RA, SP, 12)
    a.addi(SP, SP, 16)
    a.ret()
    a.align(4)
    a.label("table")
    a.emit(struct.pack("<2I", 5, 1000))
    assert _run(a, 10) == 385000
