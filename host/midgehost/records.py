"""Records as they come over the wire: SenML (RFC 8428) packs as JSON lines, times as integer Unix milliseconds.

A pack is an array of objects; `bn` is put before names, `bt` added to times (decimal seconds, read as text and never as
a float), and both hold until they change. What midge adds to alerts: model, plan, kernels, score.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

_EXTRA = ("model", "plan", "kernels", "score")


@dataclass(frozen=True)
class Record:
    """One measurement or event. `node` is the base name without its slash, `t` None if the record has no time."""

    node: str
    name: str
    value: float | str | bool
    t: int | None  # milliseconds: Unix time, or since boot on a board whose clock is not set
    unit: str = ""
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_number(self) -> bool:
        """True for a measurement, which can be plotted."""
        return not isinstance(self.value, bool | str)

    def as_dict(self) -> dict[str, Any]:
        """The record as `--json` prints it."""
        made: dict[str, Any] = {"node": self.node, "n": self.name, "t": self.t, "v": self.value}
        if self.unit:
            made["u"] = self.unit
        return made | self.extra


def parse_pack(line: str) -> list[Record]:
    """The records of one line; empty for a line that is no pack (a print, noise, half a line)."""
    if not line.startswith("["):
        return []
    try:
        pack = json.loads(line, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return []
    found: list[Record] = []
    base_name, base_time, base_unit = "", None, ""
    for entry in cast(list[Any], pack):
        if not isinstance(entry, dict):
            return []
        fields = cast(dict[str, Any], entry)
        base_name = str(fields.get("bn", base_name))
        base_time = _milliseconds(fields.get("bt"), base_time)
        base_unit = str(fields.get("bu", base_unit))
        record = _record(fields, base_name, base_time, base_unit)
        if record is None:
            return []
        found.append(record)
    return found


def _record(fields: dict[str, Any], base_name: str, base_time: int | None, base_unit: str) -> Record | None:
    values = [fields[key] for key in ("v", "vs", "vb") if key in fields]
    if len(values) != 1 or "n" not in fields:
        return None
    value = float(values[0]) if isinstance(values[0], Decimal) else values[0]
    if not isinstance(value, bool | int | float | str):
        return None
    t = base_time
    if "t" in fields:
        own = _milliseconds(fields["t"], None)
        t = own if base_time is None else base_time + (own or 0)
    extra = {key: _plain(fields[key]) for key in _EXTRA if key in fields}
    node = base_name.rstrip("/")
    return Record(node, str(fields["n"]), value, t, str(fields.get("u", base_unit)), extra)


def _milliseconds(seconds: Any, default: int | None) -> int | None:
    """Decimal seconds as whole milliseconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, Decimal | int):
        return default
    return int((Decimal(seconds) * 1000).to_integral_value())


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
