"""Recordings: CSV files with a header line, one sample a line."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from midgehost.errors import DataError


def read_columns(path: Path, columns: Sequence[str]) -> list[list[float]]:
    """The named columns as floats (NaN and infinities as the file has them). Raises DataError, naming the line."""
    rows = _rows(path)
    header = rows[0] if rows else []
    places = [_place(path, header, column) for column in columns]
    found: list[list[float]] = [[] for _ in columns]
    for number, row in enumerate(rows[1:], start=2):
        for values, place, column in zip(found, places, columns, strict=True):
            try:
                values.append(float(row[place]))
            except (IndexError, ValueError):
                cell = row[place] if place < len(row) else "nothing"
                raise DataError(
                    f"{path}, line {number}: column {column!r} holds {cell!r}, which is no number.",
                    "Correct the line or cut it out.",
                ) from None
    if not found or not found[0]:
        raise DataError(f"{path} holds no samples.", "Give a CSV file with a header line and one sample a line.")
    return found


def read_text_column(path: Path, column: str) -> list[str]:
    """A column as text, e.g. time stamps."""
    rows = _rows(path)
    place = _place(path, rows[0] if rows else [], column)
    return [row[place] if place < len(row) else "" for row in rows[1:]]


def parse_times(texts: Sequence[str]) -> list[datetime]:
    """ISO 8601 time stamps as such; empty if there are none, or if one reads otherwise or lies before its neighbour."""
    try:
        times = [datetime.fromisoformat(text) for text in texts]
        return times if all(a <= b for a, b in pairwise(times)) else []
    except (ValueError, TypeError):  # TypeError: some have a time zone and some have none
        return []


def column_names(path: Path) -> list[str]:
    """The header's names."""
    rows = _rows(path)
    return rows[0] if rows else []


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} does not read: {error}.", "Give a CSV file with a header line.") from error


def _place(path: Path, header: Sequence[str], column: str) -> int:
    if column in header:
        return header.index(column)
    near = difflib.get_close_matches(column, header, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Its columns: {', '.join(header) or 'none'}."
    raise DataError(f"{path} has no column {column!r}.", hint)
