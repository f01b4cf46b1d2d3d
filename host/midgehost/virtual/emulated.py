"""The stock firmware image on an emulated RP2040 (rp2040py), as a Transport: slow (0.03 of real time), but with the
31-bit small ints, single-precision floats, armv6m viper and file system of a real Pico.

    with EmulatedPico(files={"/lib/a.py": b"..."}) as pico:
        pico.exec("import a")

An unaligned 32-bit access, which a Cortex-M0+ does not survive, fails the call that made it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from midgehost.errors import BoardError, Missing, NoConsole, NotFound, RemoteError, Timeout
from midgehost.resources import cache_dir

_SLOWER: Final = 60  # deadlines are the board's seconds; the emulator takes this many times as long
_CHUNK: Final = 1536
_BLOCKS, _BLOCK_BYTES = 352, 4096  # the stock image's littlefs partition
_AGENT = """
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


class UnalignedAccess(BoardError):
    """The code read or wrote a word at an address that is no multiple of four."""

    code = "board.unaligned"

    def __init__(self, message: str) -> None:
        super().__init__(f"Unaligned access: {message}.", "A Cortex-M0+ faults here: correct the kernel.")


def find_image(board: str = "pico") -> Path:
    """The newest stock image of that board in midge's firmware cache. Raises NotFound, saying how to get one."""
    name = {"pico": "RPI_PICO", "pico-w": "RPI_PICO_W"}[board]
    folder = cache_dir() / "firmware"
    found = sorted(folder.glob(f"{name}-2*.uf2"))
    if not found:
        raise NotFound(
            f"There is no stock image {name}-<date>-v<version>.uf2 in {folder}.",
            "Download one from micropython.org and put it there.",
        )
    return found[-1]


class _Watch:
    """The emulator's logger: remembers the first unaligned access, drops everything else."""

    def __init__(self) -> None:
        self.unaligned = ""

    def warning(self, _component: str, message: str) -> None:
        if "aligned" in message and not self.unaligned:
            self.unaligned = message

    def debug(self, _component: str, _message: str) -> None: ...
    def info(self, _component: str, _message: str) -> None: ...
    def error(self, _component: str, _message: str) -> None: ...


class EmulatedPico:
    """A Transport to an emulated Pico. `files` lie on its file system when it boots."""

    listens = False

    def __init__(self, image: Path | None = None, files: Mapping[str, bytes] | None = None) -> None:
        try:
            from rp2040py.boards import BOARDS, resolve_firmware
            from rp2040py.device import MicroPythonDevice
        except ImportError:
            raise Missing("rp2040py", "virtual") from None
        self.name = "emulated:pico"
        self._has_agent = False
        self._loop = asyncio.new_event_loop()
        board = resolve_firmware(BOARDS["pico"], "micropython", str(image or find_image()))
        with tempfile.TemporaryDirectory() as folder:
            flash = Path(folder) / "littlefs.img"
            flash.write_bytes(_file_system(files or {}))
            self._device: Any = MicroPythonDevice(board=board, filesystem=flash)
        self._watch = _Watch()
        self._device.mcu.logger = self._watch
        self._wait(self._device.astart(timeout=None), "booting", 10)

    @property
    def mcu(self) -> Any:
        """The emulated chip: `mcu.adc.channel_values`, `mcu.gpio`, `mcu.i2c`."""
        return self._device.mcu

    def exec(self, code: str, timeout: float | None = 10.0, on_output: Callable[[str], None] | None = None) -> str:
        """Runs code, see `Transport.exec`; `on_output` gets everything at the end."""
        seconds = (timeout or 600) * _SLOWER
        output, error = self._wait(self._device.aexec(code, seconds), "running code", timeout or 600)
        if self._watch.unaligned:
            message, self._watch.unaligned = self._watch.unaligned, ""
            raise UnalignedAccess(message)
        if error:
            raise RemoteError(self.name, error.decode(errors="replace"))
        text = output.decode(errors="replace").replace("\r\n", "\n")
        if on_output:
            on_output(text)
            return ""
        return text

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

    def restart(self) -> None:
        """A clean heap: the emulator has hard resets only."""
        self.reset()

    def reset(self) -> None:
        """Hard reset; flash stays."""
        self._has_agent = False
        self._wait(self._device.ahard_reset(timeout=None), "resetting", 10)

    def read(self, timeout: float) -> bytes:
        """Not offered: the console of a running program comes with the serial port of the boards issue."""
        raise NoConsole(self.name)

    def write(self, data: bytes) -> None:
        """Not offered, see `read`."""
        self.read(0)

    def close(self) -> None:
        """Ends the emulation."""
        self._device.stop()
        task = self._device.simulator._execute_task
        if task is not None:
            self._loop.run_until_complete(asyncio.wait({task}, timeout=5))
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load_agent(self) -> None:
        if not self._has_agent:
            self.exec(_AGENT)
            self._has_agent = True

    def _wait(self, work: Any, doing: str, seconds: float) -> Any:
        """Runs the emulator until `work` is done."""
        try:
            return self._loop.run_until_complete(asyncio.wait_for(work, seconds * _SLOWER))
        except TimeoutError:
            raise Timeout(self.name, doing, seconds) from None


def _file_system(files: Mapping[str, bytes]) -> bytes:
    """A littlefs image as the stock firmware makes it, holding these files."""
    from littlefs import LittleFS

    disk: Any = LittleFS(
        block_size=_BLOCK_BYTES,
        block_count=_BLOCKS,
        disk_version=0x00020000,
        prog_size=256,
        read_size=32,
        lookahead_size=32,
    )
    for path, data in files.items():
        disk.makedirs(str(Path(path).parent), exist_ok=True)
        with disk.open(path, "wb") as file:
            file.write(data)
    return bytes(disk.context.buffer)
