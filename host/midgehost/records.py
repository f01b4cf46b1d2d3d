"""Records as they come over the wire: SenML (RFC 8428) packs as JSON lines, times as integer Unix milliseconds.

A pack is an array of objects; `bn` is put before names, `bt` added to times (decimal seconds, read as text and never as
a float), `bu` the unit where none is given; each holds until it changes. What midge adds to alerts: model, plan,
kernels, score. A field that is not read here and would change what a record says (`bv`, a key that ends in "_") refuses
the whole pack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite
from typing import Any, cast

_EXTRA = ("model", "plan", "kernels", "score")
_NOT_READ = {"bv", "bs", "s", "vd"}
_MOST_SECONDS = 10**12  # beyond every clock; larger decimals would become huge integers


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
    """The records of one line; empty for a line that is no pack: a print, noise, half a line, a damaged one."""
    if not line.startswith("["):
        return []
    try:
        pack = json.loads(line, parse_float=Decimal, parse_constant=_no_constant)
        return list(_records(cast(list[Any], pack)))
    except (ValueError, ArithmeticError, RecursionError):  # ArithmeticError: a decimal or float that overflows
        return []


def _records(pack: list[Any]) -> Iterator[Record]:
    base_name, base_time, base_unit = "", None, ""
    for entry in pack:
        if not isinstance(entry, dict):
            raise ValueError("not an object")
        fields = cast(dict[str, Any], entry)
        if any(key in _NOT_READ or key.endswith("_") for key in fields):
            raise ValueError("a field that must be understood")
        base_name = _text(fields.get("bn", base_name))
        base_time = _milliseconds(fields["bt"]) if "bt" in fields else base_time
        base_unit = _text(fields.get("bu", base_unit))
        t = base_time
        if "t" in fields:
            t = (base_time or 0) + _milliseconds(fields["t"])
        extra = {key: _plain(fields[key]) for key in _EXTRA if key in fields}
        unit = _text(fields.get("u", base_unit))
        yield Record(base_name.rstrip("/"), _text(fields.get("n")), _value(fields), t, unit, extra)


def _value(fields: dict[str, Any]) -> float | str | bool:
    """The one value of a record, finite if it is a number."""
    ((key, value),) = ((key, fields[key]) for key in ("v", "vs", "vb") if key in fields)
    if key == "vs":
        return _text(value)
    if key == "vb":
        if not isinstance(value, bool):
            raise ValueError("neither true nor false")
        return value
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise ValueError("not a number")
    return _plain(value)


def _milliseconds(seconds: Any) -> int:
    """Decimal seconds as whole milliseconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, Decimal | int) or not abs(seconds) < _MOST_SECONDS:
        raise ValueError("not a time")
    return int((Decimal(seconds) * 1000).to_integral_value())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _plain(value: Any) -> Any:
    """As parsed, but a number with a point as a float, and none that a float cannot hold."""
    if isinstance(value, Decimal | int) and not isfinite(float(value)):
        raise ValueError("not finite")
    return float(value) if isinstance(value, Decimal) else value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
