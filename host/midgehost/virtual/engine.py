"""What runs a virtual board: one thread that moves bytes between line and interpreter, answers the interpreter's
questions, starves its watchdog and starts it again after a reset. Everything that happens to a board happens here, one
event after the other."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from midgehost.virtual.boot import _ops
from midgehost.virtual.calls import Calls
from midgehost.virtual.console import Console
from midgehost.virtual.line import Line
from midgehost.virtual.peripherals import Peripherals, Request
from midgehost.virtual.power import PowerCut, Torn
from midgehost.virtual.process import Interpreter
from midgehost.virtual.profile import Profile

_MACHINE = "midge virtual board ({})"
_TICK_S = 0.5  # how often the loop looks around when nothing happens
_PACE_S = 0.002

T = TypeVar("T")


@dataclass(frozen=True)
class Chip:
    """What stays the same over resets."""

    profile: Profile
    heap: int  # bytes
    flash: Path
    unique_id: bytes


@dataclass(frozen=True)
class Firmware:
    """What the board says of its firmware; empty where the interpreter's own words and the profile's will do."""

    version: tuple[int | str, ...] = ()  # sys.implementation.version
    machine: str = ""  # sys.implementation._machine


class Engine:
    """Owns the interpreter and the line. Methods without `_` are called through `call`, except `call` and `stop`."""

    def __init__(self, chip: Chip, line: Line) -> None:
        self.line = line
        self.peripherals = Peripherals(chip.profile, self._pin_event)
        self.boots: list[str] = []
        self.torn: list[Torn] = []
        self.complaint = ""  # why the last boot failed
        self.ready = threading.Event()  # the REPL is there
        self.firmware = Firmware()
        self.planned_cuts: list[PowerCut | None] = []  # of the boots to come that are no power-on
        self.on_bootloader: Callable[[], None] | None = None  # what a boot ROM does; None: there is none
        self.usb_away_s: float | None = None  # native USB: the port is away that long after a hard reset
        self._returns: float | None = None  # when it comes back
        self._chip = chip
        self._console = Console()
        self._interpreter: Interpreter | None = None
        self._reset_cause = 0
        self._clock_ahead = 0
        self._starves: float | None = None  # when the watchdog bites
        self._watchdog_s = 0.0
        self._calls = Calls()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=f"virtual board {chip.flash.name}", daemon=True)
        self._handlers: dict[int, Callable[[Request], bytes | None]] = {
            **self.peripherals.handlers,
            _ops.BOOTED: self._on_booted,
            _ops.READY: self._on_ready,
            _ops.STDOUT: self._on_stdout,
            _ops.RESET: self._on_reset,
            _ops.BOOTLOADER: self._on_bootloader,
            _ops.POWER_CUT: self._on_power_cut,
            _ops.CLOCK: self._on_clock,
            _ops.WDT_START: self._on_watchdog_start,
            _ops.WDT_FEED: self._on_watchdog_feed,
        }
        self._thread.start()

    # --- from other threads

    def call(self, action: Callable[[], T]) -> T:
        """Runs `action` in the board's thread and returns what it returns."""
        return self._calls.run(action)

    def stop(self) -> None:
        """Ends the interpreter, the line and the thread."""
        if self._thread.is_alive():
            self.call(self._finish)
            self._thread.join()
        self._calls.close()

    def _finish(self) -> None:
        self._stopping = True

    # --- power

    @property
    def running(self) -> bool:
        return self._interpreter is not None

    @property
    def booted(self) -> bool:
        return self._interpreter is not None and self._interpreter.booted

    def power_on(self, cut: PowerCut | None = None) -> None:
        """A cold start; `cut` ends it in the middle of a flash write."""
        self.power_off()
        self.peripherals.power_on()
        self._clock_ahead = self._chip.profile.clock_start - int(time.time())
        self._boot("power", cut)

    def power_off(self) -> None:
        """Takes the power away at once."""
        if self._interpreter is not None:
            self._interpreter.kill("power")
            self._interpreter.reap()
            self._interpreter = None
        self._starves = None
        self.ready.clear()

    def _boot(self, why: str, cut: PowerCut | None = None) -> None:
        chip, profile = self._chip, self._chip.profile
        if self.planned_cuts and why != "power":
            cut = self.planned_cuts.pop(0)
        self.boots.append(why)
        self.complaint = ""
        self.ready.clear()
        if why != "soft":  # which no watchdog notices
            self._starves = None
        self._console.restart(soft=why == "soft")
        cause = profile.cause_of[why]
        self._reset_cause = self._reset_cause if cause is None else cause
        machine = self.firmware.machine or _MACHINE.format(profile.name)
        self._interpreter = Interpreter(
            chip.heap,
            {
                "flash": str(chip.flash),
                "cut": [cut.write, cut.share] if cut else None,
                "progsize": profile.progsize,
                "epoch": profile.epoch,
                "clock_ahead": self._clock_ahead,
                "raw": self._console.raw,
                "freq": profile.freq,
                "unique_id": list(chip.unique_id),
                "platform": profile.platform,
                "version": list(self.firmware.version),
                "bootloader": self.on_bootloader is not None,
                "machine": machine,
                "uname": {
                    "sysname": profile.platform,
                    "nodename": profile.platform,
                    "release": ".".join(map(str, self.firmware.version[:3])) or "1.29.0",
                    "version": machine,
                    "machine": machine,
                },
                "reset_cause": self._reset_cause,
                "reset_causes": dict(profile.reset_causes),
            },
        )

    def _died(self, interpreter: Interpreter) -> None:
        # Its stdout is closed: it ended by itself (a soft reset) or was killed for a reset, or it crashed.
        code = interpreter.reap()
        self._interpreter = None
        self.ready.clear()
        if interpreter.cause == "power" or not interpreter.booted:
            return
        why = "crash" if code < 0 and interpreter.cause == "soft" else interpreter.cause
        self.line.send(b"MPY: soft reboot\r\n" if why == "soft" else f"midge: reset ({why})\r\n".encode())
        if why != "soft":
            self.peripherals.reset()
            self._leave_usb()
        self._boot(why)

    def _leave_usb(self) -> None:
        if self.usb_away_s is not None:
            self.line.unplug()
            self._returns = time.monotonic() + self.usb_away_s

    def _return_to_usb(self) -> None:
        self._returns = None
        taken = pty.openpty()  # its old name, by somebody else
        self.line.plug()
        for descriptor in taken:
            os.close(descriptor)

    # --- the loop

    def _serve(self) -> None:
        try:
            while not self._stopping:
                self._step()
        finally:
            self.power_off()
            self.line.unplug()

    def _step(self) -> None:
        actions = self._waiting_for()
        poller = select.poll()
        for descriptor, (events, _) in actions.items():
            poller.register(descriptor, events)
        board = self._interpreter
        for descriptor, _ in poller.poll(self._patience() * 1000):
            actions[descriptor][1]()
            if self._interpreter is not board:  # its descriptors are closed, or another's by now
                break
        self.line.drop_stalled()
        if self.on_bootloader is not None and self.line.plugged and self.line.touched:
            self._enter_bootloader()
        if self._returns is not None and time.monotonic() > self._returns:
            self._return_to_usb()
        if self._starves is not None and time.monotonic() > self._starves and self._interpreter is not None:
            self._starves = None
            self._interpreter.kill("watchdog")

    def _waiting_for(self) -> dict[int, tuple[int, Callable[[], None]]]:
        actions: dict[int, tuple[int, Callable[[], None]]] = {self._calls.fileno(): (select.POLLIN, self._calls.serve)}
        board, line = self._interpreter, self.line
        if board is not None:
            actions[board.link.fileno()] = select.POLLIN, self._answer
            if line.takes_output:
                actions[board.stdout] = select.POLLIN, self._from_board
            if board.has_input:
                actions[board.stdin] = select.POLLOUT, board.flush
        if line.plugged:
            events = select.POLLOUT if line.wants_write else 0
            if line.may_read and (board is None or board.wants_input):
                events |= select.POLLIN
            if events:
                actions[line.fileno()] = events, self._line_ready
        return actions

    def _patience(self) -> float:
        if self.line.bps:
            return _PACE_S
        ends = [end for end in (self._starves, self._returns) if end is not None]
        return min([_TICK_S, *(max(end - time.monotonic(), 0.0) for end in ends)])

    def _line_ready(self) -> None:
        if self.line.wants_write:
            self.line.flush()
        board = self._interpreter
        if self.line.may_read and (board is None or board.wants_input):
            data = self.line.read()
            if data and board is not None:
                board.feed(data)

    def _from_board(self) -> None:
        # One read a turn: a program that prints without end must not keep Ctrl-C waiting.
        board = self._interpreter
        if board is None:
            return
        with contextlib.suppress(BlockingIOError):  # an answer in this turn has drained it
            text = os.read(board.stdout, 65536)
            self._pass_on(board, text)
            if not text:
                self._died(board)

    def _drain(self, board: Interpreter) -> None:
        """Passes on all that the interpreter has printed; it waits for an answer or is dead, so there is an end."""
        with contextlib.suppress(BlockingIOError):
            while text := os.read(board.stdout, 65536):
                self._pass_on(board, text)

    def _pass_on(self, board: Interpreter, text: bytes) -> None:
        if board.booted:
            self.line.send(self._console.feed(text))
            return
        # A boot prints nothing: what comes instead of its end says why there will be no board.
        self.complaint += text.decode(errors="replace")
        if ">>> " in self.complaint:  # a prompt without a board behind it
            board.kill("power")

    # --- what the board asks

    def _answer(self) -> None:
        board = self._interpreter
        if board is None:
            return
        try:
            packet = board.link.recv(_ops.HEADER + _ops.PAYLOAD)
        except OSError:
            return
        if not packet:  # it is dying: its stdout will say so
            self._drain(board)
            self._died(board)
            return
        request = Request.unpack(packet)
        answer = request.answer(self._handlers[request.op])
        if answer is not None:
            with contextlib.suppress(OSError):
                board.link.send(answer)

    def _pin_event(self, pin: int, edge: int) -> None:
        if self._interpreter is not None:
            with contextlib.suppress(OSError):
                self._interpreter.events.send(bytes((pin, edge)))

    def _on_booted(self, _: Request) -> bytes:
        assert self._interpreter is not None
        self._interpreter.booted = True
        return b""

    def _on_ready(self, _: Request) -> bytes:
        assert self._interpreter is not None
        self._drain(self._interpreter)
        if self._console.raw:  # a soft reset from raw mode ends in raw mode, without the friendly banner
            self._console.hide_until_raw()
            self._interpreter.feed(b"\x01")
        self.ready.set()
        return b""

    def _on_stdout(self, request: Request) -> bytes:
        assert self._interpreter is not None
        self._drain(self._interpreter)  # what was printed before
        self.line.send(request.data)
        return b""

    def _on_reset(self, _: Request) -> None:
        assert self._interpreter is not None
        self._drain(self._interpreter)
        self._interpreter.kill("hard")

    def _on_bootloader(self, _: Request) -> None:
        assert self._interpreter is not None
        self._drain(self._interpreter)
        self._enter_bootloader()

    def _enter_bootloader(self) -> None:
        """The board leaves USB, and its boot ROM takes over."""
        self.power_off()
        self.line.unplug()
        if self.on_bootloader is not None:
            self.on_bootloader()

    def _on_power_cut(self, request: Request) -> None:
        assert self._interpreter is not None
        self._drain(self._interpreter)  # that was on the wire already
        self.torn.append(Torn(*struct.unpack("<III", request.data)))
        self.planned_cuts.clear()
        self.power_off()

    def _on_clock(self, request: Request) -> bytes:
        (self._clock_ahead,) = struct.unpack("<q", request.data)
        return b""

    def _on_watchdog_start(self, request: Request) -> bytes:
        timeout_ms = int.from_bytes(request.data[:4], "little")
        self._chip.profile.check_watchdog(timeout_ms)
        self._watchdog_s = timeout_ms / 1000
        return self._on_watchdog_feed(request)

    def _on_watchdog_feed(self, _: Request) -> bytes:
        self._starves = time.monotonic() + self._watchdog_s
        return b""
