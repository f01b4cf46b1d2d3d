"""midge on the host: quantised models in, bundles out, boards flashed, deployed to and watched.

import midgehost

with midgehost.connect("virtual") as board:
    print(board.exec("print(1 + 1)"))
    outputs = board.invoke(array, model="models/fan/fan.tflite")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from midgehost.version import __version__

if TYPE_CHECKING:
    from midgehost.api import Board

__all__ = ["__version__", "connect"]


def connect(port: str, **options: Any) -> Board:
    """Opens a board by its port (`virtual`, `/dev/ttyACM0`, `serial:<USB serial number>`).

    Options go to the port's opener, e.g. `heap="512k"` for a virtual board. Raises NotFound, Busy, Missing.
    """
    from midgehost.api import Board

    return Board(port, **options)
