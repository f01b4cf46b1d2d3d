"""The stock firmware image on an emulated RP2040, as a Transport without a serial line: everything happens within the
calls, so tests are fast and repeatable. `pico/board.py` is the same board behind a pty.

    with EmulatedPico(files={"/lib/a.py": b"..."}) as pico:
        pico.exec("import a")

What a Cortex-M0+ does not survive fails the call that does it: an unaligned word, a HardFault's breakpoint.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from midgehost import boards, firmware_cache
from midgehost.errors import BoardError, Missing, NotFound, RemoteError, Timeout

if TYPE_CHECKING:
    from midgehost.virtual.board import Sensor
    from midgehost.virtual.peripherals import Peripherals
    from midgehost.virtual.pico.chip import Chip
    from midgehost.virtual.pico.machine import Machine
    from midgehost.virtual.pins import Pins

TIME_SCALE: Final = 15.0  # a busy emulator is a tenth as fast as a board, and shares its computer
_BANNER: Final = b"raw REPL; CTRL-B to exit\r\n>"
_ENTER_S: Final = 10.0
_TRY_S: Final = 1.0
_INTERRUPT_S: Final = 0.002  # for Ctrl-C to end a program
_CHUNK: Final = 3072
_AGENT: Final = """
import os,binascii,hashlib
def _midge_d(p):
 i=p.find('/',1)
 while i>0:
  try:os.mkdir(p[:i])
  except OSError as e:
   if e.errno!=17:raise
  i=p.find('/',i+1)
def _midge_h(p):
 h=hashlib.sha256()
 b=memoryview(bytearray(512))
 with open(p,'rb') as f:
  while 1:
   n=f.readinto(b)
   if not n:break
   h.update(b[:n])
 print(binascii.hexlify(h.digest()).decode())
"""


class Crashed(BoardError):
    """The emulated processor did what stops a real one."""

    code = "board.crashed"

    def __init__(self, name: str, why: str) -> None:
        self.why = why
        super().__init__(f"{name} crashed: {why}.", "A Cortex-M0+ faults here: correct the machine code or the kernel.")


class UnalignedAccess(Crashed):
    """The code read or wrote a word at an address that is no multiple of four."""

    code = "board.unaligned"


def crash(name: str, why: str) -> Crashed:
    """The error for what stopped a processor (`Machine.fault`)."""
    return (UnalignedAccess if "unaligned" in why else Crashed)(name, why)


def find_image(board: str = "pico", version: str | None = None) -> Path:
    """The stock image of that board in midge's firmware cache, by default the newest. Raises NotFound, saying how to
    get one."""
    return firmware_cache.find(boards.board(board), version).path


def require_emulator() -> None:
    """Raises Missing where rp2040py is not installed."""
    if importlib.util.find_spec("rp2040py") is None:
        raise Missing("rp2040py", "virtual")


class Emulated:
    """What both forms of an emulated board show of their machine."""

    _machine: Machine

    @property
    def peripherals(self) -> Peripherals:
        """What is wired to the board."""
        return self._machine.wiring.peripherals

    @property
    def pins(self) -> Pins:
        """The board's pins: levels, history, inputs to drive."""
        return self.peripherals.pins

    @property
    def seconds(self) -> float:
        """The board's time: seconds with power."""
        return self._machine.seconds


