"""Scores midge's detectors on the Numenta Anomaly Benchmark, with the benchmark's own scorer.

    .venv/bin/python tools/nab.py CHECKOUT

CHECKOUT is a clone of github.com/numenta/NAB, version 1.1. Its `nab/sweeper.py` is imported from there at run time:
that module is the scorer, and it needs neither pandas nor Python 2.

Protocol: every series is fed in its own order to a fresh detector; the first 15 % of a file, at most 750 rows, are not
scored. An alarm is binary, so a row's anomaly score is 1 where the detector alarms and 0 elsewhere, and the threshold
is fixed at 1: nothing is chosen by looking at the labels. Scores are normalised as NAB does: 0 is the detector that
never alarms, 100 the perfect one.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from midgehost import twin

PROFILES = {"standard": "standard", "low FP": "reward_low_FP_rate", "low FN": "reward_low_FN_rate"}
PROBATION_SHARE = 0.15
_NO_ALARM = 1.1  # NAB's threshold above every score


@dataclass(frozen=True)
class Series:
    """One file of the benchmark: its rows in order, and the windows in which an alarm counts."""

    name: str
    times: list[datetime]
    values: list[float]
    windows: list[tuple[datetime, datetime]]

    @property
    def probation(self) -> int:
        """Rows that NAB does not score: 15 %, at most 750."""
        return int(min(PROBATION_SHARE * len(self.values), PROBATION_SHARE * 5000))


@dataclass(frozen=True)
class Result:
    """What one detector reached: normalised scores by profile, and its alarms outside probation."""

    scores: dict[str, float]
    hits: int
    windows: int
    false_alarms: int


def load_scorer(checkout: Path) -> ModuleType:
    """NAB's `nab/sweeper.py`, imported from the checkout."""
    path = checkout / "nab" / "sweeper.py"
    spec = importlib.util.spec_from_file_location("nab_sweeper", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SystemExit(f"{checkout} is no NAB checkout: {path} is missing. Clone github.com/numenta/NAB.")
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    return scorer


def load_corpus(checkout: Path) -> Iterator[Series]:
    """Every labelled series below `data/`, in the order of its name."""
    labels = json.loads((checkout / "labels" / "combined_windows.json").read_text())
    for name in sorted(labels):
        with (checkout / "data" / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        yield Series(
            name,
            [datetime.fromisoformat(row["timestamp"]) for row in rows],
            [float(row["value"]) for row in rows],
            [(datetime.fromisoformat(a), datetime.fromisoformat(b)) for a, b in labels[name]],
        )


def alarms(kind: str, series: Series) -> list[bool]:
    """One detector's alarms on a series. `context` learns for as long as NAB gives it; nothing else is adapted."""
    params = {"probation": max(series.probation, 2)} if kind == "context" else {}
    return [alarm for _, alarm in twin.feed(twin.detector(kind, **params), series.values)]


def evaluate(kind: str, corpus: list[Series], scorer: ModuleType, profiles: dict[str, Any]) -> Result:
    """Runs and scores one detector over the whole corpus."""
    raised = [alarms(kind, series) for series in corpus]
    scores: dict[str, float] = {}
    hits = false_alarms = 0
    for title, profile in PROFILES.items():
        costs = profiles[profile]["CostMatrix"]
        sweeper = scorer.Sweeper(PROBATION_SHARE, costs)
        reached = silent = 0.0
        for series, flags in zip(corpus, raised, strict=True):
            points = sweeper.calcSweepScore(series.times, [float(f) for f in flags], series.windows, series.name)
            by_threshold = {row.threshold: row for row in sweeper.calcScoreByThreshold(points)}
            silent += by_threshold[_NO_ALARM].score
            reached += by_threshold.get(1.0, by_threshold[_NO_ALARM]).score
            if title == "standard":
                judged = [p for p in points if p.windowName != "probationary" and p.anomalyScore == 1.0]
                hits += len({p.windowName for p in judged if p.windowName})
                false_alarms += sum(p.windowName is None for p in judged)
        perfect = sum(len(series.windows) for series in corpus) * costs["tpWeight"]
        scores[title] = 100 * (reached - silent) / (perfect - silent)
    return Result(scores, hits, sum(len(series.windows) for series in corpus), false_alarms)


def table(checkout: Path, kinds: tuple[str, ...] = twin.DETECTORS) -> dict[str, Result]:
    """The results of the named detectors on a NAB checkout."""
    scorer = load_scorer(checkout)
    corpus = list(load_corpus(checkout))
    profiles = json.loads((checkout / "config" / "profiles.json").read_text())
    return {kind: evaluate(kind, corpus, scorer, profiles) for kind in kinds}


def print_table(results: dict[str, Result]) -> None:
    """The results as a Markdown table."""
    print("| detector | " + " | ".join(PROFILES) + " | windows hit | false alarms |")
    print("|---|" + "---|" * (len(PROFILES) + 2))
    for kind, result in results.items():
        scores = " | ".join(f"{result.scores[title]:.1f}" for title in PROFILES)
        print(f"| {kind} | {scores} | {result.hits} of {result.windows} | {result.false_alarms} |")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Score midge's detectors on a NAB checkout.")
    parser.add_argument("checkout", type=Path, help="a clone of github.com/numenta/NAB")
    print_table(table(parser.parse_args().checkout))


if __name__ == "__main__":
    main()
