"""Serial URLs whose handler does not come with pyserial (`vboard://`), and how other tools come to know them.

The CLI and the API fill this registry, as they do that of `ports`; a tool that midge runs gets what it needs through
its environment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class _Handler:
    install: Callable[[], None]
    environment: Callable[[], dict[str, str]]


_handlers: dict[str, _Handler] = {}


def register(scheme: str, install: Callable[[], None], environment: Callable[[], dict[str, str]]) -> None:
    """Makes `scheme://...` known: `install` tells this process's pyserial, `environment` gives the variables with which
    another Python program's knows it."""
    _handlers[scheme] = _Handler(install, environment)


def install(port: str) -> None:
    """Before pyserial opens that port: it may be a URL that pyserial does not know yet."""
    if handler := _handler(port):
        handler.install()


def tool_environment(port: str) -> dict[str, str]:
    """The variables that a tool in another process needs to open that port; none for most."""
    handler = _handler(port)
    return handler.environment() if handler else {}


def _handler(port: str) -> _Handler | None:
    scheme, separator, _ = port.partition("://")
    return _handlers.get(scheme) if separator else None
