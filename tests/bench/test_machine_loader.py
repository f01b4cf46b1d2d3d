"""What the loader of machine code refuses, and what it remembers, on MicroPython's unix port.

Addresses have 64 bits there and do not fit a block, so the routines of these bundles look at nothing; the loader is
told that the unix port is a board (`BOARD`). What routines compute is tested on the emulated Pico.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from machine_bundle import bundle, machine_only
from test_loader import LOAD, flipped, micropython

from midgehost.models.bundle import Bundle

BOARD = """
import midge.kernels
midge.kernels.forget = lambda name: None  # so that this module stays as it is made here
import midge.kernels.machine
midge.kernels.machine._ARCHES[2] = 'x64'
"""
FINE, STATUS_1 = bytes.fromhex("b801000000c3"), bytes.fromhex("b803000000c3")  # mov eax, 2 * status + 1; ret
FULL_LOAD = """
def load(path, level=None):
    try:
        model = Model(path, level)
        return [model.level, model.reason, model.plan_hash, model.self_test(), model.residence]
    except MidgeError as error:
        return [error.code, error.what]
"""


def model(**changes: Any) -> Bundle:
    return bundle("x64", **{"code": FINE, **changes})


def planned(**changes: int) -> Bundle:
    """The model with another first call."""
    good = model()
    assert good.machine
    calls = (replace(good.machine.calls[0], **changes), good.machine.calls[1])
    return replace(good, machine=replace(good.machine, calls=calls))


def loaded(folder: Path, files: Mapping[str, bytes], code: str) -> Any:
    """The JSON of an expression, with these files in the folder that is `folder` for it."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return micropython(f"{LOAD}{BOARD}{FULL_LOAD}folder = {str(folder)!r} + '/'\nprint(json.dumps({code}))")


