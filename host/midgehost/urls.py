"""Serial URLs whose handler does not come with pyserial (`vboard://`), and how other tools come to know them.

The CLI and the API fill this registry, as they do that of `ports`; a tool that midge runs gets what it needs through
its environment.
"""

from __future__ import annotations

from collections.abc import Callable

_environments: dict[str, Callable[[], dict[str, str]]] = {}


def register(scheme: str, environment: Callable[[], dict[str, str]]) -> None:
    """Makes `scheme://...` known; `environment` gives the variables with which another Python program knows it too."""
    _environments[scheme] = environment


def tool_environment(port: str) -> dict[str, str]:
    """The variables that a tool in another process needs to open that port; none for most."""
    scheme, separator, _ = port.partition("://")
    return _environments[scheme]() if separator and scheme in _environments else {}
