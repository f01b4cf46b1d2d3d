"""The esptool backend: ESP32 chips are flashed by esptool 5, run as the plain command.

esptool is GPL software and is never imported here: it runs in a process of its own, is told everything by arguments and
environment, and its output is all that is known of it. Its words become one of midge's errors; it has one deadline for
the whole run and one for every silence, and is killed, with all that it has started, when they pass.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

from midgehost import urls
from midgehost.boards import Board, all_boards
from midgehost.errors import Busy, FlashError, MidgeError, Missing, NotFound
from midgehost.flash import esp_image
from midgehost.flash.backend import BadImage, Progress, Reason, Request, WrongBoard, WrongImage
from midgehost.flash.esp_image import EspImage, Malformed, OtherChip

_BAUD: Final = 460_800  # what every bridge takes; 115 200 to begin with, see esptool
_ATTEMPTS: Final = 4  # resets into the loader, of 1.3 s each
_MAJOR: Final = 5
# A second of esptool's start and an answer that does not come must fit into 15 s, connecting included.
_SETTINGS: Final = """\
[esptool]
timeout = 3
serial_write_timeout = 5
md5_timeout_per_mb = {md5}
write_block_attempts = 2
connect_attempts = {attempts}
"""
_START_S: Final = 30.0  # of a whole run: esptool starts, connects and loads its flasher
_SLOW_BYTES_PER_S: Final = 10_000  # what 115 200 baud take without compression
_USB_JTAG: Final = ("esp32s3", "esp32c3", "esp32c6")
_HOLD: Final = "Hold its BOOT button, press and release EN (RST), let go of BOOT and run the command again"


class Stage(Enum):
    """How far a run is."""

    CONNECT = "connecting"
    LOAD = "loading its flasher"
    ERASE = "erasing"
    WRITE = "writing"
    VERIFY = "verifying"
    DONE = "done"


_PATIENCE_S: Final = 10.0  # for a word of esptool, and more where it is silent with good reason:
_ERASE_S: Final = 130.0  # a whole chip of 16 MB takes up to 100 s
_GAP_S_PER_MB: Final = 40.0  # erased flash in an image is packed into one block (esptool's own limit)
_MD5_S_PER_MB: Final = 4.0


class NoSync(FlashError):
    """The chip's ROM loader does not answer."""

    code = "flash.no_sync"

    def __init__(self, port: str, board: str, why: str) -> None:
        self.port, self.board, self.why = port, board, why
        super().__init__(
            f"The ROM loader of {board} at {port} does not answer ({why}); nothing was written.",
            f"{_HOLD}; a charge-only cable and a program that holds the port look the same.",
        )


class WriteFailed(FlashError):
    """Erasing or writing ended before all was written. `done` and `total` in bytes of the image."""

    code = "flash.write_failed"

    def __init__(self, port: str, done: int, total: int, why: str) -> None:
        self.port, self.done, self.total, self.why = port, done, total, why
        super().__init__(
            f"Writing to {port} ended after {done:,} of {total:,} bytes ({why}); its firmware is incomplete now.",
            f"The ROM loader is unharmed. Use a short cable, without a hub. {_HOLD}.",
        )


class NotVerified(FlashError):
    """What is in flash is not what was sent."""

    code = "flash.not_verified"

    def __init__(self, port: str, why: str) -> None:
        self.port, self.why = port, why
        super().__init__(
            f"The flash of {port} does not hold what was sent ({why}); its firmware is damaged now.",
            "Flash again with --erase; if it repeats, its flash chip is worn out.",
        )


class NoRoom(FlashError):
    """The board's flash chip is smaller than the image needs."""

    code = "flash.no_room"

    def __init__(self, port: str, have: int) -> None:
        self.port, self.have = port, have
        super().__init__(
            f"The flash chip of {port} has {have:,} bytes, the image needs more; nothing was written.",
            "Use an image for this flash size.",
        )


class PortDenied(FlashError):
    """This user may not open the port."""

    code = "flash.port_denied"
    exit_code = 2

    def __init__(self, port: str) -> None:
        self.port = port
        super().__init__(f"You may not open {port}; nothing was written.", "`midge doctor` says how to get the right.")


