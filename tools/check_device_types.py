"""Type-checks the device code against MicroPython's stubs: an attribute that a board does not have fails here.

Part of `make lint`. The stubs (micropython-rp2-stubs) replace the standard library's; viper's types are unknown to the
checker, so firmware/pyrightconfig.json leaves those kernels out.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

FIRMWARE = Path(__file__).resolve().parents[1] / "firmware"


def main() -> int:
    """Exit 1 if pyright finds an error."""
    pyright = Path(sys.executable).with_name("pyright")
    stubs = sysconfig.get_paths()["purelib"]
    options = ["--project", str(FIRMWARE), "--typeshedpath", stubs, "--pythonpath", sys.executable, "--level", "error"]
    done = subprocess.run([str(pyright), *options], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr)
    print("device code against MicroPython's stubs:", (done.stdout.strip().splitlines() or ["no answer"])[-1])
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
