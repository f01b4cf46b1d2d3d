"""Python imports this by itself where its folder is in PYTHONPATH: so a plain esptool or mpremote knows vboard://."""

import midge_vboard  # pyright: ignore[reportMissingImports]

midge_vboard.install()