def test_it_runs_and_leaves_a_mark(tmp_path: Path) -> None:
    good = model()
    files = {"both": good.encode(), "only": machine_only(good).encode()}
    levels = (None, "machine", "viper", "portable")
    code = f"[[load(folder + name, level) for level in {levels}] for name in ('both', 'only')]"
    both, only = loaded(tmp_path, files, code)
    machine = ["machine", None, good.machine_hash, 0, "ram"]
    others = [[level, None, good.plan_hash, 0, "ram"] for level in levels[2:]]
    assert both == [machine, machine, *others]
    assert only[:2] == [machine, machine] and [code for code, _ in only[2:]] == ["model.no_kernels"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both", "both.ok", "only", "only.ok"]
    assert (tmp_path / "both.ok").read_text().startswith(f"{good.machine_hash} 1.")


def cases() -> dict[str, tuple[bytes, str, str]]:
    """Bundle, the code of the error when machine code is asked for, words of the reason."""
    good = model()
    assert good.machine
    data = good.encode()
    kernels = data.index(good.machine.kernels)
    junk = replace(good, machine=replace(good.machine, kernels=b"M\x06\x17\x1f" + bytes(20)))
    old = replace(good, machine=replace(good.machine, kernels=b"M\x06\x0a\x1f" + good.machine.kernels[4:]))
    no, bad = "model.no_kernels", "model.bad_bundle"
    found = {
        "arch": (bundle("armv6m").encode(), no, "machine code for armv6m, this board runs x64"),
        "new": (model(oldest_firmware="9.1").encode(), no, "machine code for firmware 9.1 and later"),
        "newer": (model(oldest_firmware="1.99.5").encode(), no, "machine code for firmware 1.99.5 and later"),
        "flipped": (flipped(data, kernels + 40), bad, "the hash of section KERN differs"),
        "last": (flipped(data, len(data) - 1), bad, "the hash of section WGTM differs"),
        "missing": (data.replace(b"PRMM", b"PRMN"), bad, "checksum"),
        "other arch": (junk.encode(), no, "machine code does not load"),
        "other abi": (old.encode(), no, "machine code does not load"),
        "big": (model(arena_bytes=3_000_000).encode(), "model.too_big", "2000 bytes of heap"),
        "differs": (replace(good, tests=(replace(good.tests[0], outputs=(bytes(64),)),)).encode(), no, "self-test"),
        "status": (model(code=STATUS_1).encode(), no, "machine code failed its self-test"),
    }
    changes = (
        {"kernel": 1}, {"in0": 256}, {"in1": -2}, {"out": -1}, {"out": 256}, {"tile": 2}, {"tile": -2},
        {"weights": 64}, {"weights": 8}, {"params": 4}, {"params": -1}, {"scratch": 200}, {"scratch": 256},
        {"row0": 17}, {"row0": -1}, {"slice_rows": 0},
    )  # fmt: skip
    return found | {str(change): (planned(**change).encode(), bad, "call 0 leaves") for change in changes}


def test_what_cannot_be_used_falls_back_with_a_reason(tmp_path: Path) -> None:
    given = cases()
    damaged = given.pop("missing")  # no machine code at all is another matter: header and table must be right
    files = {str(i): data for i, (data, _, _) in enumerate(given.values())} | {"missing": damaged[0]}
    code = f"[[load(folder + str(i)), load(folder + str(i), 'machine')] for i in range({len(given)})]"
    answers = loaded(tmp_path, files, f"{code} + [load(folder + 'missing')]")
    for (name, (_, error, reason)), (best, machine) in zip(given.items(), answers, strict=False):
        assert best[0] == "viper" and reason in best[1], (name, best)
        assert machine[0] == error and reason in machine[1], (name, machine)
    assert answers[-1][0] == "model.bad_bundle" and damaged[2] in answers[-1][1]


def test_without_another_plan_it_is_refused(tmp_path: Path) -> None:
    good = machine_only(model())
    files = {
        "arch": machine_only(bundle("armv6m")).encode(),
        "damaged": flipped(good.encode(), len(good.encode()) - 1),
        "status": machine_only(model(code=STATUS_1)).encode(),
    }
    arch, damaged, status = loaded(tmp_path, files, f"[load(folder + name) for name in {tuple(files)}]")
    assert arch == ["model.no_kernels", "machine code for armv6m, this board runs x64"]
    assert damaged == ["model.bad_bundle", "the hash of section WGTM differs"]
    assert status == ["model.no_kernels", "machine code failed its self-test"]


def test_what_is_remembered(tmp_path: Path) -> None:
    good, bad = model(), model(code=STATUS_1)
    (answer,) = loaded(tmp_path, {"m": good.encode()}, "[load(folder + 'm')]")
    assert answer[0] == "machine"
    key = (tmp_path / "m.ok").read_text()

    def boot(ok: str | None, trying: str | None, data: bytes = good.encode()) -> tuple[list[Any], str, str]:
        for suffix, text in (("ok", ok), ("try", trying)):
            path = tmp_path / f"m.{suffix}"
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
        (answer,) = loaded(tmp_path, {"m": data}, "[load(folder + 'm')]")
        marks = [path.read_text() if path.exists() else "" for path in (tmp_path / "m.ok", tmp_path / "m.try")]
        return answer[:2], marks[0], marks[1]

    crashed, failed = "machine code crashed at the last boot", "machine code failed its self-test"
    assert boot(None, None) == (["machine", None], key, "")
    assert boot(None, key) == (["viper", crashed], "", key)
    assert boot(None, f"{key} failed") == (["viper", failed], "", f"{key} failed")
    assert boot("another", "another") == (["machine", None], key, "")
    assert boot("another", "") == (["machine", None], key, "")
    answer, _, mark = boot(key, None, bad.encode())
    assert answer == ["viper", failed] and mark.endswith(" failed") and not mark.startswith(key)


def test_the_self_test_runs_once(tmp_path: Path) -> None:
    """A mark that the self-test passed stands for it: these vectors are wrong, and nobody looks."""
    good = model()
    wrong = replace(good, tests=(replace(good.tests[0], outputs=(bytes(64),)),))
    loaded(tmp_path, {"m": good.encode()}, "[load(folder + 'm')]")
    (answer,) = loaded(tmp_path, {"m": wrong.encode()}, "[load(folder + 'm')]")
    assert answer == ["machine", None, good.machine_hash, 1, "ram"]


def test_ctrl_c_in_the_self_test_is_no_crash(tmp_path: Path) -> None:
    code = """
class Interrupted(Model):
    def invoke(self):
        raise KeyboardInterrupt
def interrupted():
    try:
        Interrupted(folder + 'm')
    except KeyboardInterrupt:
        return True
"""
    (tmp_path / "m").write_bytes(model().encode())
    source = f"{LOAD}{BOARD}{FULL_LOAD}folder = {str(tmp_path)!r} + '/'\n{code}"
    done, answer = micropython(f"{source}print(json.dumps([interrupted(), load(folder + 'm')]))")
    assert done and answer[0] == "machine"


def test_a_board_without_native_code_says_so(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(model().encode())
    code = f"{LOAD}{FULL_LOAD}print(json.dumps(load({str(tmp_path / 'm')!r})))"
    assert micropython(code)[:2] == ["viper", "machine code for x64, this board runs none"]
    assert not (tmp_path / "m.ok").exists()


def test_streamed_tiles_are_checked_in_turn(tmp_path: Path) -> None:
    """Tiles 1, 3, 0, 2, 3, 4 of 6 are read in every run: each is checked again within 7 runs (one has no such read)."""
    tiles = [bytes((i,)) * (40 + 8 * i) for i in range(6)]
    checked = [tile + zlib.crc32(tile).to_bytes(4, "little") for tile in tiles]
    places = [number for i in range(6) for number in (100 + sum(map(len, checked[:i])), len(checked[i]))]
    data = bytes(100) + b"".join(checked)
    code = f"""
import uctypes
from array import array
from midge.kernels.streamed import Streamed
def run(streamed):
    read = []
    try:
        streamed.check()
        for tile in (1, 3, 0, 2, 3, 4):
            read.append(uctypes.bytearray_at(streamed.address(tile), 8)[0])
    except MidgeError as error:
        read.append(error.code)
    return read
def until_noticed(tile):
    path = {str(tmp_path)!r} + '/m'
    with open(path, 'wb') as file:
        file.write({data!r})
    streamed = Streamed(path, array('I', {places}))
    runs = [run(streamed) for _ in range(tile + 2)]
    with open(path, 'r+b') as file:
        file.seek({places}[2 * tile] + 20)
        file.write(b'?')
    return runs, [run(streamed) for _ in range(8)]
print(json.dumps([until_noticed(tile) for tile in range(5)]))
"""
    for before, after in micropython(f"{LOAD}{code}"):
        assert before == [[1, 3, 0, 2, 3, 4]] * len(before)
        noticed = [run[-1:] == ["model.weights_moved"] for run in after]
        first = noticed.index(True)
        assert first <= 6 and noticed == [i >= first for i in range(8)] and after[-1] == ["model.weights_moved"]


@pytest.mark.parametrize("flips", [40, pytest.param(200, marks=pytest.mark.soak)])
def test_every_flipped_bit_is_noticed(tmp_path: Path, flips: int) -> None:
    """In the kernels, plan, parameters and weights of a bundle without another plan."""
    data = machine_only(model()).encode()
    start, end = data.index(b"PLNM"), len(data)
    first = min(int.from_bytes(data[start + 4 : start + 8], "little"), end)
    places = [first + (end - first) * i // flips for i in range(flips)]
    files = {str(i): data[:at] + bytes([data[at] ^ 1 << i % 8]) + data[at + 1 :] for i, at in enumerate(places)}
    answers = loaded(tmp_path, files, f"[load(folder + str(i)) for i in range({flips})]")
    gaps = [at for at, answer in zip(places, answers, strict=True) if answer[0] != "model.bad_bundle"]
    assert all(data[at] == 0 for at in gaps) and len(gaps) < flips // 10, "only the gaps between sections are free"