class EsptoolFailed(FlashError):
    """esptool gave up with words that midge does not know."""

    code = "flash.esptool"

    def __init__(self, port: str, words: str, state: str) -> None:
        self.port, self.words = port, words
        super().__init__(f"esptool gave up on {port}: {words.rstrip('.')}; {state}.", f"{_HOLD}.")


class EsptoolBackend:
    """Flashes ESP32, ESP32-S3, ESP32-C3 and ESP32-C6."""

    name = "esptool"

    def supports(self, request: Request) -> Reason | None:
        """See `Backend.supports`."""
        if request.board.flash is None or request.board.flash.method != "esptool":
            return Reason("esptool.board", f"{request.board.name} has no Espressif chip")
        if request.image.suffix.lower() != ".bin":
            return Reason("esptool.suffix", f"esptool takes .bin files, {request.image.name} is none")
        return None

    def check(self, request: Request) -> Sequence[str]:
        """See `Backend.check`. Raises BadImage, WrongImage."""
        _, image = _checked(request)
        if image.project != "micropython":
            return (f"{request.image.name} is no MicroPython image, but {image.project or 'one without a name'}",)
        return ()

    def flash(self, request: Request, progress: Progress) -> None:
        """See `Backend.flash`. Raises what `check` raises, Missing, Busy, NotFound, PortDenied, NoSync, WrongBoard,
        NoRoom, WriteFailed, NotVerified, EsptoolFailed."""
        _require_esptool()
        data, _ = _checked(request)
        with tempfile.TemporaryDirectory(prefix="midge-flash-") as folder:
            image = Path(folder) / "image.bin"
            image.write_bytes(data)  # what was checked is what is written, whoever changes the file now
            ways = _ways_to_reset(request)
            for i, way in enumerate(ways):
                try:
                    _Run(request, image, way, _ATTEMPTS // len(ways), progress).run()
                    return
                except NoSync:
                    if i == len(ways) - 1:
                        raise


def _checked(request: Request) -> tuple[bytes, EspImage]:
    """The image's bytes and what is in them. Raises BadImage, WrongImage."""
    board, path = request.board, str(request.image)
    assert board.flash is not None
    try:
        with request.image.open("rb") as file:
            data = file.read(board.flash_bytes + 1)
    except OSError as error:
        raise BadImage(path, (error.strerror or str(error)).lower()) from None
    if board.flash.offset + len(data) > board.flash_bytes:
        raise BadImage(path, f"it is larger than the {board.flash_bytes:,} bytes of flash")
    try:
        image = esp_image.parse(data, board.flash.chip, board.flash.offset)
    except Malformed as error:
        raise BadImage(path, str(error)) from None
    except OtherChip as error:
        raise WrongImage(path, _title(error.chip), board.name) from None
    needs = max(image.bootloader.flash_bytes, max(part.end for part in image.partitions))
    if needs > board.flash_bytes:
        raise WrongImage(path, f"a board with {needs >> 20} MB of flash", f"{board.name}: {board.flash_bytes >> 20} MB")
    return data, image


def _title(chip: str) -> str:
    """A chip's name in text: that of a board with it, esptool's where midge has none."""
    return next((board.name for board in _boards_with(chip)), chip)


def _boards_with(chip: str) -> list[Board]:
    return [board for board in all_boards().values() if board.flash is not None and board.flash.chip == chip]


def _ways_to_reset(request: Request) -> tuple[str, ...]:
    """esptool's --before. By USB IDs it knows which ports are the chip's own USB; a URL has no USB ID."""
    assert request.board.flash is not None
    if "://" in request.port and request.board.flash.chip in _USB_JTAG:
        return "default-reset", "usb-reset"
    return ("default-reset",)


def _require_esptool() -> None:
    """Raises Missing."""
    try:
        version = importlib.metadata.version("esptool")
    except importlib.metadata.PackageNotFoundError:
        raise Missing("esptool", "flash") from None
    if version.partition(".")[0] != str(_MAJOR):
        raise Missing(f"esptool {_MAJOR} (there is {version})", "flash")


class _Run:
    """One run of esptool for a request."""

    def __init__(self, request: Request, image: Path, way: str, attempts: int, progress: Progress) -> None:
        assert request.board.flash is not None
        self._request, self._progress = request, progress
        self._total = image.stat().st_size
        self._offset, chip = request.board.flash.offset, request.board.flash.chip
        self._done = 0
        self._stage = Stage.CONNECT
        self._touched = False
        self._verified = False
        self._text = ""
        settings = image.with_name("esptool.cfg")
        settings.write_text(_SETTINGS.format(attempts=_ATTEMPTS, md5=_MD5_S_PER_MB))
        self._command = [
            *(sys.executable, "-m", "esptool"),
            *("--chip", chip, "--port", request.port, "--baud", str(_BAUD)),
            *("--before", way, "--after", "hard-reset", "--connect-attempts", str(attempts)),
            *("write-flash", *(["--erase-all"] if request.erase else []), hex(self._offset), str(image)),
        ]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ESPTOOL_", "ESPRESSIF_"))}
        # Wide: esptool breaks its lines to the width that it believes to have.
        told = {"ESPTOOL_CFGFILE": str(settings), "PYTHONUNBUFFERED": "1", "COLUMNS": "1000", "NO_COLOR": "1"}
        self._environment = {**kept, **told, "PYTHONUTF8": "1", **urls.tool_environment(request.port)}
        self._more_patience = {
            Stage.ERASE: _ERASE_S,
            Stage.WRITE: _GAP_S_PER_MB * _longest_gap(image.read_bytes()) / 1e6,
            Stage.VERIFY: _MD5_S_PER_MB * self._total / 1e6,
        }
        self._deadline_s = _START_S + self._total / _SLOW_BYTES_PER_S + (_ERASE_S if request.erase else 0)

    def run(self) -> None:
        """Raises what `EsptoolBackend.flash` raises."""
        with _started(self._command, self._environment) as process:
            why = self._follow(process)
        if process.returncode == 0 and self._verified and not why:
            self._report(self._total)
            return
        self._fail(why)

    def _follow(self, process: subprocess.Popen[bytes]) -> str:
        """Reads to the end of the output. Returns why it did not get there; empty if it did."""
        output: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_read, args=(process, output), name="esptool's output", daemon=True).start()
        line, end = "", time.monotonic() + self._deadline_s
        while True:
            patience = _PATIENCE_S + self._more_patience.get(self._stage, 0)
            left = end - time.monotonic()
            try:
                piece = output.get(timeout=max(min(patience, left), 0.01))
            except queue.Empty:
                if left < patience:
                    return f"not done after {self._deadline_s:.0f} s"
                return f"nothing happened for {patience:.0f} s while {self._stage.value}"
            if not piece:
                return ""
            text = piece.decode(errors="replace")
            self._text += text
            *lines, line = re.split(r"[\r\n]+", line + text)
            for whole in [*lines, line]:  # the unfinished one too: it may stay unfinished for long
                self._understand(whole)

    def _understand(self, line: str) -> None:
        for pattern, stage in _STAGES:
            if re.search(pattern, line):
                self._stage = stage
        if self._stage in (Stage.ERASE, Stage.WRITE):
            self._touched = True
        if found := re.search(r"Writing at 0x([0-9a-f]+) ", line):
            self._report(min(max(int(found[1], 16) - self._offset, 0), self._total))
        if line.startswith("Hash of data verified"):
            self._verified = True
            self._stage = Stage.DONE

    def _report(self, done: int) -> None:
        if done != self._done:
            self._done = done
            self._progress(done, self._total)

    def _fail(self, silence: str) -> None:
        port, board = self._request.port, self._request.board.name
        words = silence or _last_words(self._text)
        fatal = "" if silence else self._text.partition("error occurred:")[2] or self._text
        if self._verified:
            raise EsptoolFailed(port, words, "the image is written and verified")
        for pattern, make in _FAILURES_AFTER if self._touched else _FAILURES_BEFORE:
            if found := re.search(pattern, fatal, re.S | re.I):
                raise make(found, port, board)
        if self._stage is Stage.VERIFY:
            raise NotVerified(port, words)
        if self._touched:
            raise WriteFailed(port, self._done, self._total, words)
        if self._stage is Stage.CONNECT or silence:
            raise NoSync(port, board, words)
        raise EsptoolFailed(port, words, "nothing was written")


