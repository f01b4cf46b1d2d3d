"""The Xtensa core of midge against qemu's: random programs, loops, counts; and what it refuses."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from midgehost.codegen.asm.xtensa import ACCHI, ACCLO, M0, SAR, Xtensa
from midgehost.codegen.convert import plan_for
from midgehost.codegen.machine import Form
from midgehost.codegen.sim import Core, Fault, core
from midgehost.codegen.sim.model import LoadedModel
from midgehost.codegen.sim.qemu_xtensa import QemuXtensa, available
from midgehost.models.convert import load

needs_qemu = pytest.mark.skipif(not available(), reason="qemu-xtensa is missing: apt-get install qemu-user")
_GENERAL = range(6, 16)  # registers that random programs work on
_THREE = (
    *("add", "addx2", "addx4", "addx8", "sub", "subx2", "subx4", "subx8", "moveqz", "movnez", "movltz", "movgez"),
    *("min", "max", "minu", "maxu", "mull", "mul16u", "mul16s", "src", "and_", "or_", "xor", "mulsh", "muluh"),
)
_COMPARES = (
    *("beq", "bne", "blt", "bge", "bltu", "bgeu", "bnone", "bany", "ball", "bnall", "bbc", "bbs"),
    *("beqi", "bnei", "blti", "bgei", "bltui", "bgeui", "bbci", "bbsi", "beqz", "bnez", "bltz", "bgez"),
)
_EDGES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF8000, 0x7FFF, 0x8000, 0xFFFF)


def _begin(asm: Xtensa, frame: int = 32) -> None:
    """a2 = the block, a3 = in0, a4 = out."""
    asm.entry(1, frame)
    asm.l32i(2, 5)
    asm.add(2, 2, 2)
    asm.addi(2, 2, -2)
    asm.l32i(3, 2, 4)
    asm.l32i(4, 2, 12)


def _end(asm: Xtensa) -> None:
    asm.movi(2, 1)
    asm.retw()


def _program(rng: random.Random, length: int) -> bytes:
    """Random instructions, with branches forward, on values from in0; everything is stored to out."""
    asm = Xtensa()
    _begin(asm)
    for register in _GENERAL:
        asm.l32i(register, 3, 4 * (register - 6))
    for m in range(4):
        asm.wsr(6 + m, M0 + m)
    asm.wsr(6, ACCLO)
    asm.wsr(7, ACCHI)
    asm.ssr(6)
    for _ in range(length):
        _random_instruction(asm, rng)
    for register in _GENERAL:
        asm.s32i(register, 4, 4 * (register - 6))
    for place, special in enumerate((ACCLO, ACCHI, SAR, M0, M0 + 1, M0 + 2, M0 + 3)):
        asm.rsr(6, special)
        asm.s32i(6, 4, 40 + 4 * place)
    _end(asm)
    return asm.code()


def _random_instruction(asm: Xtensa, rng: random.Random) -> None:
    r, s, t = (rng.choice(_GENERAL) for _ in range(3))
    half = rng.choice(("ll", "hl", "lh", "hh"))
    w, x, y = rng.randrange(4), rng.randrange(2), rng.randrange(2, 4)
    choices: list[Callable[[], None]] = [
        lambda: getattr(asm, rng.choice(_THREE))(r, s, t),
        lambda: getattr(asm, rng.choice(("neg", "abs", "nsau", "sll", "srl", "sra", "mov")))(r, s),
        lambda: getattr(asm, rng.choice(("clamps", "sext")))(r, s, rng.randrange(7, 23)),
        lambda: asm.addi(r, s, rng.randrange(-128, 128)),
        lambda: asm.addmi(r, s, 256 * rng.randrange(-128, 128)),
        lambda: asm.movi(r, rng.choice((rng.randrange(-2048, 2048), rng.randrange(-40, 100), rng.getrandbits(32)))),
        lambda: asm.extui(r, s, rng.randrange(32), rng.randrange(1, 17)),
        lambda: asm.slli(r, s, rng.randrange(1, 32)),
        lambda: asm.srli(r, s, rng.randrange(16)),
        lambda: asm.srai(r, s, rng.randrange(32)),
        lambda: getattr(asm, rng.choice(("ssl", "ssr")))(s),
        lambda: asm.ssai(rng.randrange(32)),
        lambda: asm.wsr(r, rng.choice((ACCLO, ACCHI, M0 + w))),
        lambda: asm.xsr(r, rng.choice((ACCLO, M0 + w))),
        lambda: asm.rsr(r, rng.choice((ACCLO, ACCHI, M0 + w, SAR))),
        lambda: getattr(asm, rng.choice(("umul_aa", "mul_aa", "mula_aa", "muls_aa")))(half, s, t),
        lambda: getattr(asm, rng.choice(("mul_ad", "mula_ad")))(half, s, y),
        lambda: getattr(asm, rng.choice(("mul_da", "mula_da")))(half, x, t),
        lambda: getattr(asm, rng.choice(("mul_dd", "mula_dd")))(half, x, y),
        lambda: _random_access(asm, rng, r),
        lambda: _random_mac_load(asm, rng, half, w, x, y, t),
        lambda: _random_branch(asm, rng, s, t),
    ]
    rng.choice(choices)()


def _random_access(asm: Xtensa, rng: random.Random, r: int) -> None:
    """From in0, or to the part of out that is not overwritten at the end."""
    name, size = rng.choice((("8ui", 1), ("16ui", 2), ("16si", 2), ("32i", 4)))
    if rng.random() < 0.5:
        getattr(asm, "l" + name)(r, 3, size * rng.randrange(64 // size))
    else:
        getattr(asm, "s" + name.replace("ui", "i").replace("si", "i"))(r, 4, 128 + size * rng.randrange(64 // size))


def _random_mac_load(asm: Xtensa, rng: random.Random, half: str, w: int, x: int, y: int, t: int) -> None:
    a = rng.choice([r for r in _GENERAL if r != t])
    asm.addi(a, 3, 4 * rng.randrange(1, 14))
    way = rng.choice(("inc", "dec"))
    match rng.randrange(3):
        case 0:
            getattr(asm, f"ld{way}")(w, a)
        case 1:
            getattr(asm, f"mula_dd_ld{way}")(half, w, a, x, y)
        case _:
            getattr(asm, f"mula_da_ld{way}")(half, w, a, x, t)
    asm.sub(a, a, 3)  # what the two cores have in common


def _random_branch(asm: Xtensa, rng: random.Random, s: int, t: int) -> None:
    name = rng.choice(_COMPARES)
    label = asm.fresh()
    operands: list[int] = [s]
    if name in ("bbci", "bbsi"):
        operands.append(rng.randrange(32))
    elif name.endswith("ui"):
        operands.append(rng.choice((2, 65536, 32768, 256)))
    elif name.endswith("i"):
        operands.append(rng.choice((-1, 1, 10, 128)))
    elif not name.endswith("z"):
        operands.append(t)
    getattr(asm, name)(*operands, label, far=rng.random() < 0.3)
    for _ in range(rng.randrange(3)):
        asm.addx2(rng.choice(_GENERAL), s, t)
    asm.label(label)


def _run(machine: Core, code: bytes, data: bytes, out_bytes: int) -> tuple[int, int, bytes]:
    """Status, count and the bytes at out."""
    mark = machine.mark()
    source, out = machine.put(data), machine.put(bytes(out_bytes))
    status, count = machine.call(machine.load(code), machine.block(in0=source, out=out))
    found = status, count, machine.read(out, out_bytes)
    machine.release(mark)
    return found


@needs_qemu
@pytest.mark.parametrize("seed", range(12))
def test_random_programs_do_the_same_as_on_qemu(seed: int) -> None:
    rng = random.Random(seed)
    code = _program(rng, 150)
    words = [rng.choice((rng.getrandbits(32), rng.choice(_EDGES))) for _ in range(16)]
    data = struct.pack("<16I", *words)
    assert _run(core("xtensawin"), code, data, 192) == _run(QemuXtensa(), code, data, 192)


def _loops(asm: Xtensa) -> None:
    """Every kind of loop: dot products of both shapes, bodies with branches, none and many rounds."""
    asm.movi(12, 0)
    for words in (0, 1, 5, 8):
        asm.movi(6, words)
        asm.addi(7, 3, -4)
        asm.addi(8, 3, 64 - 4)
        asm.movi(9, 0)
        asm.wsr(9, ACCLO)
        asm.wsr(9, ACCHI)
        asm.ldinc(0, 7)
        asm.ldinc(2, 8)
        end = asm.fresh()
        asm.loopgtz(6, end)
        asm.mula_dd_ldinc("ll", 1, 7, 0, 2)
        asm.mula_dd_ldinc("hh", 3, 8, 0, 2)
        asm.mula_dd_ldinc("ll", 0, 7, 1, 3)
        asm.mula_dd_ldinc("hh", 2, 8, 1, 3)
        asm.label(end)
        for place, special in enumerate((ACCLO, ACCHI, M0, M0 + 1, M0 + 2, M0 + 3)):
            if words or special not in (M0 + 1, M0 + 3):
                asm.rsr(9, special)
                asm.s32i(9, 4, 4 * place)
        asm.sub(7, 7, 3)
        asm.s32i(7, 4, 24)
        asm.addi(4, 4, 28)
    for rounds in (-1, 0, 3):
        for kind in (asm.loopnez, asm.loopgtz) if rounds >= 0 else (asm.loopgtz,):
            asm.movi(6, rounds)
            end, skip = asm.fresh(), asm.fresh()
            kind(6, end)
            asm.addi(12, 12, 3)
            asm.bbsi(12, 0, skip)
            asm.addi(12, 12, 16)
            asm.label(skip)
            asm.addx2(12, 12, 12)
            asm.label(end)
    asm.movi(6, 4)
    outer = asm.label()
    end = asm.fresh()
    asm.movi(7, 5)
    asm.loop(7, end)
    asm.addi(12, 12, 1)
    asm.addx8(12, 12, 6)
    asm.label(end)
    asm.addi(6, 6, -1)
    asm.bnez(6, outer)
    asm.s32i(12, 4, 0)


@needs_qemu
def test_loops_do_the_same_as_on_qemu() -> None:
    asm = Xtensa()
    _begin(asm)
    _loops(asm)
    _end(asm)
    data = np.random.default_rng(1).integers(-(2**15), 2**15, 256).astype(np.int16).tobytes()
    found = _run(core("xtensawin"), asm.code(), data, 256)
    assert found == _run(QemuXtensa(), asm.code(), data, 256)
    assert found[1] > 150


def test_counts_by_hand() -> None:
    asm = Xtensa()
    _begin(asm)  # 6
    asm.movi(6, 1000)  # 1
    top = asm.label()
    asm.addi(6, 6, -1)  # 2 * 1000
    asm.bnez(6, top)
    _end(asm)  # 2
    assert _run(core("xtensawin"), asm.code(), b"", 4)[:2] == (0, 2009)


def _faulty(body: Callable[[Xtensa], None], frame: int = 32) -> bytes:
    asm = Xtensa()
    _begin(asm, frame)
    body(asm)
    _end(asm)
    return asm.code()


def _endless(asm: Xtensa) -> None:
    asm.movi(6, -1)
    asm.loop(6, "end")
    asm.nop()
    asm.nop()
    asm.label("end")


def _dot_too_far(asm: Xtensa) -> None:
    asm.movi(6, 20)
    asm.ldinc(0, 3)
    asm.ldinc(2, 3)
    asm.mov(7, 3)
    asm.mul_dd("ll", 0, 2)
    asm.loop(6, "end")
    asm.mula_dd_ldinc("ll", 1, 7, 0, 2)
    asm.mula_dd_ldinc("hh", 3, 3, 0, 2)
    asm.mula_dd_ldinc("ll", 0, 7, 1, 3)
    asm.mula_dd_ldinc("hh", 2, 3, 1, 3)
    asm.label("end")


def _move_stack(asm: Xtensa) -> None:
    asm.addi(1, 1, -16)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda asm: asm.l32i(6, 0), "lies outside"),
        (lambda asm: (asm.addi(3, 3, 2), asm.l32i(6, 3)), "is not aligned"),
        (lambda asm: (asm.addi(3, 3, 1), asm.l16si(6, 3)), "is not aligned"),
        (lambda asm: asm.l32i(6, 3, 64), "lies outside"),
        (lambda asm: (asm.addi(3, 3, -4), asm.l32i(6, 3)), "lies outside"),
        (lambda asm: asm.s32i(6, 2), "lies outside"),
        (lambda asm: (asm.addi(3, 3, 2), asm.ldinc(0, 3)), "is not aligned"),
        (lambda asm: asm.s32i(6, 1), "lies outside"),
        (lambda asm: asm.rsr(6, ACCLO), "nothing has set"),
        (lambda asm: asm.sra(6, 6), "nothing has set"),
        (lambda asm: asm.mov(0, 3), "did not restore"),
        (_move_stack, "did not restore"),
        (_endless, "runs longer"),
        (_dot_too_far, "a loop reads"),
        (lambda asm: asm.entry(1, 32), "only entry"),
        (lambda asm: asm.syscall(), "is not known"),
        (lambda asm: asm.emit(b"\0\0\0"), "is not known"),
    ],
)
def test_what_a_routine_must_not_do_is_refused(body: Callable[[Xtensa], None], message: str) -> None:
    with pytest.raises(Fault, match=message):
        _run(core("xtensawin"), _faulty(body), bytes(64), 64)


def test_the_stack_frame_is_the_routines_own() -> None:
    code = _faulty(lambda asm: (asm.s32i(3, 1), asm.s32i(3, 1, 12), asm.l32i(6, 1)), frame=48)
    assert _run(core("xtensawin"), code, bytes(4), 4)[0] == 0
    with pytest.raises(Fault, match="lies outside"):
        _run(core("xtensawin"), _faulty(lambda asm: asm.s32i(3, 1, 16), frame=48), bytes(4), 4)


def test_code_is_read_by_words_only() -> None:
    machine = core("xtensawin")
    asm = Xtensa()
    _begin(asm)
    asm.l32i(6, 3)
    asm.s32i(6, 4)
    _end(asm)
    code = machine.load(asm.code())
    out = machine.alloc(4)
    assert machine.call(code, machine.block(in0=code, out=out))[0] == 0
    assert machine.read(out, 4) == asm.code()[:4]
    asm = Xtensa()
    _begin(asm)
    asm.l8ui(6, 3)
    _end(asm)
    code = machine.load(asm.code())
    with pytest.raises(Fault, match="lies outside"):
        machine.call(code, machine.block(in0=code, out=out))


def test_a_routine_that_changes_is_translated_again() -> None:
    machine = core("xtensawin")
    out = machine.alloc(4)
    for value in (5, 6):
        mark = machine.mark()
        asm = Xtensa()
        _begin(asm)
        asm.movi(6, value)
        asm.s32i(6, 4)
        _end(asm)
        assert machine.call(machine.load(asm.code()), machine.block(out=out))[0] == 0
        assert machine.read(out, 4) == bytes([value, 0, 0, 0])
        machine.release(mark)


@needs_qemu
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("tinymaix_mnist_valid_q", "size"),
        pytest.param("mnist_cnn_int8", "speed", marks=pytest.mark.soak),
        pytest.param("kws_ref_model", "speed", marks=pytest.mark.soak),
    ],
)
def test_a_whole_model_counts_the_same_on_qemu(models_dir: Path, name: str, form: Form) -> None:
    """Kernels of both kinds, every operator of the model: outputs and the count of each call."""
    plan = plan_for(load(models_dir / f"{name}.tflite"), None, "xtensawin", form, "ram")
    shape = plan.graph.tensors[plan.graph.inputs[0]].shape
    x = np.random.default_rng(3).integers(-128, 128, shape).astype(np.int8)
    ours, on_qemu = (LoadedModel(machine, plan).run([x]) for machine in (core("xtensawin"), QemuXtensa()))
    assert ours.mismatches == on_qemu.mismatches == 0
    assert ours.counts == on_qemu.counts
