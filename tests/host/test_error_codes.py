"""docs/errors.md names every code that host or board raises, once."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RAISED = (r'^    code = "([\w.]+)"', r'MidgeError\(\s*"([\w.]+)"', r'code, what = "([\w.]+)"')


def test_every_code_is_documented_once() -> None:
    listed = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.M)
    assert len(listed) == len(set(listed))
    raised = {
        code
        for folder in ("host/midgehost", "firmware/midge")
        for path in (ROOT / folder).rglob("*.py")
        for pattern in RAISED
        for code in re.findall(pattern, path.read_text(), re.M)
    }
    assert len(raised) > 25
    assert raised == set(listed)
