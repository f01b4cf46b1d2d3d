"""The Xtensa assembler: what GNU objdump and qemu's dc233c read in its bytes, checked ranges, far forms, literals."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from midgehost.codegen.asm.base import AssemblyError
from midgehost.codegen.asm.xtensa import ACCHI, ACCLO, LBEG, LCOUNT, LEND, M0, M3, SAR, Xtensa
from midgehost.codegen.sim import qemu_xtensa

_OBJDUMP = "xtensa-lx106-elf-objdump"
_RRR = (
    *("addx2", "addx4", "addx8", "sub", "subx2", "subx4", "subx8", "moveqz", "movnez", "movltz", "movgez"),
    *("mull", "mul16u", "mul16s", "src", "and_", "or_", "xor"),
)
_RRR_NOT_LX106 = ["min", "max", "minu", "maxu"]
_COMPARE = ["beq", "bne", "blt", "bge", "bltu", "bgeu", "bnone", "bany", "ball", "bnall", "bbc", "bbs"]
_COMPARE_IMMEDIATE = ["beqi", "bnei", "blti", "bgei", "bltui", "bgeui"]
_COMPARE_ZERO = ["beqz", "bnez", "bltz", "bgez"]
_HALVES = ("ll", "hl", "lh", "hh")
_SPECIAL = {
    LBEG: "lbeg",
    LEND: "lend",
    LCOUNT: "lcount",
    SAR: "sar",
    ACCLO: "acclo",
    ACCHI: "acchi",
    M0: "m0",
    M3: "m3",
}

needs_qemu = pytest.mark.skipif(not qemu_xtensa.available(), reason="qemu-xtensa is missing: apt-get install qemu-user")


class _Program:
    """The same random instructions as bytes and as a disassembler's text."""

    def __init__(self, seed: int) -> None:
        self.asm = Xtensa()
        self.text: list[str] = []
        self._rng = random.Random(seed)

    def register(self) -> int:
        return self._rng.randrange(16)

    def number(self, low: int, high: int, step: int = 1) -> int:
        return self._rng.choice((low, high, self._rng.randrange(low, high + 1, step)))

    def add(self, method: str, *operands: int | str, name: str = "", order: str = "") -> None:
        """Registers are given as "a3" or "m1"; what is left is a number."""
        values = [int(o[1:]) if isinstance(o, str) and o[0] in "am" else o for o in operands]
        getattr(self.asm, method)(*values)
        self.text.append((name or method.rstrip("_")) + " " + ", ".join(str(o) for o in operands))

    def common(self) -> None:
        """What the lx106 core has too."""
        a = [f"a{self.register()}" for _ in range(3)]
        for method in _RRR:
            self.add(method, *a)
        self.add("add", *a, name="add.n")
        for method, size in ("l8ui", 1), ("l16ui", 2), ("l16si", 2), ("s8i", 1), ("s16i", 2), ("l32i", 4), ("s32i", 4):
            offset = self.number(0, 255 * size, size)
            narrow = size == 4 and offset < 64
            self.add(method, a[0], a[1], offset, name=method + ".n" * narrow)
        value = self.number(-2048, 2047)
        self.add("movi", a[0], value, name="movi.n" if -32 <= value <= 95 else "movi")
        value = self.number(-128, 127)
        self.add("addi", a[0], a[1], value, name="addi.n" if value == -1 or 1 <= value <= 15 else "addi")
        self.add("addmi", a[0], a[1], self.number(-32768, 32512, 256))
        self.add("mov", a[0], a[1], name="mov.n")
        for method in "neg", "abs", "nsau", "sll", "srl", "sra":
            self.add(method, a[0], a[1])
        self.add("extui", a[0], a[1], self.number(0, 31), self.number(1, 16))
        self.add("slli", a[0], a[1], self.number(1, 31))
        self.add("srli", a[0], a[1], self.number(0, 15))
        self.add("srai", a[0], a[1], self.number(0, 31))
        self.add("ssl", a[0])
        self.add("ssr", a[0])
        self.add("ssai", self.number(0, 31))
        for method in "nop", "isync", "rsync", "memw":
            self.add(method, name="nop.n" if method == "nop" else method)

    def rest(self) -> None:
        """What ESP32 has beside it."""
        a = [f"a{self.register()}" for _ in range(3)]
        for method in _RRR_NOT_LX106:
            self.add(method, *a)
        self.add("clamps", a[0], a[1], self.number(7, 22))
        self.add("sext", a[0], a[1], self.number(7, 22))
        for special, name in _SPECIAL.items():
            for method in "rsr", "wsr", "xsr":
                getattr(self.asm, method)(int(a[0][1:]), special)
                self.text.append(f"{method}.{name} {a[0]}")
        w, x, y = f"m{self.number(0, 3)}", f"m{self.number(0, 1)}", f"m{self.number(2, 3)}"
        self.add("ldinc", w, a[0])
        self.add("lddec", w, a[0])
        for half in _HALVES:
            for method, operands in {
                "umul_aa": a[:2], "mul_aa": a[:2], "mula_aa": a[:2], "muls_aa": a[:2],
                "mul_ad": (a[0], y), "mula_ad": (a[0], y), "mul_da": (x, a[0]), "mula_da": (x, a[0]),
                "mul_dd": (x, y), "mula_dd": (x, y),
                "mula_dd_ldinc": (w, a[0], x, y), "mula_dd_lddec": (w, a[0], x, y),
                "mula_da_ldinc": (w, a[0], x, a[1]), "mula_da_lddec": (w, a[0], x, a[1]),
            }.items():  # fmt: skip
                getattr(self.asm, method)(half, *(int(o[1:]) for o in operands))
                stem, _, load = method.replace("_", ".", 1).partition("_")
                self.text.append(f"{stem}.{half}{'.' + load if load else ''} " + ", ".join(operands))


