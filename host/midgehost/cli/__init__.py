"""The `midge` command. One command a file; each is imported when it is asked for, so that starting stays fast."""

from __future__ import annotations

import sys

from midgehost.version import __version__


def main() -> None:
    """Entry point of the console script. `--version` answers before anything heavy is imported."""
    if sys.argv[1:] == ["--version"]:
        print(f"midge {__version__}")
        return
    from midgehost.cli.app import run

    sys.exit(run(sys.argv[1:]))
