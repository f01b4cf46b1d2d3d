"""midge on the host: quantised models in, bundles out, boards flashed, deployed to and watched."""

from __future__ import annotations

__version__ = "0.1.0"