def _objdump(code: bytes, folder: Path) -> list[str]:
    if shutil.which(_OBJDUMP) is None:
        pytest.skip(f"{_OBJDUMP} is missing: apt-get install binutils-xtensa-lx106")
    raw = folder / "code.bin"
    raw.write_bytes(code)
    command = [_OBJDUMP, "-D", "-b", "binary", "-m", "xtensa", str(raw)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [_decimal(text) for text in re.findall(r"^\s+[0-9a-f]+:\t[0-9a-f]+\s*\t(.*)$", listing, re.M)]


def _decimal(text: str) -> str:
    """One space, no tabs, numbers in decimal, no comments."""
    text = " ".join(re.sub(r"\(.*\)|<.*>", "", text).replace(",", ", ").split())
    return re.sub(r"0x[0-9a-f]+", lambda hit: str(_signed(int(hit[0], 16))), text)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _stripped(texts: list[str]) -> list[str]:
    return [text.strip() for text in texts]


@pytest.mark.parametrize("seed", range(8))
def test_gnu_objdump_reads_what_was_meant(seed: int, tmp_path: Path) -> None:
    program = _Program(seed)
    program.common()
    assert _objdump(program.asm.code(), tmp_path) == _stripped(program.text)


@needs_qemu
@pytest.mark.parametrize("seed", range(4))
def test_qemu_reads_what_was_meant(seed: int) -> None:
    program = _Program(seed)
    program.common()
    found = [_decimal(text) for text in qemu_xtensa.disassemble(program.asm.code())]
    # qemu ends a block at isync: compare up to it
    end = next(i for i, text in enumerate(program.text) if text.startswith("isync"))
    assert found[:end] == _stripped(program.text)[:end]
    rest = _Program(seed)
    rest.rest()
    # every write of a special register ends qemu's block: one instruction a piece
    blocks = [text for text in rest.text if not text.startswith(("wsr", "xsr"))]
    texts = [_decimal(text) for piece in _pieces(rest.asm.code()) for text in qemu_xtensa.disassemble(piece)]
    assert [text for text in texts if not text.startswith(("wsr", "xsr"))] == blocks


def _pieces(code: bytes) -> list[bytes]:
    """The code cut behind every wsr and xsr."""
    pieces: list[bytes] = [b""]
    for i in range(0, len(code), 3):
        pieces[-1] += code[i : i + 3]
        if code[i + 2] in (0x13, 0x61) and code[i] & 15 == 0:
            pieces.append(b"")
    return [piece for piece in pieces if piece]


@needs_qemu
def test_qemu_reads_windows_and_loops() -> None:
    asm = Xtensa()
    asm.entry(1, 48)
    assert qemu_xtensa.disassemble(asm.code()) == ["entry a1, 48"]
    for method in "loop", "loopnez", "loopgtz":
        asm = Xtensa()
        asm.mov(2, 2)
        getattr(asm, method)(5, "end")
        asm.addi(3, 3, 1)
        asm.label("end")
        found = qemu_xtensa.disassemble(asm.code())
        assert found[1] == f"{method} a5, 0x400007"
    asm = Xtensa()
    asm.retw()
    assert qemu_xtensa.disassemble(asm.code()) == ["retw.n"]


def test_the_high_multiplies_have_llvms_encoding() -> None:
    # dc233c has no MUL32_HIGH; these bytes are in LLVM's tests (test/MC/Xtensa): mulsh and muluh a3, a4, a5.
    asm = Xtensa()
    asm.mulsh(3, 4, 5)
    asm.muluh(3, 4, 5)
    assert asm.code() == bytes([0x50, 0x34, 0xB2, 0x50, 0x34, 0xA2])


def _branches() -> list[tuple[str, tuple[int, ...], str]]:
    found: list[tuple[str, tuple[int, ...], str]] = [(name, (3, 4), f"{name} a3, a4") for name in _COMPARE]
    for name in _COMPARE_IMMEDIATE:
        for value in (32768, 65536) if "u" in name else (-1, 1):
            found.append((name, (3, value), f"{name} a3, {value}"))
        found += [(name, (3, value), f"{name} a3, {value}") for value in (2, 8, 10, 256)]
    found += [(name, (3,), f"{name} a3") for name in _COMPARE_ZERO]
    found += [(name, (3, bit), f"{name} a3, {bit}") for name in ("bbci", "bbsi") for bit in (0, 15, 16, 31)]
    return found


def test_gnu_objdump_reads_the_branches(tmp_path: Path) -> None:
    asm = Xtensa()
    asm.label("start")
    wanted: list[str] = []
    for method, operands, text in _branches():
        if asm.here > 100:
            break
        getattr(asm, method)(*operands, "start")
        wanted.append(f"{text}, 0")
    asm.j("start")
    assert _objdump(asm.code(), tmp_path) == [*wanted, "j 0"]
    for method, operands, text in _branches():
        asm = Xtensa()
        getattr(asm, method)(*operands, "end")
        asm.emit(bytes(121))
        asm.label("end")
        assert _objdump(asm.code(), tmp_path)[0] == f"{text}, 124"


def test_far_branches_jump_over_a_jump(tmp_path: Path) -> None:
    inverses = {
        "beq": "bne", "blt": "bge", "bltu": "bgeu", "bnone": "bany", "ball": "bnall", "bbc": "bbs", "beqi": "bnei",
        "blti": "bgei", "bltui": "bgeui", "beqz": "bnez", "bltz": "bgez", "bbci": "bbsi",
    }  # fmt: skip
    inverses |= {there: here for here, there in inverses.items()}
    for method, operands, text in _branches():
        asm = Xtensa()
        getattr(asm, method)(*operands, "end", far=True)
        asm.emit(bytes(30000))
        asm.label("end")
        name, rest = text.split(" ", 1)
        assert _objdump(asm.code()[:6], tmp_path) == [f"{inverses[name]} {rest}, 6", "j 30006"]


def test_literals_lie_before_the_code_once_each(tmp_path: Path) -> None:
    asm = Xtensa()
    asm.movi(2, 0x12345678)
    asm.movi(3, -5000)
    asm.movi(4, 0x12345678)
    asm.nop()
    asm.movi(5, 0xFFFFEC78)  # -5000 again
    asm.retw()
    code = asm.code()
    assert code[4:12] == (0x12345678).to_bytes(4, "little") + (-5000).to_bytes(4, "little", signed=True)
    assert _objdump(code[:3], tmp_path) == ["j 12"]
    assert [text.rpartition(", ")[0] for text in _objdump(code[12:-2], tmp_path) if text != "nop.n"] == [
        f"l32r a{register}" for register in (2, 3, 4, 5)
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda asm: asm.add(2, 16, 3),
        lambda asm: asm.addi(2, 2, 128),
        lambda asm: asm.addmi(2, 2, 100),
        lambda asm: asm.l16si(2, 3, 1),
        lambda asm: asm.l32i(2, 3, 1024),
        lambda asm: asm.slli(2, 3, 0),
        lambda asm: asm.srli(2, 3, 16),
        lambda asm: asm.extui(2, 3, 0, 17),
        lambda asm: asm.clamps(2, 3, 6),
        lambda asm: asm.movi(2, 1 << 32),
        lambda asm: asm.beqi(2, 9, asm.label()),
        lambda asm: asm.mula_dd("ll", 2, 2),
        lambda asm: asm.mula_dd("ll", 0, 1),
        lambda asm: asm.ldinc(4, 2),
        lambda asm: asm.entry(1, 20),
    ],
)
def test_operands_out_of_range_are_refused(wrong: Callable[[Xtensa], None]) -> None:
    with pytest.raises(AssemblyError):
        wrong(Xtensa())


@pytest.mark.parametrize(
    ("branch", "reach"),
    [
        (lambda asm: asm.beq(2, 3, "end"), 127 + 1),
        (lambda asm: asm.beqz(2, "end"), 2047 + 1),
        (lambda asm: asm.loop(2, "end"), 255 + 1),
        (lambda asm: asm.j("end"), 131071 + 1),
    ],
)
def test_targets_out_of_reach_are_refused(branch: Callable[[Xtensa], None], reach: int) -> None:
    for body, fits in (reach, True), (reach + 1, False):
        asm = Xtensa()
        asm.nop()  # a loop needs no further one here
        branch(asm)
        asm.emit(bytes(body))
        asm.label("end")
        if fits:
            asm.code()
        else:
            with pytest.raises(AssemblyError, match="it must be"):
                asm.code()


def test_a_loops_first_instruction_does_not_cross_a_word() -> None:
    for before in range(4):
        asm = Xtensa()
        asm.emit(bytes(before))
        asm.loop(2, "end")
        start = asm.here
        assert start % 4 in (0, 1)
        asm.addx8(2, 3, 4)
        asm.label("end")
        asm.code()