class EmulatedPico(Emulated):
    """A Transport to an emulated board (`pico`, `pico-w`). `files` lie on its file system when it boots, `sensors` are
    wired as to a virtual board. Timeouts are seconds of the board's clock, which no other load on this computer moves.
    """

    time_scale = TIME_SCALE

    def __init__(
        self,
        image: Path | None = None,
        files: Mapping[str, bytes] | None = None,
        *,
        kind: str = "pico",
        sensors: Sequence[Sensor] = (),
    ) -> None:
        require_emulator()
        from midgehost.virtual.pico.flash import new_flash
        from midgehost.virtual.pico.machine import Machine

        self.name = f"emulated:{kind}"
        self._has_agent = self._raw = False
        self._output = bytearray()
        self._connected = False
        content = new_flash(image or find_image(kind), boards.board(kind).fs_bytes, files or {})
        self._machine = Machine(kind, content, None, self._output.extend, self._on_usb)
        for sensor in sensors:
            sensor.attach(self.peripherals)
        self._machine.power_on()
        self._boot()

    @property
    def chip(self) -> Chip:
        """The emulated processor."""
        return self._machine.chip

    # --- running code

    def exec(self, code: str, timeout: float | None = 10.0, on_output: Callable[[str], None] | None = None) -> str:
        """Runs code, see `Transport.exec`; `on_output` gets everything at the end."""
        output, error = self._run(code, timeout)
        if error:
            raise RemoteError(self.name, error)
        if on_output:
            on_output(output)
            return ""
        return output

    def _run(self, code: str, timeout: float | None) -> tuple[str, str]:
        """(output, traceback) of code in the raw REPL (reference/repl of MicroPython's documentation)."""
        self._enter()
        self._send(code.encode() + b"\x04")
        self._until(b"OK", "taking code", _ENTER_S + len(code) / 10_000)
        output = self._until(b"\x04", "running code", timeout)
        error = self._until(b"\x04", "running code", timeout)
        return _text(output[:-1]), _text(error[:-1])

    def _enter(self) -> None:
        """Interrupts what runs, which may still take what comes behind the Ctrl-C for its own input: tries again."""
        end = self.seconds + _ENTER_S
        while True:
            self._send(b"\r\x03\x03")
            started = self.seconds
            while self.seconds < started + _INTERRUPT_S:
                self._step()
            self._send(b"\x01")
            try:
                self._until(_BANNER, "entering its raw REPL", _TRY_S)
            except Timeout:
                if self.seconds > end:
                    raise
            else:
                self._raw = True
                return

    def _until(self, ending: bytes, doing: str, timeout: float | None) -> bytes:
        """Lets the board run until it has sent `ending`; everything up to it."""
        end = float("inf") if timeout is None else self.seconds + timeout
        at = 0
        while (found := self._output.find(ending, at)) < 0:
            at = max(0, len(self._output) - len(ending) + 1)
            if self.seconds > end:
                self._send(b"\x03")
                raise Timeout(self.name, doing, timeout or 0)
            self._step()
        taken = bytes(self._output[: found + len(ending)])
        del self._output[: len(taken)]
        return taken

    def _step(self) -> None:
        self._machine.run()
        if self._machine.fault:
            raise crash(self.name, self._machine.fault)

    def _send(self, data: bytes) -> None:
        self._machine.usb.send(data)

    # --- files

    def put(self, path: str, data: bytes, progress: Callable[[int, int], None] | None = None) -> None:
        """Writes a file, see `Transport.put`."""
        self._load_agent()
        self.exec(f"_midge_d({path!r})\n_f=open({path!r},'wb')")
        for at in range(0, len(data), _CHUNK):
            text = base64.b64encode(data[at : at + _CHUNK]).decode()
            self.exec(f"_=_f.write(binascii.a2b_base64({text!r}))", 60)
            if progress:
                progress(min(len(data), at + _CHUNK), len(data))
        self.exec("_f.close()", 30)
        if self.sha256(path) != hashlib.sha256(data).hexdigest():
            raise RemoteError(self.name, f"{path} arrived damaged")

    def get(self, path: str, progress: Callable[[int, int], None] | None = None) -> bytes:
        """A file's bytes."""
        self._load_agent()
        code = f"with open({path!r},'rb') as _f:print(binascii.b2a_base64(_f.read()).decode())"
        return base64.b64decode(self.exec(code, 60))

    def sha256(self, path: str) -> str:
        """The hex digest of a file, computed by the board."""
        self._load_agent()
        return self.exec(f"_midge_h({path!r})", 60).strip()

    def remove(self, path: str) -> None:
        """Removes a file."""
        self._load_agent()
        self.exec(f"os.remove({path!r})")

    def free_bytes(self, path: str = "/") -> int:
        """Free bytes of the file system."""
        self._load_agent()
        block, _, _, free = self.exec(f"print(*os.statvfs({path!r})[:4])").split()
        return int(block) * int(free)

    def _load_agent(self) -> None:
        if not self._has_agent:
            self.exec(_AGENT)
            self._has_agent = True

    # --- the board as a whole

    def restart(self) -> None:
        """A clean heap: a hard reset, with main.py interrupted."""
        self.reset()

    def reset(self) -> None:
        """Hard reset, as by a button; flash stays."""
        self._machine.reset()
        self._boot()

    def _boot(self) -> None:
        self._has_agent = self._raw = self._connected = False
        self._output.clear()
        end = self.seconds + _ENTER_S
        while not self._connected:
            if self.seconds > end:
                raise Timeout(self.name, "booting", _ENTER_S)
            self._step()

    def _on_usb(self, connected: bool) -> None:
        self._connected = connected

    def read(self, timeout: float) -> bytes:
        """What the running program says, see `Transport.read`; `timeout` in seconds of this computer."""
        self._leave()
        end = time.monotonic() + timeout
        while not self._output and time.monotonic() < end:
            self._step()
        data = bytes(self._output)
        self._output.clear()
        return data

    def write(self, data: bytes) -> None:
        """Bytes for the running program."""
        self._leave()
        self._send(data)

    def _leave(self) -> None:
        if self._raw:
            self._raw = False
            self._send(b"\x02")

    def come_back(self) -> None:
        """See `Transport.come_back`: this line is never lost."""

    def close(self) -> None:
        """Ends the emulation."""
        self._machine.power_off()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def kind_and_argument(argument: str) -> tuple[str, str | None, str | None]:
    """(kind, version, flash file) of what follows `emulated:`, e.g. `pico@1.24.1` or `pico:flash.img`. Raises
    NotFound."""
    kind, _, flash = argument.partition(":")
    kind, _, version = kind.partition("@")
    if kind not in ("pico", "pico-w"):
        raise NotFound(f"There is no emulated board {kind!r}.", "Use emulated:pico or emulated:pico-w.")
    return kind, version or None, flash or None


def _text(data: bytes) -> str:
    return data.decode(errors="replace").replace("\r\n", "\n")
