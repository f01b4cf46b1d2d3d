"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, FIX = "ok", "note", "fix"  # nothing to do, worth knowing, something needs doing


@dataclass(frozen=True)
class Finding:
    """`do` is what helps, commands on lines of their own; `port` is empty where it is about the computer."""

    check: str
    level: str
    what: str
    do: str = ""
    port: str = ""
