"""The board's bundle loader on MicroPython: what it refuses, what that costs, and a run that allocates nothing."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from midgehost.models import container
from midgehost.models.bundle import KINDS, Bundle
from midgehost.models.container import Section
from midgehost.models.convert import convert
from midgehost.resources import firmware_dir

MODEL = Path(__file__).resolve().parents[2] / "models" / "fan" / "fan.tflite"
LOAD = """
import gc, json, sys
from midge.errors import MidgeError
from midge.inference import Model
def load(path, level=None):
    try:
        model = Model(path, level)
        return ["ok", model.name, model.level, model.plan_hash, model.self_test()]
    except MidgeError as error:
        return [error.code, error.what]
"""


def micropython(code: str, *arguments: str, heap: str = "2m") -> Any:
    """The JSON that the code prints when it runs in MicroPython with midge's device modules on its path."""
    command = [str(Path(sys.executable).with_name("micropython")), "-X", f"heapsize={heap}", "-c"]
    source = f"import sys\nsys.path.insert(0, {str(firmware_dir())!r})\n{code}"
    done = subprocess.run([*command, source, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return convert(MODEL)


def sections(bundle: Bundle) -> dict[str, Section]:
    return container.unpack(bundle.encode(), KINDS)


def resealed(data: bytes, at: int, value: bytes) -> bytes:
    """The file with bytes of its header or table replaced and the checksum made right again."""
    changed = bytearray(data)
    changed[at : at + len(value)] = value
    end = 16 + 48 * struct.unpack_from("<H", data, 6)[0]
    changed[12:16] = struct.pack("<I", zlib.crc32(bytes(changed[:12]) + bytes(4) + bytes(changed[16:end])))
    return bytes(changed)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def with_section(bundle: Bundle, *added: Section) -> bytes:
    kept = sections(bundle) | {section.kind: section for section in added}
    return container.pack(list(kept.values()))


def with_abi(bundle: Bundle) -> bytes:
    return replace(bundle, meta={**bundle.meta, "abi": 2}).encode()


def with_call(bundle: Bundle, **changes: int) -> bytes:
    return replace(bundle, calls=(replace(bundle.calls[0], **changes), *bundle.calls[1:])).encode()


DAMAGE: dict[str, tuple[Callable[[Bundle], bytes], str, str]] = {
    "empty": (lambda b: b"", "model.bad_bundle", "MDGB"),
    "other file": (lambda b: b"hello" * 99, "model.bad_bundle", "MDGB"),
    "header only": (lambda b: b.encode()[:16], "model.bad_bundle", "cut short"),
    "half": (lambda b: b.encode()[: len(b.encode()) // 2], "model.bad_bundle", "cut short"),
    "one byte short": (lambda b: b.encode()[:-1], "model.bad_bundle", "cut short"),
    "one byte more": (lambda b: b.encode() + b"\0", "model.bad_bundle", "cut short"),
    "table flipped": (lambda b: flipped(b.encode(), 20), "model.bad_bundle", "checksum"),
    "last byte flipped": (lambda b: flipped(b.encode(), len(b.encode()) - 1), "model.bad_bundle", "TEST"),
    "major 2": (lambda b: resealed(b.encode(), 4, b"\x02"), "model.bad_bundle", "version 2"),
    "section outside": (lambda b: resealed(b.encode(), 20, struct.pack("<I", 1 << 24)), "model.bad_bundle", "outside"),
    "section missing": (lambda b: resealed(b.encode(), 16, b"XXXX"), "model.bad_bundle", "META"),
    "needed section": (lambda b: with_section(b, Section("NEWS", b"1", 1)), "model.bad_bundle", "NEWS"),
    "abi 2": (with_abi, "model.bad_bundle", "version 2"),
    "unknown kernel": (lambda b: with_call(b, kernel=0x1F), "model.no_kernels", "0x1f"),
    "unknown family": (lambda b: with_call(b, kernel=0xF0), "model.no_kernels", "0xf0"),
    "offset beyond the arena": (lambda b: with_call(b, out=1 << 20), "model.bad_bundle", "arena"),
    "tile that is not there": (lambda b: with_call(b, tile=99), "model.bad_bundle", "call"),
    "minor 9": (lambda b: resealed(b.encode(), 5, b"\x09"), "ok", "fan"),
    "section to skip": (lambda b: with_section(b, Section("NOTE", b"1")), "ok", "fan"),
}


def test_damaged_bundles_are_refused_with_a_code(bundle: Bundle, tmp_path: Path) -> None:
    for i, (damage, _, _) in enumerate(DAMAGE.values()):
        (tmp_path / f"{i}").write_bytes(damage(bundle))
    code = f"{LOAD}\nprint(json.dumps([load({str(tmp_path)!r} + '/%d' % i) for i in range({len(DAMAGE)})]))"
    for (name, (_, expected, words)), answer in zip(DAMAGE.items(), micropython(code), strict=True):
        assert answer[0] == expected and words in answer[1], (name, answer)


def test_levels(bundle: Bundle, tmp_path: Path) -> None:
    path = str(tmp_path / "fan.midge")
    Path(path).write_bytes(bundle.encode())
    code = f"{LOAD}\nprint(json.dumps([load({path!r}, level) for level in (None, 'viper', 'portable', 'native')]))"
    best, viper, portable, native = micropython(code)
    assert best == viper == ["ok", "fan", "viper", bundle.plan_hash, 0]
    assert portable == ["ok", "fan", "portable", bundle.plan_hash, 0]
    assert native[0] == "model.no_kernels" and "native" in native[1]
    assert micropython(f"{LOAD}\nprint(json.dumps(load('/no/such.midge')))")[0] == "model.not_found"


def test_self_test_counts_vectors_that_differ(bundle: Bundle, tmp_path: Path) -> None:
    first, second = bundle.tests
    wrong = replace(first, outputs=(flipped(first.outputs[0], 0),))
    for name, tests in (("one", (wrong, second)), ("all", (wrong, wrong))):
        (tmp_path / name).write_bytes(replace(bundle, tests=tests).encode())
    code = f"{LOAD}\nprint(json.dumps([load({str(tmp_path)!r} + '/' + name)[4] for name in ('one', 'all')]))"
    assert micropython(code) == [1, 2]


def test_a_run_allocates_nothing_and_an_abandoned_one_leaves_no_trace(bundle: Bundle, tmp_path: Path) -> None:
    path = str(tmp_path / "fan.midge")
    Path(path).write_bytes(bundle.encode())
    vector = bundle.tests[0]
    code = f"""{LOAD}
import micropython
model = Model({path!r}, 'viper')
def feed():
    model.input(0)[:] = bytes({list(vector.inputs[0])})
feed()
micropython.heap_lock()
model.invoke()
micropython.heap_unlock()
outputs = [list(model.output(0))]
feed()
for count, operator in enumerate(model.steps()):
    if count == 2:
        break
feed()
model.invoke()
outputs.append(list(model.output(0)))
feed()
operators = [operator for operator in model.steps()]
outputs.append(list(model.output(0)))
print(json.dumps([outputs, operators]))
"""
    outputs, operators = micropython(code)
    assert outputs == [list(vector.outputs[0])] * 3
    assert operators == [call.operator for call in bundle.calls for _ in range(call.slices)]


def test_too_little_heap_is_refused_and_given_back(bundle: Bundle, tmp_path: Path) -> None:
    size = 400_000
    greedy = replace(bundle, tiles=(*bundle.tiles, bytes(size)))
    hungry = replace(bundle, meta={**bundle.meta, "arena_bytes": size})
    for name, model in (("tiles", greedy), ("arena", hungry), ("fits", bundle)):
        (tmp_path / name).write_bytes(model.encode())
    code = f"""{LOAD}
folder = {str(tmp_path)!r} + '/'
load(folder + 'fits')
gc.collect()
before = gc.mem_free()
answers = [load(folder + 'tiles'), load(folder + 'arena')]
hole = bytearray(gc.mem_free() // 2)  # free, but in no piece that holds the arena
answers.append(load(folder + 'arena'))
hole = None
gc.collect()
print(json.dumps([answers, before - gc.mem_free(), load(folder + 'fits')]))
"""
    answers, lost, again = micropython(code, heap="384k")
    assert [answer[0] for answer in answers] == ["model.too_big"] * 3
    assert lost < 4096 and again[0] == "ok"


def test_memory_error_while_loading_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """A heap that is free in sum, but broken into pieces smaller than the arena."""
    hungry = replace(bundle, meta={**bundle.meta, "arena_bytes": 60_000})
    (tmp_path / "m").write_bytes(hungry.encode())
    code = f"""{LOAD}
load({str(tmp_path / "m")!r}[:-1] + 'absent')
pieces = []
try:
    while True:
        pieces.append(bytearray(8192))
except MemoryError:
    pass
for i in range(0, len(pieces), 2):
    pieces[i] = None
gc.collect()
free = gc.mem_free()
answer = load({str(tmp_path / "m")!r})
print(json.dumps([answer, free]))
"""
    answer, free = micropython(code, heap="384k")
    assert answer[0] == "model.too_big" and free > 100_000