def _longest_gap(data: bytes) -> int:
    """The length of the longest run of erased flash."""
    return max((len(gap) for gap in re.findall(rb"\xff{4096,}", data)), default=0)


# What a line says of the stage that has begun.
_STAGES: Final = (
    (r"^(Uploading stub|Running stub|Stub) flasher", Stage.LOAD),
    (r"^(Flash will be erased|Compressed \d+ bytes)", Stage.WRITE),
    (r"^Erasing flash", Stage.ERASE),
    (r"^Flash memory erased", Stage.WRITE),
    (r"^Verifying written data", Stage.VERIFY),
)


def _wrong_board(found: re.Match[str], port: str, board: str) -> FlashError:
    chip = found[1].lower().replace("-", "")
    return WrongBoard(port, _title(chip), board)


def _no_port(port: str) -> MidgeError:
    return NotFound(f"There is no port {port}; nothing was written.", "`midge devices` lists them.")


# Words of esptool's fatal errors, and what they are here: found words, port and board. The first that fits counts.
_Failures = tuple[tuple[str, Callable[[re.Match[str], str, str], MidgeError]], ...]
_FAILURES_BEFORE: Final[_Failures] = (  # anything was touched
    (r"This chip is (ESP32[\w-]*), not", _wrong_board),
    (r"Permission denied", lambda found, port, board: PortDenied(port)),
    (r"exclusively lock|Resource busy|Access is denied", lambda found, port, board: Busy(port)),
    (r"Could not open .*, the port is busy or doesn't exist", lambda found, port, board: _no_port(port)),
    (r"Failed to connect to [^:]*: ([^\n]*)", lambda found, port, board: NoSync(port, board, _sentence(found[1]))),
    (r"will not fit in (\d+) bytes of flash", lambda found, port, board: NoRoom(port, int(found[1]))),
)
_FAILURES_AFTER: Final[_Failures] = (
    (
        r"(MD5 of file does not match data in flash|the written flash region is empty)",
        lambda found, port, board: NotVerified(port, _sentence(found[1])),
    ),
)


