"""An emulated Pico behind a pty: what any serial tool opens.

    with EmulatedBoard("pico", files={"/main.py": b"..."}) as board:
        subprocess.run(["mpremote", "connect", board.path, "exec", "print(1)"])

A thread runs it, and everything that happens to it happens there; methods may be called from any.
"""

from __future__ import annotations

import hashlib
import select
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from midgehost import boards
from midgehost.errors import Timeout
from midgehost.ports import Port
from midgehost.virtual.calls import Calls
from midgehost.virtual.emulated import TIME_SCALE, Emulated, crash, find_image, require_emulator
from midgehost.virtual.flash_image import FlashImage
from midgehost.virtual.line import Line
from midgehost.virtual.power import PowerCut, Torn

if TYPE_CHECKING:
    from midgehost.virtual.board import Sensor

_PICO_USB: Final = (0x2E8A, 0x0005)
_BOOT_S: Final = 60.0  # generous: 0.3 s on an idle machine
_SETTLE_S: Final = 0.2  # for a client to read the last of a port that goes away
_PACKET: Final = 64  # bytes that wait for the board; the rest waits in the pty, so that a client feels it
_OFF_S: Final = 0.5  # how often the loop looks around while the board has no power

T = TypeVar("T")


class EmulatedBoard(Emulated):
    """One board of a kind (`pico`, `pico-w`) with a stock image (`version`, by default the newest in the cache).

    `flash` is a file that keeps all 2 MiB of the flash, the firmware too; a new one gets the image and `files`. None is
    a flash that is gone at the end. `link` is a path that always names the port, which goes away while the board
    resets. `pace` is how many times as fast as a real board it may be while it sleeps; None: as fast as it goes, some
    hundred times.

    Raises Missing, NotFound where there is no image, Busy where another board has the flash or the link. An access
    that stops the processor is `fault`, and raised as Crashed by `close`.
    """

    def __init__(
        self,
        kind: str = "pico",
        *,
        version: str | None = None,
        flash: str | Path | None = None,
        files: Mapping[str, bytes] | None = None,
        sensors: Sequence[Sensor] = (),
        link: str | Path | None = None,
        pace: float | None = 1.0,
    ) -> None:
        require_emulator()
        from midgehost.virtual.pico.flash import FLASH_BYTES, is_pico_flash, new_flash
        from midgehost.virtual.pico.machine import Machine

        def fresh() -> bytes:
            return new_flash(find_image(kind, version), boards.board(kind).fs_bytes, files or {})

        self.kind = kind
        self._image = FlashImage(flash, FLASH_BYTES, fresh, is_pico_flash)
        self.flash = self._image.path
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if link is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="midge-port-")
            link = Path(self._scratch.name) / kind
        self._pace = pace
        self._file = self.flash.open("r+b", buffering=0)
        content = self._file.read()
        self._line = Line(Path(link), None, 0.0, 0)
        self._machine = Machine(kind, content, self._file.fileno(), self._line.send, self._on_usb)
        self._machine.wiring.peripherals.pins.on_drive = lambda pin, level: self._call(
            lambda: self._machine.wiring.drive(pin, level)
        )
        for sensor in sensors:
            sensor.attach(self.peripherals)
        self._ready = threading.Event()
        self._calls = Calls()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=f"emulated {kind}", daemon=True)
        self._thread.start()

    # --- what there is

    @property
    def path(self) -> str:
        """The serial port to open; empty while it is away."""
        return self._line.path

    @property
    def port(self) -> Port:
        """The board as midge lists it."""
        number = hashlib.sha256(str(self.flash).encode()).hexdigest()[:16].upper()
        return Port(self.path, number, *_PICO_USB, virtual=f"emulated {self.kind}", time_scale=TIME_SCALE)

    @property
    def boots(self) -> list[str]:
        """Why the board booted, oldest first: power, hard, watchdog."""
        return self._machine.boots

    @property
    def torn(self) -> list[Torn]:
        """The flash writes that power cuts tore."""
        return self._machine.torn

    @property
    def fault(self) -> str:
        """What stopped the processor; empty while it runs."""
        return self._machine.fault

    @property
    def running(self) -> bool:
        """False while the power is off."""
        return self._machine.powered

    # --- what may happen to it

    def start(self) -> Self:
        """Plugs it in; returns when its port is there."""
        if not self.running:
            try:
                self._call(self._try_line)
                self.power_cycle()
            except BaseException:
                self._end()
                raise
        return self

    def close(self) -> None:
        """Ends the board; its flash stays, if it was given one. Raises Crashed if its processor has stopped."""
        fault = self.fault
        self._end()
        if fault:
            raise crash(f"emulated:{self.kind}", fault)

    def _end(self) -> None:
        if self._thread.is_alive():
            self._call(self._finish)
            self._thread.join()
        self._calls.close()
        self._file.close()
        self._image.release()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _finish(self) -> None:
        self._stopping = True

    def cut_power(self) -> None:
        """Takes the power away, between two flash writes."""
        self._call(self._machine.power_off)

    def power_cycle(self, cut: PowerCut | None = None) -> None:
        """Takes the power away and gives it back; `cut` takes it away again in the middle of a flash write."""
        self._ready.clear()
        self._call(lambda: self._machine.power_on(cut))
        self.wait_ready()

    def reset(self) -> None:
        """The reset button."""
        self._ready.clear()
        self._call(self._machine.reset)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until the port is there, or the power gone again. Raises Timeout."""
        end = time.monotonic() + _BOOT_S
        while self.running and not self._ready.wait(0.01):
            if time.monotonic() > end:
                raise Timeout(f"emulated:{self.kind}", "booting", _BOOT_S)

    def wait_off(self, timeout: float = _BOOT_S) -> bool:
        """Waits until the power is off, as after a PowerCut."""
        end = time.monotonic() + timeout
        while self.running and time.monotonic() < end:
            time.sleep(0.005)
        return not self.running

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._end()

    # --- the thread

    def _try_line(self) -> None:
        """Raises Busy before anything boots where the link is another board's."""
        self._line.plug()
        self._line.unplug()

    def _call(self, action: Callable[[], T]) -> T:
        return self._calls.run(action)

    def _on_usb(self, there: bool) -> None:
        if there:
            self._line.unplug()
            self._line.plug()
            self._ready.set()
        else:
            self._ready.clear()
            self._line.settle(_SETTLE_S)
            self._line.unplug()

    def _serve(self) -> None:
        patience = 0.0
        try:
            while not self._stopping:
                self._exchange(patience)
                patience = self._live()
        finally:
            self._machine.power_off()
            self._line.unplug()

    def _live(self) -> float:
        """Lets the board run; how many seconds it has to wait for this computer's time."""
        machine, line = self._machine, self._line
        if not machine.powered:
            return _OFF_S
        if line.plugged and not line.takes_output:  # the board waits for the client, half a second at most
            return _OFF_S
        began, before = time.monotonic(), machine.seconds
        was_well = not machine.fault
        machine.run()
        if machine.fault and was_well:
            line.send(f"\r\nmidge: the processor stopped at {machine.fault}\r\n".encode())
        if not machine.asleep or self._pace is None:
            return 0.0
        return max(0.0, (machine.seconds - before) / self._pace - (time.monotonic() - began))

    def _exchange(self, patience: float) -> None:
        """Bytes and calls, waiting `patience` seconds for some."""
        line = self._line
        poller = select.poll()
        poller.register(self._calls.fileno(), select.POLLIN)
        if line.plugged:
            takes = self._machine.usb.waiting < _PACKET
            poller.register(
                line.fileno(), (select.POLLIN if takes else 0) | (select.POLLOUT if line.wants_write else 0)
            )
        ready = dict(poller.poll(patience * 1000))
        if self._calls.fileno() in ready:
            self._calls.serve()
        events = ready.get(line.fileno(), 0) if line.plugged else 0
        if events & select.POLLOUT:
            line.flush()
        if events & select.POLLIN and self._machine.powered:
            self._machine.usb.send(line.read())
        line.drop_stalled()
