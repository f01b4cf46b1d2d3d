"""Calls from other threads into a thread that waits for descriptors."""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_CALL_S = 30.0

T = TypeVar("T")


class Calls:
    """A queue of actions whose `fileno` is readable while one waits."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()

    def fileno(self) -> int:
        return self._woken.fileno()

    def run(self, action: Callable[[], T]) -> T:
        """From another thread: has `action` done by the thread that serves, returns what it returns or raises."""
        future: Future[T] = Future()

        def done() -> None:
            try:
                future.set_result(action())
            except BaseException as error:
                future.set_exception(error)

        self.post(done)
        return future.result(_CALL_S)

    def post(self, action: Callable[[], None]) -> None:
        """Has `action` done, and does not wait for it."""
        self._queue.put(action)
        self._wake.send(b"w")

    def serve(self) -> None:
        """Does everything that waits."""
        self._woken.recv(4096)
        while not self._queue.empty():
            self._queue.get()()

    def close(self) -> None:
        self._wake.close()
        self._woken.close()
