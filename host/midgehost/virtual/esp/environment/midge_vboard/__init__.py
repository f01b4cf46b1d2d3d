"""What makes `vboard://NAME` known to pyserial, in this process or in that of another tool.

Self-contained: this folder's parent in PYTHONPATH is all that esptool and mpremote need (see sitecustomize.py).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def socket_path(name: str) -> Path:
    """The socket of the board of that name: in $MIDGE_VBOARDS, by default a folder of this user."""
    folder = os.environ.get("MIDGE_VBOARDS")
    if folder is None:
        run = os.environ.get("XDG_RUNTIME_DIR")
        folder = f"{run}/midge/vboards" if run else f"{tempfile.gettempdir()}/midge-vboards-{os.getuid()}"
    return Path(folder) / name


def install() -> None:
    """Makes pyserial look for the handler of `vboard://` in this package."""
    import serial

    if __name__ not in serial.protocol_handler_packages:
        serial.protocol_handler_packages.append(__name__)
