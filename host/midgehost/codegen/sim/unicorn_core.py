"""Cortex-M33 and RV32IMC cores: unicorn in a process of its own, see `unicorn_worker`, which shares the RAM with us.

`armv7emsp` counts estimated cycles of an M4-like pipeline, `rv32imc` instructions; `instructions` has the number of the
last call for both. Without `check` a call is several times faster, and notices only accesses outside of the RAM.
"""

from __future__ import annotations

import importlib.util
import mmap
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Final

from midgehost.codegen.sim.core import GAP, Core, Fault, Memory
from midgehost.codegen.sim.unicorn_worker import ANSWER, OK, ORIGIN, REQUEST

_RAM_BYTES: Final = 4 << 20
_RESERVED: Final = 4096  # above the stack: the landing pad, where nothing is


class UnicornCore(Core):
    """A core in a worker process."""

    def __init__(self, arch: str) -> None:
        handle, name = tempfile.mkstemp(prefix="midge-core-")
        self._path = Path(name)
        with os.fdopen(handle, "r+b") as file:
            file.truncate(_RAM_BYTES + _RAM_BYTES // 4)
            self._shared = mmap.mmap(file.fileno(), 0)
        self._view = memoryview(self._shared)
        self._worker = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("unicorn_worker.py")), arch, name, str(_RAM_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._stale = False
        self.instructions = 0  # of the last call
        super().__init__(Memory(ORIGIN, self._view[: _RAM_BYTES - _RESERVED], self._view[_RAM_BYTES:]))
        self._landing = ORIGIN + _RAM_BYTES - GAP

    def close(self) -> None:
        """Ends the worker."""
        worker = self._worker
        if worker.poll() is None:
            _pipe(worker.stdin).close()
            worker.wait(timeout=10)
        for pipe in (worker.stdin, worker.stdout, worker.stderr):
            _pipe(pipe).close()
        self._path.unlink(missing_ok=True)

    def _execute(self, code: int, args: int, check: bool) -> tuple[int, int]:
        requests, answers = _pipe(self._worker.stdin), _pipe(self._worker.stdout)
        try:
            if self._stale:
                requests.write(REQUEST.pack(b"f", False, 0, 0, 0, 0, 0))
                self._stale = False
            requests.write(REQUEST.pack(b"c", check, code, args, self.stack, self._landing, self.limit))
            requests.flush()
            answer = answers.read(ANSWER.size)
        except BrokenPipeError:
            answer = b""
        if len(answer) < ANSWER.size:
            said = _pipe(self._worker.stderr).read().decode(errors="replace").strip()
            raise Fault(f"the emulator has ended: {said or 'it said nothing'}")
        status, result, self.instructions, cycles, length = ANSWER.unpack(answer)
        message = answers.read(length).decode()
        if status != OK:
            raise Fault(message)
        return result, cycles if self.estimate else self.instructions

    def _changed(self) -> None:
        self._stale = True


class ArmV7EM(UnicornCore):
    """Counts the cycles of an estimate."""

    arch, unit, estimate = "armv7emsp", "cycles", True


class Rv32Imc(UnicornCore):
    """Counts instructions."""

    arch, unit, estimate = "rv32imc", "instructions", False


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def make(arch: str) -> Core:
    """A new core. Raises ImportError where unicorn is not installed."""
    if importlib.util.find_spec("unicorn") is None:
        raise ImportError("No module named 'unicorn'", name="unicorn")
    return ArmV7EM(arch) if arch == "armv7emsp" else Rv32Imc(arch)
