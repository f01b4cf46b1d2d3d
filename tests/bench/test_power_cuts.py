"""Power cuts inside a flash write leave a file system that mounts, with what was committed intact."""

from __future__ import annotations

from pathlib import Path

import pytest

from midgehost.deploy.transport import SerialTransport
from midgehost.virtual.board import VirtualBoard
from midgehost.virtual.power import PowerCut, Torn

_WRITES = 160  # of the loop, in which the cut falls
_LOOP = """
import os
n=0
while n<400:
 n+=1
 with open('new','w') as f:f.write(str(n)*300)
 os.rename('new','data')
 if n%8==0:print(n)
"""
_CHECK = """
import os
text=open('data').read() if 'data' in os.listdir() else ''
n=text[:len(text)//300]
print('whole' if text==n*300 else 'torn',n or 0,open('kept').read())
"""


def cut(folder: Path, seed: int) -> tuple[PowerCut, Torn, str]:
    """One board that loses its power while it writes and renames; what the next boot finds."""
    with VirtualBoard(folder / f"{seed}.img") as board:
        with SerialTransport(board.path) as line:
            line.put("/kept", b"committed before")
        planned = PowerCut.seeded(seed, _WRITES)
        board.power_cycle(planned)
        board.wait_ready()
        with SerialTransport(board.path) as line:
            line._enter()
            with line._operation("writing until the power goes", 30):
                line._repl.exec_raw_no_follow(_LOOP)
            assert board.wait_off(30), "the cut never came"
        (torn,) = board.torn
        board.power_cycle()
        assert board.wait_ready()
        with SerialTransport(board.path) as line:
            return planned, torn, line.exec(_CHECK).strip()


@pytest.mark.parametrize("seed", range(4))
def test_cut_inside_a_block_write(tmp_path: Path, seed: int) -> None:
    _, torn, found = cut(tmp_path, seed)
    assert 0 <= torn.kept < torn.length
    assert found.startswith("whole ") and found.endswith("committed before")


@pytest.mark.soak
def test_25_cuts(tmp_path: Path) -> None:
    print("\n| seed | write | offset | length | kept | file system |\n|---|---|---|---|---|---|")
    for seed in range(100, 125):
        planned, torn, found = cut(tmp_path, seed)
        print(f"| {seed} | {planned.write} | {torn.offset} | {torn.length} | {torn.kept} | mounted, {found} |")
        assert found.startswith("whole ") and found.endswith("committed before")
