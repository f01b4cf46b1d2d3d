"""Backup and restore on virtual boards: everything comes back, whatever breaks can be gone on with, and what a board
trusts stays its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from midgehost.cli.app import run
from midgehost.deploy.backup import Damaged, ForeignBoard, Protected, Restored, digests, load, read_board, restore, save
from midgehost.deploy.fs_image import FAT, FileSystem, NoRoom, Origin
from midgehost.deploy.line import Line
from midgehost.deploy.probe import BoardInfo, probe
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import HashMismatch, LineDropped, Timeout
from midgehost.virtual.board import VirtualBoard

DEEP = "".join(f"/d{level}" for level in range(30))
_EMPTY = """
import os
def rm(p):
 for e in os.ilistdir(p):
  q=p+'/'+e[0]
  if e[1]&0x4000:
   rm(q)
   os.rmdir(q)
  else:os.remove(q)
rm('')
"""
_FILL = """
n=0
b=bytes(range(256))*12
try:
 while 1:
  with open('/g%d'%n,'wb') as f:f.write(b)
  n+=1
except OSError as e:print(e.errno)
"""


def program(generation: int) -> dict[str, bytes]:
    """A person's own program of three files, which says so when it is a mixture of two."""
    main = b"import one,two\nwhile 1:\n print('generation', %d, one.g, two.g)\n import time\n time.sleep_ms(50)\n"
    return {
        "/main.py": main % generation,
        "/one.py": b"g=%d\n" % generation + b"#" * 3000 * generation,
        "/two.py": b"g=%d\n" % generation,
        f"/lib/data{generation}/x": random.Random(generation).randbytes(20_000),
    }


