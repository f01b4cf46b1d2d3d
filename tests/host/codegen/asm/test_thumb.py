"""ARMv6-M: every encoding as GNU as has it, ranges refused, and branches and literals by execution."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from midgehost.codegen.asm.base import AssemblyError
from midgehost.codegen.asm.thumb import LR, PC, R0, R1, R2, R3, R4, R7, R8, SP, Thumb

AS = shutil.which("arm-none-eabi-as")

# Text with operands: <d n m> low registers (d twice is the same register), <H> any register, <a..b/s> a number.
_TEMPLATES = {
    "movs": "movs <d>, #<0..255>",
    "mov": "mov <H>, <H>",
    "adds": "adds <d>, <n>, <m>",
    "add": "add <H>, <H>",
    "adcs": "adcs <d>, <m>",
    "subs": "subs <d>, <n>, <m>",
    "sbcs": "sbcs <d>, <m>",
    "rsbs": "rsbs <d>, <m>, #0",
    "muls": "muls <d>, <m>, <d>",
    "add_sp": "add sp, #<0..508/4>",
    "add_rd_sp": "add <d>, sp, #<0..1020/4>",
    "cmp": "cmp <d>, <m>",
    "cmp_imm": "cmp <d>, #<0..255>",
    "cmn": "cmn <d>, <m>",
    "tst": "tst <d>, <m>",
    "ands": "ands <d>, <m>",
    "eors": "eors <d>, <m>",
    "orrs": "orrs <d>, <m>",
    "bics": "bics <d>, <m>",
    "mvns": "mvns <d>, <m>",
    "lsls_imm": "lsls <d>, <m>, #<1..31>",
    "lsrs_imm": "lsrs <d>, <m>, #<1..32>",
    "asrs_imm": "asrs <d>, <m>, #<1..32>",
    "lsls": "lsls <d>, <m>",
    "lsrs": "lsrs <d>, <m>",
    "asrs": "asrs <d>, <m>",
    "rors": "rors <d>, <m>",
    "sxth": "sxth <d>, <m>",
    "sxtb": "sxtb <d>, <m>",
    "uxth": "uxth <d>, <m>",
    "uxtb": "uxtb <d>, <m>",
    "rev": "rev <d>, <m>",
    "ldr": "ldr <d>, [<n>, #<0..124/4>]",
    "str_": "str <d>, [<n>, #<0..124/4>]",
    "ldrh": "ldrh <d>, [<n>, #<0..62/2>]",
    "strh": "strh <d>, [<n>, #<0..62/2>]",
    "ldrb": "ldrb <d>, [<n>, #<0..31>]",
    "strb": "strb <d>, [<n>, #<0..31>]",
    "str_reg": "str <d>, [<n>, <m>]",
    "strh_reg": "strh <d>, [<n>, <m>]",
    "strb_reg": "strb <d>, [<n>, <m>]",
    "ldrsb": "ldrsb <d>, [<n>, <m>]",
    "ldr_reg": "ldr <d>, [<n>, <m>]",
    "ldrh_reg": "ldrh <d>, [<n>, <m>]",
    "ldrb_reg": "ldrb <d>, [<n>, <m>]",
    "ldrsh": "ldrsh <d>, [<n>, <m>]",
    "bx": "bx <H>",
    "blx": "blx <H>",
}
_FIXED: list[tuple[Callable[[Thumb], None], str]] = [
    (lambda a: a.nop(), "nop"),
    (lambda a: a.adds_imm(R3, R4, 7), "adds r3, r4, #7"),
    (lambda a: a.adds_imm(R3, R3, 200), "adds r3, #200"),
    (lambda a: a.subs_imm(R3, R4, 7), "subs r3, r4, #7"),
    (lambda a: a.subs_imm(R3, R3, 200), "subs r3, #200"),
    (lambda a: a.add_sp(-508), "sub sp, #508"),
    (lambda a: a.cmp(R3, R8), "cmp r3, r8"),
    (lambda a: a.cmp(R8, R3), "cmp r8, r3"),
    (lambda a: a.add(PC, R2), "add pc, r2"),
    (lambda a: a.mov(R1, SP), "mov r1, sp"),
    (lambda a: a.ldr(R2, SP, 1020), "ldr r2, [sp, #1020]"),
    (lambda a: a.str_(R2, SP, 8), "str r2, [sp, #8]"),
    (lambda a: a.ldm(R0, [R1, R4, R7]), "ldmia r0!, {r1, r4, r7}"),
    (lambda a: a.ldm(R1, [R1, R4]), "ldmia r1, {r1, r4}"),
    (lambda a: a.stm(R0, [R1, R4, R7]), "stmia r0!, {r1, r4, r7}"),
    (lambda a: a.push([R0, R7, LR]), "push {r0, r7, lr}"),
    (lambda a: a.push([LR]), "push {lr}"),
    (lambda a: a.pop([R4, PC]), "pop {r4, pc}"),
]


def _sample(name: str, template: str, rng: random.Random) -> tuple[str, list[int]]:
    """A text and the operands of the method, in the order of the text (a register that is named twice once)."""
    operands: list[int] = []
    seen: dict[str, int] = {}

    def draw(match: re.Match[str]) -> str:
        what = match[1]
        if numbers := re.fullmatch(r"(\d+)\.\.(\d+)/?(\d*)", what):
            operands.append(rng.randrange(int(numbers[1]), int(numbers[2]) + 1, int(numbers[3] or 1)))
            return str(operands[-1])
        if what not in seen or what == "H":
            seen[what] = rng.choice([r for r in range(15) if r != SP]) if what == "H" else rng.randrange(8)
            operands.append(seen[what])
        return f"r{seen[what]}"

    return re.sub(r"<([^>]+)>", draw, template), operands


def _assembled(lines: list[str], folder: Path) -> bytes:
    source, binary = folder / "x.s", folder / "x.o"
    source.write_text("\n".join([".syntax unified", ".cpu cortex-m0plus", ".thumb", *lines, ""]))
    subprocess.run([str(AS), str(source), "-o", str(binary)], check=True, timeout=60)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(binary), str(folder / "x")], check=True, timeout=60)
    return (folder / "x").read_bytes()


@pytest.mark.skipif(AS is None, reason="needs arm-none-eabi-as: apt-get install binutils-arm-none-eabi")
def test_encodings_are_those_of_gnu_as(tmp_path: Path) -> None:
    rng = random.Random(1)
    lines: list[str] = []
    a = Thumb()
    for name, template in _TEMPLATES.items():
        for _ in range(12):
            text, operands = _sample(name, template, rng)
            lines.append(text)
            getattr(a, name)(*operands)
    for emit, text in _FIXED:
        emit(a)
        lines.append(text)
    ours, theirs = a.code(), _assembled(lines, tmp_path)
    wrong = [line for i, line in enumerate(lines) if ours[2 * i : 2 * i + 2] != theirs[2 * i : 2 * i + 2]]
    assert not wrong
    assert len(ours) == len(theirs)


@pytest.mark.skipif(AS is None, reason="needs arm-none-eabi-as: apt-get install binutils-arm-none-eabi")
def test_branches_and_literals_are_those_of_gnu_as(tmp_path: Path) -> None:
    a = Thumb()
    a.label("start")
    a.bcond("ne", "end")
    a.b("end")
    a.bl("far")
    a.ldr_literal(R3, 0x12345678)
    a.adr(R1, "data")
    a.ldr_label(R2, "data")
    a.bcond("le", "start")
    a.b("start")
    a.bl("start")
    a.label("end")
    a.nop()
    a.pool()
    a.align()
    a.label("data")
    for _ in range(0, 70000, 2):
        a.nop()
    a.label("far")
    a.bl("start")
    lines = """
        start: bne end; b end; bl far; ldr r3, lit; adr r1, data; ldr r2, data; ble start; b start; bl start
        end: nop
        .balign 4
        lit: .word 0x12345678
        data: .rept 35000; nop; .endr
        far: bl start"""
    assert a.code() == _assembled([line for text in lines.splitlines() for line in text.split(";")], tmp_path)


@pytest.mark.parametrize(
    "emit",
    [
        lambda a: a.movs(R0, 256),
        lambda a: a.movs(R8, 1),
        lambda a: a.adds_imm(R0, R1, 8),
        lambda a: a.lsls_imm(R0, R1, 32),
        lambda a: a.asrs_imm(R0, R1, 0),
        lambda a: a.ldr(R0, R1, 128),
        lambda a: a.ldr(R0, R1, 2),
        lambda a: a.ldrh(R0, R1, 1),
        lambda a: a.ldrb(R0, R1, 32),
        lambda a: a.add_sp(512),
        lambda a: a.cmp(PC, R0),
        lambda a: a.ldm(R0, []),
        lambda a: a.ldm(R0, [R1, R1]),
        lambda a: a.stm(R0, [R0, R1]),
        lambda a: a.push([R8]),
        lambda a: a.pop([LR]),
        lambda a: a.bx(PC),
        lambda a: a.add_int(R0, 70000),
    ],
)
def test_operands_out_of_range_are_refused(emit: Callable[[Thumb], None]) -> None:
    with pytest.raises(AssemblyError):
        emit(Thumb())


@pytest.mark.parametrize(("kind", "halfwords", "fits"), [("b", 1023, True), ("b", 1025, False)])
@pytest.mark.parametrize("ahead", [True, False])
def test_reach_of_b(kind: str, halfwords: int, fits: bool, ahead: bool) -> None:
    a = Thumb()
    if not ahead:
        a.label("there")
        a.half(*[0x46C0] * (halfwords - 1))
    a.b("there")
    if ahead:
        a.half(*[0x46C0] * halfwords)
        a.label("there")
    if fits:
        a.code()
    else:
        with pytest.raises(AssemblyError, match="distance"):
            a.code()


def test_literals_without_a_pool_are_refused() -> None:
    a = Thumb()
    a.ldr_literal(R0, 123456)
    with pytest.raises(AssemblyError, match="pool"):
        a.code()


def run(a: Thumb) -> int:
    """r0 after the code ran on an emulated Cortex-M0+."""
    rp2040 = pytest.importorskip("rp2040py.rp2040", reason="needs rp2040py: pip install 'midge[sim]'")
    mcu = rp2040.RP2040()
    code, base, landing = a.code(), 0x20000000, 0x20030000
    mcu.sram[: len(code)] = code
    core = mcu.core
    core.sp, core.registers[14], core.pc = 0x20020000, landing | 1, base
    for _ in range(10000):
        if core.registers[15] == landing:
            return int(core.registers[0])
        core.execute_instruction()
    raise AssertionError("the code does not return")


@pytest.mark.parametrize(
    "value", [0, 1, 255, 256, 300, 510, 511, 4096, 0x7F00, 0xFF000000, 0x80000000, -1, -256, -257, 1 << 20, 123456789]
)
def test_set_int_and_add_int(value: int) -> None:
    a = Thumb()
    a.set_int(R0, value)
    a.bx(LR)
    a.pool()
    assert run(a) == value & 0xFFFFFFFF
    if abs(value) <= 1 << 20:
        a = Thumb()
        a.movs(R0, 9)
        a.add_int(R0, value, R1)
        a.bx(LR)
        a.pool()
        assert run(a) == (9 + value) & 0xFFFFFFFF


@pytest.mark.parametrize("taken", [True, False])
def test_far_conditional_branch(taken: bool) -> None:
    a = Thumb()
    a.movs(R0, 1)
    a.cmp_imm(R0, 1 if taken else 2)
    a.bcond_far("eq", "far")
    a.movs(R0, 7)
    a.bx(LR)
    a.half(*[0x46C0] * 900)
    a.label("far")
    a.movs(R0, 8)
    a.bx(LR)
    assert run(a) == (8 if taken else 7)


def test_jump_through_a_difference_of_labels() -> None:
    a = Thumb()
    a.nop()
    a.ldr_difference(R1, "there", "jump", -4)
    a.label("jump")
    a.add(PC, R1)
    a.pool()
    a.movs(R0, 1)
    a.bx(LR)
    a.half(*[0x46C0] * 3000)
    a.label("there")
    a.movs(R0, 2)
    a.bx(LR)
    assert run(a) == 2


def test_call_and_return_through_the_stack() -> None:
    a = Thumb()
    a.push([R4, LR])
    a.bl("double")
    a.bl("double")
    a.pop([R4, PC])
    a.label("double")
    a.adds_imm(R0, R0, 3)
    a.lsls_imm(R0, R0, 1)
    a.bx(LR)
    assert run(a) == 18
