"""Which program holds a port. Linux: the open files of all processes that we may look at (proc(5)); else lsof."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from midgehost import ports

_LSOF_TIMEOUT = 3.0  # s


def holder_of(path: str, proc: Path = Path("/proc")) -> str:
    """`Thonny (process 4711)`, or "" when nobody is seen. Neither we are meant, nor a virtual board's own process;
    other users' processes are not seen."""
    wanted = os.path.realpath(path)
    innocent = {str(os.getpid()), *(str(port.owner) for port in ports.announced())}
    return _by_proc(wanted, proc, innocent) if proc.is_dir() else _by_lsof(wanted, innocent)


def _by_proc(wanted: str, proc: Path, innocent: set[str]) -> str:
    for process in sorted(proc.glob("[0-9]*"), key=lambda process: int(process.name), reverse=True):
        if process.name not in innocent and _has_open(process / "fd", wanted):
            return _title((process / "comm").read_text().strip(), process.name)
    return ""


def _has_open(descriptors: Path, wanted: str) -> bool:
    try:
        return any(os.path.realpath(descriptor) == wanted for descriptor in descriptors.iterdir())
    except OSError:  # it has ended, or is another user's
        return False


def _by_lsof(wanted: str, innocent: set[str]) -> str:
    if shutil.which("lsof") is None:
        return ""
    try:
        done = subprocess.run(
            ["lsof", "-Fpc", wanted], capture_output=True, text=True, timeout=_LSOF_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    number = ""
    for line in done.stdout.splitlines():  # p<pid>, then c<command>, then what it has open
        if line.startswith("p"):
            number = line[1:]
        elif line.startswith("c") and number not in innocent:
            return _title(line[1:], number)
    return ""


def _title(command: str, number: str) -> str:
    return f"{command or 'a program'} (process {number})"
