"""Device tests: files whose first line is `# midge: device`; every function test_* runs on a board by itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from midgehost.deploy.modules import compile_modules
from midgehost.deploy.transport import Transport

FOLDER = Path(__file__).resolve().parents[1] / "device"
LIB = "/midge/test/lib"


def device_tests() -> list[tuple[Path, str]]:
    """(file, function) of every device test."""
    found = []
    for path in sorted(FOLDER.glob("test_*.py")):
        text = path.read_text()
        assert text.startswith("# midge: device\n"), f"{path}: the first line must be `# midge: device`"
        found += [(path, node.name) for node in ast.parse(text).body if _is_test(node)]
    return found


def modules_of(path: Path) -> list[str]:
    """The device modules that a test file imports."""
    return sorted(set(re.findall(r"(?:from|import) midge\.([\w.]+)", path.read_text())))


def files_for(paths: Sequence[Path], arch: str | None) -> dict[str, bytes]:
    """What must lie on a board for these test files to run."""
    names = sorted({name for path in paths for name in modules_of(path)})
    files = {f"{LIB}/{name}": data for name, data in compile_modules(names, arch).items()}
    return files | {f"{LIB}/{path.name}": path.read_bytes() for path in paths}


def run_test(board: Transport, path: Path, function: str, timeout: float = 60) -> None:
    """Runs one test on the board. Raises RemoteError with the board's traceback."""
    code = f"import sys\nif {LIB!r} not in sys.path:sys.path.insert(0,{LIB!r})\n"
    board.exec(code + f"import {path.stem}\n{path.stem}.{function}()", timeout)


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
