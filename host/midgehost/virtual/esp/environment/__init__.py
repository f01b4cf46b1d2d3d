"""What other processes need in their environment to open `vboard://`: this folder in PYTHONPATH (see sitecustomize)."""

from __future__ import annotations

import os
from pathlib import Path

_HERE = str(Path(__file__).parent)


def environment() -> dict[str, str]:
    """The variables to set for a Python program that is to know `vboard://`."""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", _HERE)]
    return {"PYTHONPATH": os.pathsep.join([_HERE, *others])}
