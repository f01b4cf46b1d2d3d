"""Is a board fit for a node: answer, firmware, ABI, room, heap, clock."""

from __future__ import annotations

import time

from midgehost.deploy import devices
from midgehost.deploy.doctor.facts import Facts
from midgehost.deploy.doctor.finding import FIX, NOTE, OK, Finding
from midgehost.deploy.probe import NATIVE_ABI
from midgehost.ports import BRIDGES

_OLDEST = (1, 23)  # MicroPython whose .mpy ABI is 6.3
_OLDEST_RISCV = (1, 24)
_ROOM = 150_000  # bytes: two slots of device modules, and a small model
_HEAP_SHARE = 0.7  # of what the board has after boot
_SET_FROM = 2024  # as midge/clock.py on the board: a clock that says less was never set
_DRIFT_S = 5
_DAY_S = 86_400


def answers(facts: Facts) -> list[Finding]:
    """A board that says nothing, or has a program that midge does not stop unasked."""
    found, path = facts.found, facts.found.port.path
    if facts.info is not None:
        return [Finding("answer", OK, f"{path} answers ({facts.info.title}).", port=path)]
    if found.state == devices.SILENT:
        hold = "If its bridge cannot reset it, hold BOOT" if found.port.vid in BRIDGES else "Else hold BOOT or BOOTSEL"
        do = (
            "Press its reset button, or plug it in again, then:\n  midge devices --probe\n"
            f"Without firmware:\n  midge flash --board NAME\n{hold} while you press reset, and flash then."
        )
        return [Finding("answer", FIX, f"{path} does not answer.", do, path)]
    if found.state == devices.OTHER:
        what = f"{path} runs a program that is no node" + (f"; {found.detail}." if found.detail else ".")
        return [Finding("answer", NOTE, what, "midge doctor --probe stops it, looks, and starts it again.", path)]
    if found.state == devices.GONE:
        return [Finding("answer", FIX, f"There is no {path}.", "Plug the board in, or name another port.", path)]
    if found.state == devices.BUSY and found.detail == devices.SOMEBODY:
        do = "Close what has it open. Another user's programs are seen by the administrator only:\n"
        return [Finding("answer", FIX, f"{path} is in use.", f"{do}  sudo midge doctor --port {path}", path)]
    if facts.info is None and found.node:
        what = f"{path}: the node {found.node} is {found.state}. It was not stopped to look for more."
        return [Finding("answer", OK, what, "midge doctor --probe does that.", path)]
    return []


def firmware(facts: Facts) -> list[Finding]:
    """Too old, of another kind, or one that midge was never tested with."""
    info, path = facts.info, facts.found.port.path
    version = facts.found.firmware or (info.firmware if info else "")
    if info is not None and info.implementation != "micropython":
        do = f"Nodes need MicroPython:\n  {_flash(facts)}"
        return [Finding("firmware", FIX, f"{path} runs {info.implementation} {version}.", do, path)]
    if not version:
        return []
    number = tuple(int(part) for part in version.split(".")[:2])
    oldest = _OLDEST_RISCV if info is not None and info.arch == "rv32imc" else _OLDEST
    if number < oldest:
        what = f"{path} runs MicroPython {version}; midge needs {'.'.join(map(str, oldest))} or later."
        return [Finding("firmware", FIX, what, f"Its files are lost with --erase only:\n  {_flash(facts)}", path)]
    tested = facts.board.tested_firmware if facts.board else ()
    if tested and version not in tested:
        what = f"{path} runs MicroPython {version}; midge's tests ran on {', '.join(tested)}."
        return [Finding("firmware", NOTE, what, f"If something fails there:\n  {_flash(facts, tested[-1])}", path)]
    return [Finding("firmware", OK, f"{path} runs MicroPython {version}.", port=path)]


def abi(facts: Facts) -> list[Finding]:
    """Whether it loads midge's .mpy files."""
    info, path = facts.info, facts.found.port.path
    if info is None or info.implementation != "micropython" or info.mpy == NATIVE_ABI:
        return []
    have, want = (".".join(map(str, pair)) for pair in (info.mpy, NATIVE_ABI))
    if info.mpy[0] != NATIVE_ABI[0]:
        what = f"{path} loads .mpy files of version {have}, midge's are {want}."
        return [Finding("ABI", FIX, what, f"Give it other firmware:\n  {_flash(facts)}", path)]
    what = f"{path} takes no machine code of version {want} (it has {have}): its models are slower."
    return [Finding("ABI", NOTE, what, f"Give it newer firmware:\n  {_flash(facts)}", path)]


def space(facts: Facts) -> list[Finding]:
    """Room in the file system."""
    info, path = facts.info, facts.found.port.path
    if info is None:
        return []
    what = f"{path} has {info.fs_free:,} of {info.fs_total:,} bytes of its file system free."
    if info.fs_free >= _ROOM or facts.found.node:
        return [Finding("space", OK, what, port=path)]
    do = f"A node needs about {_ROOM:,}. Look what is there, and remove it:\n  mpremote connect {path} tree -s"
    return [Finding("space", FIX, what, do, path)]


def heap(facts: Facts) -> list[Finding]:
    """What a boot.py or main.py has left of the heap."""
    info, board, path = facts.info, facts.board, facts.found.port.path
    if info is None or board is None:
        return []
    what = f"{path} has {info.heap_free:,} bytes of heap free, a {board.title} has {board.heap_bytes:,}."
    if info.heap_free >= _HEAP_SHARE * board.heap_bytes:
        return [Finding("heap", OK, what, port=path)]
    return [Finding("heap", NOTE, what, "boot.py or main.py took the rest: a node has its own main.py.", path)]


def clock(facts: Facts) -> list[Finding]:
    """Whether records will carry the right time; a clock in local time is a clock that is wrong by hours."""
    path = facts.found.port.path
    if facts.info is None:
        return []
    drift = facts.board_clock - facts.host_clock
    do = f"Set it, as long as it has power:\n  midge doctor --port {path} --set-clock"
    if time.gmtime(facts.board_clock).tm_year < _SET_FROM:
        what = f"The clock of {path} is not set: a node's records count from its start."
        return [Finding("clock", NOTE, what, do, path)]
    if abs(drift) <= _DRIFT_S:
        return [Finding("clock", OK, f"The clock of {path} is right to {_DRIFT_S} s.", port=path)]
    if facts.zone_s and abs(drift - facts.zone_s) <= _DRIFT_S:
        what = f"The clock of {path} has local time; records are in UTC."
        return [Finding("clock", FIX, what, do, path)]
    return [Finding("clock", FIX, f"The clock of {path} is off by {_span(drift)}.", do, path)]


def _flash(facts: Facts, version: str = "") -> str:
    name = facts.board.name if facts.board else "NAME"
    return f"midge flash --board {name}" + (f" --firmware {version}" if version else "")


def _span(seconds: int) -> str:
    size = abs(seconds)
    return f"{size / _DAY_S:.1f} days" if size > _DAY_S else f"{size} s"