def fill(line: SerialTransport, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        line.put(path, data)


def of(info: BoardInfo, files: dict[str, bytes], *folders: str) -> FileSystem:
    """A backup of a board like that one."""
    origin = Origin(info.machine, info.platform, info.arch, "littlefs", info.block_bytes, info.fs_total // 4096)
    above = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/" and at}
    return FileSystem(origin, frozenset(above | set(folders)), files)


def damaging(line: SerialTransport, path: str, progress: object) -> bytes:
    """A `get` on a bad line."""
    raise HashMismatch(path)


def said(line: SerialTransport, seconds: float = 2.0) -> str:
    """What the program says until it has said three lines."""
    heard, end = b"", time.monotonic() + seconds
    while heard.count(b"\n") < 3 and time.monotonic() < end:
        heard += line.read(0.2)
    return heard.decode(errors="replace")


# --- everything comes back --------------------------------------------------------------------------------------------


def test_everything_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """100 files, none and many bytes, deep and empty folders, names of every kind; through the commands."""
    files = {f"/many/f{i}": b"%d" % i * i for i in range(100)}
    files |= {"/nothing": b"", f"{DEEP}/deep": b"deep", "/big": random.Random(1).randbytes(300_001)}
    files |= {"/größe/日本.txt": b"\xff\x00", "/a b'c\"d\\e\x7f": b"quoted"}
    image = tmp_path / "pico.img"
    with VirtualBoard() as board:
        with SerialTransport(board.path) as line:
            line.exec(f"import os\nfor p in {['/many', '/größe', '/empty', '/empty/er']!r}:os.mkdir(p)")
            fill(line, files)
        assert run(["backup", str(image), "--port", board.path, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["files"], report["folders"], report["file_system"]) == (105, 34, "littlefs")
    assert report["bytes"] == sum(map(len, files.values()))
    assert image.stat().st_size == report["image_bytes"] == 1_441_792
    assert stat.S_IMODE(image.stat().st_mode) == 0o600, "it may hold passwords"
    content = load(image)
    assert dict(content.files) == files
    assert {"/empty", "/empty/er", DEEP} < content.folders

    with VirtualBoard() as board:
        assert run(["restore", str(image), "--port", board.path, "--yes", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["written"], report["kept"], report["removed"], report["runs"]) == (105, 0, 0, None)
        with SerialTransport(board.path) as line:
            assert read_board(line, probe(line)) == content
            assert restore(line, probe(line), content) == Restored((), 0, 105, 0, None)

    with VirtualBoard(image) as board, SerialTransport(board.path) as line:  # the image itself is a flash that boots
        assert read_board(line, probe(line)) == content


@pytest.mark.parametrize("profile", ["pico", "esp32"])
def test_a_full_file_system(profile: str) -> None:
    """Not a byte is free: the program is held all the same, and an empty board takes all of it."""
    size = 512 * 1024
    with VirtualBoard(profile=profile, flash_bytes=size) as board, SerialTransport(board.path) as line:
        fill(line, program(1))
        assert line.exec(_FILL, 60).strip() == "28"
        line.reset()
        full = read_board(line, probe(line))
        assert len(full.files) > 100
        assert said(line).count("generation 1 1 1") >= 2, "the program was not given back"
        larger = dataclasses.replace(full, files={**full.files, "/more": bytes(9000)})
        with pytest.raises(NoRoom, match="on an erased board"):
            restore(line, probe(line), larger)
    with VirtualBoard(profile=profile, flash_bytes=size) as board, SerialTransport(board.path) as line:
        assert restore(line, probe(line), full).written_bytes == full.nbytes
        assert read_board(line, probe(line)) == full


def test_only_what_differs_is_written(board: VirtualBoard) -> None:
    with SerialTransport(board.path) as line:
        info = probe(line)
        fill(line, {**program(1), "/old/x": b"old", "/old/y/z": b"old", "/lib/now_a_folder": b"x"})
        backup = of(info, {**program(1), "/two.py": b"g=3\n", "/lib/now_a_folder/x": b"y", "/old": b"a file"})
        done = restore(line, info, backup)
        assert set(done.written) == {"/two.py", "/lib/now_a_folder/x", "/old"}
        assert (done.kept, done.removed) == (3, 5)
        assert read_board(line, info) == backup


def test_a_board_with_fat(board: VirtualBoard) -> None:
    """Its files are backed up one by one; a restore does not change the kind of its file system."""
    ram_disk = b"""
import vfs
class R:
 d=bytearray(64*512)
 def readblocks(s,n,b):b[:]=s.d[n*512:n*512+len(b)]
 def writeblocks(s,n,b):s.d[n*512:n*512+len(b)]=b
 def ioctl(s,op,a):return {4:64,5:512}.get(op,0)
r=R()
vfs.VfsFat.mkfs(r)
vfs.umount('/')
vfs.mount(vfs.VfsFat(r),'/')
import os
os.mkdir('/folder')
for i in range(5):
 with open('/folder/f%d'%i,'w') as f:f.write('x'*i*100)
"""
    with SerialTransport(board.path) as line:
        littlefs = read_board(line, probe(line))
        line.put("/boot.py", ram_disk)
        line.reset()
        info = probe(line)
        content = read_board(line, info)
        assert content.origin.kind == FAT
        assert content.files == {f"/folder/f{i}": b"x" * i * 100 for i in range(5)}
        changed = dataclasses.replace(content, files={**content.files, "/folder/f1": b"other"})
        done = restore(line, info, changed)
        assert done.written == ("/folder/f1",), "the reset makes the RAM disk anew"
        with pytest.raises(ForeignBoard, match="format it first"):
            restore(
                line, info, dataclasses.replace(littlefs, origin=dataclasses.replace(content.origin, kind="littlefs"))
            )


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_does_not_belong_here_is_refused_and_the_program_runs_on(
    board: VirtualBoard, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "x.img"
    with SerialTransport(board.path) as line:
        info = probe(line)
        fill(line, program(1))
        before = digests(line)
        line.reset()
        here = of(info, program(2))

        def other(**changes: Any) -> FileSystem:
            return dataclasses.replace(here, origin=dataclasses.replace(here.origin, **changes))

        for backup, refusal, words in (
            (other(machine="Raspberry Pi Pico W with RP2040"), ForeignBoard, "Pico W"),
            (other(platform="esp32"), ForeignBoard, "not touched"),
            (other(arch="armv6m"), ForeignBoard, "not touched"),
            (other(blocks=200), ForeignBoard, r"819,200 bytes.*With --fit"),
        ):
            with pytest.raises(refusal, match=words):
                restore(line, info, backup)
            assert said(line).count("generation 1 1 1") >= 2
        large = dataclasses.replace(other(blocks=500), files={"/x": bytes(1_500_000)})
        with pytest.raises(NoRoom):
            restore(line, info, large, fit=True)
        with monkeypatch.context() as patch:
            patch.setattr(SerialTransport, "get", damaging)
            with pytest.raises(Damaged, match=r"/lib/data1/x arrived damaged"):
                read_board(line, info)
        assert said(line).count("generation 1 1 1") >= 2
        assert digests(line) == before
        line.reset()
        assert restore(line, info, other(blocks=200), fit=True).written
        assert said(line).count("generation 2 2 2") >= 2
    save(here, image)
    image.write_bytes(image.read_bytes()[:-1])
    for command, code in ((["--json"], "backup.bad_file"), (["--yes"], "backup.bad_file")):
        assert run(["restore", str(image), "--port", board.path, *command]) == 2
        assert code in capsys.readouterr().err
    save(here, image)
    assert run(["restore", str(image), "--port", board.path]) == 2
    assert "Give --yes" in capsys.readouterr().err
    assert run(["restore", str(tmp_path / "none"), "--port", board.path, "--yes"]) == 2
    assert "[host.os]" in capsys.readouterr().err
    with SerialTransport(board.path) as line:
        assert said(line).count("generation 2 2 2") >= 2


def test_only_a_file_is_replaced_by_a_backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Known before any board is spoken to: there is none at that port."""
    pipe, here = tmp_path / "pipe", tmp_path / "here.img"
    os.mkfifo(pipe)
    for place, why in ((pipe, "does not replace"), (tmp_path, "a folder"), (tmp_path / "none" / "x.img", "no such")):
        assert run(["backup", str(place), "--port", str(tmp_path / "no-board")]) == 2
        told = capsys.readouterr().err
        assert why in told and ".part" not in told and "[host.os]" in told
    assert pipe.is_fifo() and sorted(path.name for path in tmp_path.iterdir()) == ["pipe"]
    here.write_bytes(b"older")
    here.chmod(0o644)
    link, mine = tmp_path / "link.img", tmp_path / "here.img.part"
    link.symlink_to(here)
    mine.write_bytes(b"mine")
    mine.chmod(0o644)
    content = FileSystem(Origin("x", "rp2", None, "littlefs", 4096, 64), frozenset(), {"/x": b"1"})
    save(content, link)
    assert link.is_symlink() and load(here) == content and mine.read_bytes() == b"mine"
    assert stat.S_IMODE(here.stat().st_mode) == 0o600


NODE = {"/midge/active": b"a", "/midge/a/node.json": b"{}", "/main.py": b"# midge: x\n"}
TRUSTED = {"/midge/trust.json": b'{"keys":1}', "/midge/floor": b"7"}


@pytest.mark.parametrize(
    ("have", "backup", "with_trust", "refused"),
    [
        ({}, NODE, False, ""),
        ({}, {**NODE, "/midge/floor": b"7"}, False, ""),
        ({}, {**NODE, **TRUSTED}, False, "trusts nobody yet"),
        ({}, {**NODE, **TRUSTED}, True, ""),
        ({"/midge/floor": b"8"}, {**NODE, "/midge/floor": b"7"}, False, "version floor.*--with-trust"),
        ({"/midge/floor": b"8"}, NODE, False, "version floor"),
        ({"/midge/floor": b"8"}, {**NODE, **TRUSTED}, True, ""),
        ({"/midge/floor": b"8"}, {"/x": b""}, False, ""),
        (TRUSTED, {**NODE, **TRUSTED}, False, ""),
        (TRUSTED, NODE, False, "trusts other keys"),
        (TRUSTED, NODE, True, "trusts other keys"),
        (TRUSTED, {**NODE, **TRUSTED, "/midge/trust.json": b'{"keys":2}'}, True, "trusts other keys"),
        (TRUSTED, {**NODE, **TRUSTED, "/midge/floor": b"6"}, True, "version floor.*midge deploy"),
        ({**TRUSTED, "/main.py": b"# midge: y\n"}, {**NODE, **TRUSTED}, True, "another /main.py"),
        (
            {**TRUSTED, "/midge/base-1/b": b"1"},
            {**NODE, **TRUSTED, "/midge/base-1/b": b"2"},
            True,
            "another /midge/base",
        ),
        (TRUSTED, {"/x": b""}, False, ""),
    ],
)
def test_what_the_board_trusts_stays_its_own(
    shared_board: VirtualBoard, have: dict[str, bytes], backup: dict[str, bytes], with_trust: bool, refused: str
) -> None:
    with SerialTransport(shared_board.path) as line:
        info = probe(line)
        line.exec(_EMPTY)
        fill(line, have)
        before = digests(line)
        if refused:
            with pytest.raises(Protected, match=refused):
                restore(line, info, of(info, backup), with_trust=with_trust)
            assert digests(line) == before
            return
        restore(line, info, of(info, backup), with_trust=with_trust, greet_timeout=0.1)
        after = read_board(line, info).files
        kept = {} if with_trust else {path: data for path, data in have.items() if path in TRUSTED}
        assert after == {**backup, **kept}


# --- cuts -------------------------------------------------------------------------------------------------------------


def restore_with_a_cut(board: VirtualBoard, at: int | None) -> tuple[int, str]:
    """Restores generation 2 over 1, pulling line and power at that write to the line; None: at none.

    The writes that there were, and what ran after the power was back; a second restore must complete it.
    """
    writes = 0
    write = Line.write

    def cutting(line: Line, data: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes == at:
            board.unplug()
        return write(line, data)

    with SerialTransport(board.path) as line, pytest.MonkeyPatch.context() as patch:
        info = probe(line)
        backup = of(info, program(2))
        patch.setattr(Line, "write", cutting)
        with contextlib.suppress(LineDropped, Timeout):
            restore(line, info, backup)
            assert at is None or writes > at, "the line was never cut"
    if at is not None:
        board.replug()
    board.power_cycle()
    with SerialTransport(board.path) as line:
        ran = said(line)
        restore(line, info, backup)
        assert said(line).count("generation 2 2 2") >= 2
        assert read_board(line, info) == backup
    return writes, ran


def judge(ran: str) -> str:
    """Which whole program ran: a mixture of two fails here."""
    lines = [line for line in ran.splitlines() if line.startswith("generation")]
    assert "Error" not in ran and set(lines) <= {"generation 1 1 1", "generation 2 2 2"}, ran
    return lines[0] if lines else "the prompt"


def cuts(places: list[float]) -> list[tuple[int, str]]:
    """A cut at each of these fractions of a whole restore's writes; where, and what ran then."""
    found: list[tuple[int, str]] = []
    total = 0
    for place in [1.0, *places]:
        with VirtualBoard() as board:
            with SerialTransport(board.path) as line:
                fill(line, program(1))
            writes, ran = restore_with_a_cut(board, int(total * place) or None)
            if total:
                found.append((writes, judge(ran)))
            total = total or writes
    return found


def test_a_cut_leaves_a_whole_program_or_the_prompt() -> None:
    ran = [what for _, what in cuts([0.1, 0.5, 0.7, 0.97])]
    assert ran[0] == "generation 1 1 1" and "the prompt" in ran


@pytest.mark.soak
def test_39_cuts() -> None:
    found = cuts([i / 40 for i in range(1, 40)])
    ran = [what for _, what in found]
    print("\n| cuts of line and power | generation 1 | prompt | generation 2 |\n|---|---|---|---|")
    counts = [ran.count(what) for what in ("generation 1 1 1", "the prompt", "generation 2 2 2")]
    print(f"| {len(ran)} | {' | '.join(map(str, counts))} |")
    assert len(set(ran)) >= 2