# What esptool says of a line that broke, in fewer words.
_PLAIN: Final = (
    (r"No more data to read|No serial data received|data stream stopped|timed? ?out", "it fell silent"),
    (
        r"could not open port|device reports readiness|disconnected|Input/output error|not configured",
        "its port vanished",
    ),
    (r"Failed to (.*?) \(result was \w+: [\w ]*\)", r"the chip refused to \1"),
)


def _sentence(words: str) -> str:
    """esptool's words as a part of another sentence: short, and without a mark at their end."""
    for pattern, plain in _PLAIN:
        if found := re.search(pattern, words, re.I):
            return found.expand(plain)
    return re.split(r"(?<=[^.])[.!](?:\s|$)", words.strip())[0]


def _last_words(text: str) -> str:
    """Why esptool ended, by its own account."""
    for pattern in (r"A (?:fatal|serial exception) error occurred: ([^\n]*)", r"^(\w*(?:Error|Exception): [^\n]*)"):
        if found := re.findall(pattern, text, re.M):
            return _sentence(found[-1])
    lines = [line for line in text.splitlines() if line.strip()]
    return _sentence(lines[-1]) if lines else "it said nothing"


@contextlib.contextmanager
def _started(command: list[str], environment: dict[str, str]) -> Generator[subprocess.Popen[bytes]]:
    """The process, and the end of it and of all that it has started."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
        with contextlib.suppress(subprocess.TimeoutExpired):  # its output has ended, or it is to be ended
            process.wait(1)
    finally:
        if process.poll() is None:
            if os.name == "posix":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()


def _read(process: subprocess.Popen[bytes], output: queue.Queue[bytes]) -> None:
    """Hands on what the process prints; an empty piece is its end."""
    assert process.stdout is not None
    with process.stdout:
        while piece := os.read(process.stdout.fileno(), 4096):
            output.put(piece)
    output.put(b"")
