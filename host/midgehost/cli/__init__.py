"""The `midge` command. One command a file; each is imported when it is asked for, so that starting stays fast."""

from __future__ import annotations

import sys

from midgehost.version import __version__


def main() -> None:
    """Entry point of the console script. `--version` answers before anything heavy is imported."""
    if sys.argv[1:] == ["--version"]:
        print(f"midge {__version__}")
        return
    try:
        from midgehost.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while it imported
        code = 130
    sys.exit(code)
