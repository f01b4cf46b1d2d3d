"""The Python API: one board, for scripts and notebooks. `midgehost.connect` makes it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from midgehost import ports, virtual
from midgehost.deploy import devices
from midgehost.deploy.connection import NodeConnection
from midgehost.deploy.probe import BoardInfo, probe
from midgehost.deploy.transport import SerialTransport, Transport
from midgehost.records import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from midgehost.deploy.runner import ModelOnBoard


class Board:
    """A board that is reached over a port. Close it, or use it as a context manager."""

    def __init__(self, port: str, **options: Any) -> None:
        virtual.register()
        devices.register()
        self._stack = ExitStack()
        device = self._stack.enter_context(ports.open_port(port, **options))
        try:
            self.transport: Transport = device.transport or self._stack.enter_context(
                SerialTransport(device.path, port, device.time_scale)
            )
        except BaseException:
            self._stack.close()
            raise
        self._loaded: tuple[Path, str | None] | None = None  # a board holds one model at a time
        self._model: ModelOnBoard | None = None

    @cached_property
    def info(self) -> BoardInfo:
        """What the board says of itself: firmware, arch, heap, file system."""
        return probe(self.transport)

    @cached_property
    def node(self) -> NodeConnection:
        """The line to the running node. One for the board's life: a record may be half read when a caller stops."""
        return NodeConnection(self.transport)

    def exec(self, code: str, timeout: float = 10.0) -> str:
        """Runs code on the board and returns what it printed. Raises RemoteError, Timeout."""
        return self.transport.exec(code, timeout)

    def invoke(self, *inputs: NDArray[Any], model: str | Path, kernels: str | None = None) -> list[NDArray[Any]]:
        """Runs a model (.tflite or bundle) on the board: an array for each input, of the model's own type and shape.

        The model is converted and sent when it is another than in the last call. A node that runs is stopped until the
        board's next reset. Raises ModelError, DataError, RemoteError.
        """
        from midgehost.deploy.runner import ModelOnBoard

        wanted = Path(model), kernels
        if self._model is None or self._loaded != wanted:
            self._loaded = None  # until the new one is there
            self._model = ModelOnBoard(self.transport, self.info, Path(model), kernels)
            self._loaded = wanted
        return self._model.invoke(inputs)

    def records(self, timeout: float | None = None) -> Generator[Record]:
        """The running node's records as they come, for `timeout` seconds or for ever. Raises LineDropped."""
        return self.node.records(timeout)

    def command(self, command: str, timeout: float = 5.0, **fields: Any) -> Any:
        """A command to the running node, e.g. `command("get", name="z.holdoff")`. Raises CommandError, Timeout."""
        return self.node.command(command, timeout, **fields)

    def close(self) -> None:
        """Frees the port; a virtual board that was started for it ends."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
