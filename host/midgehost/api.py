"""The Python API: one board, for scripts and notebooks. `midgehost.connect` makes it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from midgehost import ports, virtual
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
        self._stack = ExitStack()
        device = self._stack.enter_context(ports.open_port(port, **options))
        try:
            self.transport: Transport = device.transport or self._stack.enter_context(
                SerialTransport(device.path, port)
            )
        except BaseException:
            self._stack.close()
            raise
        self._models: dict[tuple[Path, str | None], ModelOnBoard] = {}

    @cached_property
    def info(self) -> BoardInfo:
        """What the board says of itself: firmware, arch, heap, file system."""
        return probe(self.transport)

    def exec(self, code: str, timeout: float = 10.0) -> str:
        """Runs code on the board and returns what it printed. Raises RemoteError, Timeout."""
        return self.transport.exec(code, timeout)

    def invoke(self, *inputs: NDArray[Any], model: str | Path, kernels: str | None = None) -> list[NDArray[Any]]:
        """Runs a model (.tflite or bundle) on the board: an array for each input, of the model's own type and shape.

        The model is converted and sent on the first call. Raises ModelError, DataError, RemoteError.
        """
        from midgehost.deploy.runner import ModelOnBoard

        key = Path(model), kernels
        if key not in self._models:
            self._models[key] = ModelOnBoard(self.transport, self.info, Path(model), kernels)
        return self._models[key].invoke(inputs)

    def records(self, timeout: float | None = None) -> Generator[Record]:
        """The running node's records as they come, for `timeout` seconds or for ever. Raises LineDropped."""
        return NodeConnection(self.transport).records(timeout)

    def command(self, command: str, timeout: float = 5.0, **fields: Any) -> Any:
        """A command to the running node, e.g. `command("get", name="z.holdoff")`. Raises CommandError, Timeout."""
        return NodeConnection(self.transport).command(command, timeout, **fields)

    def close(self) -> None:
        """Frees the port; a virtual board that was started for it ends."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
