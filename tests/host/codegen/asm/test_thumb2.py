"""ARMv7E-M: every encoding as GNU as has it, and operands out of range refused."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from midgehost.codegen.asm.base import AssemblyError
from midgehost.codegen.asm.thumb import LR, PC, R0, R1, R2, R3, R4, R5, R8, R12, SP
from midgehost.codegen.asm.thumb2 import Shift, Thumb2, asr, lsl, modified_immediate, ror

AS = shutil.which("arm-none-eabi-as")

# Text whose operands are the method's arguments, in order: <r> a register but SP and PC, <l> a low one, <a..b/s> a
# number, <x> a modified immediate, <k> one of the rotations 0, 8, 16 and 24, <s> any shift, <L> lsl, <A> lsl or asr.
_SHIFTED = ("add", "adds", "adc", "sub", "subs", "sbc", "rsb", "and", "bic", "orr", "eor")
_IMMEDIATE = ("adds", "subs", "rsb", "and", "ands", "bic", "orr", "eor", "add", "sub")
_MULTIPLY_ADD = (
    "mla",
    "mls",
    "smmla",
    "smmlar",
    "smlad",
    "smladx",
    "smlabb",
    "smlabt",
    "smlatb",
    "smlatt",
    "smlawb",
    "smlawt",
)
_MULTIPLY = ("mul", "smmul", "smmulr", "smuad", "smuadx", "smulbb", "smulbt", "smultb", "smultt", "sdiv", "udiv")
_TEMPLATES = {
    "movw": "movw <r>, #<0..65535>",
    "movt": "movt <r>, #<0..65535>",
    "mov_imm_w": "mov.w <r>, #<x>",
    "mvn_imm_w": "mvn.w <r>, #<x>",
    **{f"{name}_w": f"{name}.w <r>, <r>, <r><s>" for name in _SHIFTED},
    **{f"{name}_imm_w": f"{name}.w <r>, <r>, #<x>" for name in _IMMEDIATE},
    "mvn_w": "mvn.w <r>, <r><s>",
    "cmp_w": "cmp.w <r>, <r><s>",
    "tst_w": "tst.w <r>, <r><s>",
    "cmp_imm_w": "cmp.w <r>, #<x>",
    "cmn_imm_w": "cmn.w <r>, #<x>",
    "tst_imm_w": "tst.w <r>, #<x>",
    "pkhbt": "pkhbt <r>, <r>, <r><L>",
    "lsl_imm_w": "lsl.w <r>, <r>, #<1..31>",
    "lsr_imm_w": "lsr.w <r>, <r>, #<1..32>",
    "asr_imm_w": "asr.w <r>, <r>, #<1..32>",
    "ror_imm_w": "ror.w <r>, <r>, #<1..31>",
    **{f"{name}_w": f"{name}.w <r>, <r>, <r>" for name in ("lsl", "lsr", "asr", "ror")},
    "ssat": "ssat <r>, #<1..32>, <r><A>",
    "usat": "usat <r>, #<0..31>, <r><A>",
    "clz": "clz <r>, <r>",
    **{f"{name}_w": f"{name}.w <r>, <r>, ror #<k>" for name in ("sxtb", "uxtb", "sxth", "uxth")},
    **{name: f"{name} <r>, <r>, ror #<k>" for name in ("sxtb16", "uxtb16")},
    **{name: f"{name} <r>, <r>, <r>, ror #<k>" for name in ("sxtab", "sxtah", "uxtab", "sxtab16")},
    **{name: f"{name} <r>, <r>, <r>" for name in (*_MULTIPLY, "sadd16", "ssub16")},
    **{name: f"{name} <r>, <r>, <r>, <r>" for name in _MULTIPLY_ADD},
    **{f"{name}_w": f"{name}.w <r>, [<r>, #<0..4095>]" for name in ("ldrh", "ldrsh", "strh", "ldrb", "ldrsb", "strb")},
    "ldr_w": "ldr.w <r>, [<r>, #<0..4095>]",
    "str_w": "str.w <r>, [<r>, #<0..4095>]",
    **{
        f"{name}_reg_w": f"{name}.w <r>, [<r>, <r>, lsl #<0..3>]"
        for name in ("ldr", "str", "ldrh", "ldrsh", "strh", "ldrb", "ldrsb", "strb")
    },
}
_MOVING = ("ldr", "str", "ldrh", "ldrsh", "strh", "ldrb", "ldrsb", "strb")
_FIXED: list[tuple[Callable[[Thumb2], None], str]] = [
    *((lambda a, n=n: getattr(a, f"{n}_post")(R3, R8, 255), f"{n} r3, [r8], #255") for n in _MOVING),
    *((lambda a, n=n: getattr(a, f"{n}_post")(R8, R3, -4), f"{n} r8, [r3], #-4") for n in _MOVING),
    *((lambda a, n=n: getattr(a, f"{n}_w")(R8, R3, -255), f"{n} r8, [r3, #-255]") for n in _MOVING),
    (lambda a: a.ldr_pre(R3, R8, 4), "ldr r3, [r8, #4]!"),
    (lambda a: a.str_pre(R3, R8, -4), "str r3, [r8, #-4]!"),
    (lambda a: a.ldrd(R3, R8, R1, 1020), "ldrd r3, r8, [r1, #1020]"),
    (lambda a: a.ldrd(R3, R8, SP, -8), "ldrd r3, r8, [sp, #-8]"),
    (lambda a: a.strd(R3, R4, R12, 0), "strd r3, r4, [r12]"),
    (lambda a: a.ldm_w(R8, (R1, R3, R12)), "ldmia.w r8!, {r1, r3, r12}"),
    (lambda a: a.ldm_w(R0, (R0, LR), writeback=False), "ldmia.w r0, {r0, lr}"),
    (lambda a: a.stm_w(R8, (R1, LR)), "stmia.w r8!, {r1, lr}"),
    (lambda a: a.stm_w(R8, (R1, R8), writeback=False), "stmia.w r8, {r1, r8}"),
    (lambda a: a.push_w((R4, R8, LR)), "push {r4, r8, lr}"),
    (lambda a: a.pop_w((R4, R8, PC)), "pop {r4, r8, pc}"),
    (lambda a: a.pkhtb(R1, R8, R3, asr(16)), "pkhtb r1, r8, r3, asr #16"),
    (lambda a: a.smull(R1, R8, R3, R4), "smull r1, r8, r3, r4"),
    (lambda a: a.umull(R1, R8, R3, R4), "umull r1, r8, r3, r4"),
    (lambda a: a.smlal(R1, R8, R3, R4), "smlal r1, r8, r3, r4"),
    (lambda a: a.umlal(R1, R8, R3, R4), "umlal r1, r8, r3, r4"),
    (lambda a: a.ubfx(R1, R8, 5, 27), "ubfx r1, r8, #5, #27"),
    (lambda a: a.sbfx(R1, R8, 31, 1), "sbfx r1, r8, #31, #1"),
    (lambda a: a.bfi(R1, R8, 7, 9), "bfi r1, r8, #7, #9"),
    (lambda a: a.bfc(R1, 7, 9), "bfc r1, #7, #9"),
    (lambda a: a.add_imm_w(R1, SP, 4095), "addw r1, sp, #4095"),
    (lambda a: a.sub_imm_w(R1, R8, 1001), "subw r1, r8, #1001"),
    (lambda a: a.set_int(R3, 200), "movs r3, #200"),
    (lambda a: a.set_int(R8, 200), "mov.w r8, #200"),
    (lambda a: a.set_int(R3, -2), "mvn r3, #1"),
    (lambda a: a.set_int(R3, 0x1234), "movw r3, #0x1234"),
    (lambda a: a.set_int(R3, -123456), "movw r3, #0x1dc0\nmovt r3, #0xfffe"),
    (lambda a: (a.it("eq"), a.mov(R1, R2)), "it eq\nmoveq r1, r2"),
    (lambda a: (a.it("cs", "te"), [a.mov(R1, R2) for _ in "ite"]), "itte cs\nmovcs r1, r2\nmovcs r1, r2\nmovcc r1, r2"),
    (
        lambda a: (a.it("lt", "eet"), [a.mov(R1, R2) for _ in "four"]),
        "iteet lt\nmovlt r1, r2\nmovge r1, r2\nmovge r1, r2\nmovlt r1, r2",
    ),
    (
        lambda a: (a.label("n"), a.cbz(R3, "m"), a.cbnz(R5, "m"), a.nop(), a.label("m"), a.bcond_w("lt", "n")),
        "n: cbz r3, m\ncbnz r5, m\nmov r8, r8\nm: blt.w n",
    ),
    (
        lambda a: (a.label("x"), a.b_w("y"), a.emit(bytes(5000)), a.label("y"), a.b_w("x")),
        "x: b.w y\n.space 5000\ny: b.w x",
    ),
    (lambda a: (a.bcond_w("hi", "z"), a.emit(bytes(5000)), a.label("z")), "bhi.w z\n.space 5000\nz:"),
]


@pytest.mark.skipif(AS is None, reason="needs arm-none-eabi-as (Debian: binutils-arm-none-eabi)")
def test_encodings_as_gnu_as_has_them(tmp_path: Path):
    random_ = random.Random(7)
    cases = [_filled(method, text, random_) for method, text in _TEMPLATES.items() for _ in range(12)]
    assembler, lines, places = Thumb2(), [".syntax unified", ".thumb"], []
    for emit, text in (*cases, *_FIXED):
        start = assembler.here
        emit(assembler)
        places.append((start, assembler.here, text))
        lines.append(text)
    source, objects, flat = tmp_path / "t.s", tmp_path / "t.o", tmp_path / "t.bin"
    source.write_text("\n".join(lines) + "\n")
    assert AS is not None
    subprocess.run([AS, "-march=armv7e-m", "-o", objects, source], check=True)
    subprocess.run([AS.removesuffix("as") + "objcopy", "-O", "binary", objects, flat], check=True)
    ours, theirs = assembler.code(), flat.read_bytes()
    for start, end, text in places:
        assert ours[start:end].hex(" ") == theirs[start:end].hex(" "), text
    assert len(ours) == len(theirs)


def _filled(method: str, text: str, random_: random.Random) -> tuple[Callable[[Thumb2], None], str]:
    """A template with random operands: the call, and its text."""
    values: list[int | Shift] = []

    def operand(match: re.Match[str]) -> str:
        slot = match[1]
        if slot in "rl":
            values.append(random_.choice([*range(13), LR] if slot == "r" else range(8)))
            return f"r{values[-1]}"
        if slot == "x":
            byte, form = random_.randrange(1, 256), random_.randrange(4)
            values.append(
                (byte, byte * 0x10001, byte * 0x1000100, byte << random_.randrange(25))[form]
                if random_.random() < 0.9
                else byte * 0x1010101
            )
            return str(values[-1])
        if slot == "k":
            values.append(random_.choice((8, 16, 24)))
            return str(values[-1])
        if slot in "sLA":
            kind = {"s": random_.randrange(4), "L": 0, "A": random_.choice((0, 2))}[slot]
            amount = random_.randrange(1, 32)
            values.append(Shift(kind, amount))
            return f", {('lsl', 'lsr', 'asr', 'ror')[kind]} #{amount}"
        low, high = (int(n) for n in slot.split(".."))
        values.append(random_.choice((low, high, random_.randint(low, high))))
        return str(values[-1])

    filled = re.sub(r"<([^>]+)>", operand, text)
    return (lambda a: getattr(a, method)(*values)), filled


@pytest.mark.parametrize(
    "emit",
    [
        lambda a: a.add_imm_w(R0, R1, 4097),
        lambda a: a.and_imm_w(R0, R1, 0x101),
        lambda a: a.movw(R0, 65536),
        lambda a: a.mul(R0, R1, PC),
        lambda a: a.smull(R1, R1, R2, R3),
        lambda a: a.smlad(R1, R2, R3, PC),
        lambda a: a.sxtb16(R1, R2, 4),
        lambda a: a.ssat(R1, 33, R2),
        lambda a: a.ssat(R1, 8, R2, ror(3)),
        lambda a: a.pkhbt(R1, R2, R3, asr(1)),
        lambda a: a.add_w(R1, R2, R3, lsl(32)),
        lambda a: a.ubfx(R1, R2, 30, 3),
        lambda a: a.ldr_w(R1, R2, 4096),
        lambda a: a.ldr_w(R1, R2, -256),
        lambda a: a.ldr_post(R1, R1, 4),
        lambda a: a.ldrd(R1, R2, R3, 2),
        lambda a: a.ldrd(R1, R1, R3),
        lambda a: a.ldm_w(R1, (R1, R2)),
        lambda a: a.ldm_w(R1, (R2,)),
        lambda a: a.pop_w((LR, PC)),
        lambda a: a.push_w((R1, SP)),
        lambda a: a.cbz(R8, "x"),
        lambda a: a.it("eq", "tttt"),
        lambda a: (a.cbz(R0, "x"), a.emit(bytes(130)), a.label("x"), a.code()),
        lambda a: (a.label("x"), a.nop(), a.cbz(R0, "x"), a.code()),
        lambda a: (a.bcond_w("eq", "x"), a.emit(bytes(1 << 20)), a.emit(bytes(4)), a.label("x"), a.code()),
    ],
)
def test_operands_out_of_range(emit: Callable[[Thumb2], None]):
    with pytest.raises(AssemblyError):
        emit(Thumb2())


def test_modified_immediates():
    assert modified_immediate(0xFF) == 0xFF
    assert modified_immediate(0x00AB00AB) == 0x1AB
    assert modified_immediate(0xAB00AB00) == 0x2AB
    assert modified_immediate(0xABABABAB) == 0x3AB
    assert modified_immediate(0x3FC) == 0xF7F
    assert modified_immediate(0x101) is None
