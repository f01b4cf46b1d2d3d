"""One virtual ESP32: power, reset circuit, ROM loader, flash and MicroPython, on one line.

    with EspBoard("esp32") as board:
        subprocess.run(["esptool", "--port", board.url, "write-flash", "0x1000", "image.bin"], env=board.environment)
        subprocess.run(["mpremote", "connect", board.url, "exec", "print(1)"], env=board.environment)

Everything that happens to the board happens in one thread; methods may be called from any.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import select
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from midgehost.errors import Missing
from midgehost.ports import Port
from midgehost.virtual.board import Sensor
from midgehost.virtual.calls import Calls
from midgehost.virtual.esp.boot import boot
from midgehost.virtual.esp.chips import chip_of
from midgehost.virtual.esp.circuit import Circuit, Reset, UartBridge, UsbJtag
from midgehost.virtual.esp.environment import environment
from midgehost.virtual.esp.faults import Faults
from midgehost.virtual.esp.lines import Baud, Data, Event, Line, Lines, NameTaken, PtyLine, SocketLine
from midgehost.virtual.esp.nor import NorFlash
from midgehost.virtual.esp.program import Program
from midgehost.virtual.esp.rom import ROM_BAUD, RomLoader

Mode = Literal["held", "download", "app", "stuck"]
_FLASH_BYTES = 4 << 20
_TICK_S = 0.5
_INPUT_BYTES = 1 << 16


class EspBoard:
    """One board. `flash` None is a fresh flash that is gone at the end; a file is kept.

    `name` makes it `vboard://NAME`; "pty" lines have no DTR and RTS, so such a board starts, and stays, in download
    mode until it is told to run. `usb` is a board on the chip's own USB-Serial-JTAG instead of a UART bridge.
    Raises NotFound for an unknown chip, Busy where another board has the name or the flash.
    """

    def __init__(
        self,
        chip: str = "esp32",
        flash: str | Path | None = None,
        *,
        name: str | None = None,
        pty: bool = False,
        usb: bool = False,
        flash_bytes: int = _FLASH_BYTES,
        sensors: Sequence[Sensor] = (),
        faults: Faults | None = None,
    ) -> None:
        self.chip = chip_of(chip)
        self.faults = faults or Faults()
        self.flash = NorFlash(flash, flash_bytes)
        self.name = name or f"{self.chip.board}-{os.getpid()}-{id(self):x}"
        self.mac = b"\x24\x0a\xc4" + hashlib.sha256(self.name.encode()).digest()[:3]
        self.boots: list[Mode] = []
        self.mode: Mode = "held"
        self.boot_button = False  # held down: every reset ends in download mode
        self._circuit: Circuit = UsbJtag() if usb else UartBridge()
        self._rom = RomLoader(self.chip, self.flash, self.mac, self.faults, self._ask)
        self._sensors = sensors
        self._program: Program | None = None
        self._running = False  # the program has booted
        self._input = bytearray()  # for the program
        self._client_baud = ROM_BAUD
        self._has_baud = not (usb or pty)
        self._asked: Reset | None = None  # by the client, of the ROM loader
        self._stopping = False
        try:
            self._line: Line = PtyLine() if pty else SocketLine(self.name)
            self._line.plug()
        except BaseException:
            self.flash.close()
            raise
        self._first = Reset.DOWNLOAD if pty else Reset.FLASH
        self._calls = Calls()
        self._thread = threading.Thread(target=self._serve, name=f"virtual {self.chip.name}", daemon=True)

    @property
    def url(self) -> str:
        """What a client opens."""
        return self._line.url

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which esptool and mpremote know `url`."""
        return {**os.environ, **environment()}

    @property
    def rom_blocks(self) -> int:
        """Data blocks that its ROM loader and stub have taken."""
        return self._rom.blocks

    @property
    def port(self) -> Port:
        """The board as midge lists it."""
        serial_number = self.mac.hex(":").upper()
        return Port(self.url, serial_number, product=f"virtual {self.chip.board}", virtual=self.chip.board)

    @classmethod
    def first_free(cls, chip: str, flash: str | Path | None, sensors: Sequence[Sensor] = ()) -> Self:
        """A board named after its chip, with a number if another one of this user has that name."""
        name = chip_of(chip).board
        for number in itertools.count(2):
            with contextlib.suppress(NameTaken):
                return cls(chip, flash, name=name, sensors=sensors)
            name = f"{chip_of(chip).board}-{number}"
        raise AssertionError

    def start(self) -> Self:
        """Power on."""
        self._thread.start()
        self._calls.run(lambda: self._reset(self._first))
        return self

    def close(self) -> None:
        """Power off. Its flash stays, if it was given one."""
        if self._thread.is_alive():
            self._calls.run(self._finish)
            self._thread.join()
        self._line.unplug()
        if self._program is not None:
            self._program.close()
        self._calls.close()
        self.flash.close()

    def press_reset(self) -> None:
        """The EN button, pressed and released."""
        self._calls.run(lambda: self._reset(Reset.FLASH))

    def unplug(self) -> None:
        """Takes the client's line away. The board runs on."""
        self._calls.run(self._unplug)

    def replug(self) -> None:
        """Brings the line back."""
        self._calls.run(self._line.plug)

    def wait_for(self, mode: Mode, timeout: float = 10.0) -> bool:
        """Waits until the board is in that mode; for "app", until MicroPython has booted."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.mode == mode and (mode != "app" or self._running):
                return True
            time.sleep(0.005)
        return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the thread

    def _finish(self) -> None:
        self._stopping = True

    def _serve(self) -> None:
        while not self._stopping:
            poller = select.poll()
            poller.register(self._calls.fileno(), select.POLLIN)
            for descriptor, events in self._line.waits_for():
                poller.register(descriptor, events)
            if self._running and self._program is not None and self._program.fileno() >= 0:
                events = 0 if self._line.full else select.POLLIN
                poller.register(self._program.fileno(), events | (select.POLLOUT if self._input else 0))
            due = self._circuit.due
            patience = _TICK_S if due is None else min(max(due - time.monotonic(), 0), _TICK_S)
            ready = dict(poller.poll(patience * 1000))
            for event in self._line.receive():  # what a client did before a call counts before it
                self._handle(event)
            if self._calls.fileno() in ready:
                self._calls.serve()
            self._happen(self._circuit.passed(time.monotonic()))
            self._serve_program()

    def _handle(self, event: Event) -> None:
        match event:
            case Lines(at, dtr, rts):
                self._happen(self._circuit.change(at, dtr, rts))
            case Baud(rate):
                self._client_baud = rate
            case Data(content):
                self._from_client(content)

    def _from_client(self, content: bytes) -> None:
        if self.mode == "download":
            baud = self._rom.baud = self._rom.baud or self._client_baud
            if self._has_baud and self._client_baud != baud:
                return  # the bytes arrive as others, which make no frame
            for answer in self._rom.feed(content):
                self._send(answer, baud)
            if self._rom.vanished:
                self._rom.vanished = False
                self._unplug()
            if self._asked is not None:
                asked, self._asked = self._asked, None
                self._reset(asked)
        elif self.mode == "app":
            self._input += content[: _INPUT_BYTES - len(self._input)]

    def _serve_program(self) -> None:
        program = self._program
        if not self._running or program is None:
            return
        if self._input:
            del self._input[: program.write(bytes(self._input[:1024]))]
        if not self._line.full and (printed := program.read()):
            self._send(printed, ROM_BAUD)

    def _send(self, data: bytes, baud: int) -> None:
        """Sends at that speed; a client that listens at another hears something else."""
        if self._has_baud and self._client_baud != baud:
            data = bytes(byte ^ 0xA5 for byte in data[: len(data) * self._client_baud // baud or 1])
        self._line.send(data)

    def _unplug(self) -> None:
        self._line.unplug()
        self._handle(Lines(time.monotonic(), False, False))

    # --- reset

    def _happen(self, resets: list[Reset]) -> None:
        for reset in resets:
            self._reset(reset)

    def _ask(self, reset: Reset) -> None:
        self._asked = reset

    def _reset(self, reset: Reset) -> None:
        if self._program is not None:
            self._program.stop()
        self._running = False
        self._input.clear()
        self.mode = "held"
        if reset is Reset.HELD:
            return
        if reset is Reset.DOWNLOAD or self.boot_button:
            self._download()
        else:
            self._boot()
        self.boots.append(self.mode)

    def _download(self) -> None:
        self._rom.reset()
        self.mode = "download"
        chip = self.chip
        text = f"{chip.banner}rst:0x1 ({chip.cause}),boot:{chip.download}\r\nwaiting for download\r\n"
        self._send(text.encode(), ROM_BAUD)

    def _boot(self) -> None:
        result = boot(self.chip, self.flash)
        self._send(result.text.encode(), ROM_BAUD)
        if result.vfs is None:
            self.mode = "stuck"
            return
        try:
            if self._program is None:
                self._program = Program(self.flash, self._sensors)
        except Missing as error:
            self.mode = "stuck"
            self._send(f"midge: {error}\r\n".encode(), ROM_BAUD)
            return
        self.mode = "app"
        number = len(self.boots)

        def started(error: str | None) -> None:
            # In the program's thread, which `stop` waits for: it must not wait for this one.
            self._calls.post(lambda: self._started(number, error))

        self._program.start(result.firmware, result.vfs, started)

    def _started(self, number: int, error: str | None) -> None:
        if self.mode != "app" or self._program is None or number != len(self.boots) - 1:
            return  # of a boot that has ended
        if error is not None:
            self.mode = "stuck"
            self._send(f"midge: {error}\r\n".encode(), ROM_BAUD)
            return
        self._program.connect()
        self._running = True
