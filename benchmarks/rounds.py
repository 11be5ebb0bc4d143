"""Run cells in interleaved rounds, each in a fresh process, and compare them within a round."""

import json
import os
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell
from benchmarks.child import MARK

ROOT = Path(__file__).resolve().parent.parent


@dataclass(slots=True)
class Spread:
    """A median and the two ends."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: list[float]) -> "Spread":
        """Of at least one value."""
        return Spread(statistics.median(values), min(values), max(values))


@dataclass(slots=True)
class Results:
    """What each cell answered in each round: `rounds[round][cell key]`."""

    cells: dict[str, Cell]
    rounds: list[dict[str, dict[str, Any]]] = field(default_factory=list)

    def values(self, key: str, metric: str) -> list[float]:
        """One number per round in which the cell ran."""
        return [float(one[key][metric]) for one in self.rounds if metric in one.get(key, {})]

    def spread(self, key: str, metric: str) -> Spread | None:
        """Over the rounds."""
        values = self.values(key, metric)
        return Spread.of(values) if values else None

    def ratio(self, key: str, other: str, metric: str, other_metric: str | None = None) -> Spread | None:
        """Of two cells, taken within each round."""
        second = other_metric or metric
        ratios = [
            float(one[key][metric]) / float(one[other][second])
            for one in self.rounds
            if metric in one.get(key, {}) and one.get(other, {}).get(second)
        ]
        return Spread.of(ratios) if ratios else None

    def skipped(self, key: str) -> str | None:
        """Why a cell didn't run."""
        reasons = [one[key]["skipped"] for one in self.rounds if "skipped" in one.get(key, {})]
        return reasons[0] if reasons else None


def run_rounds(cells: list[Cell], rounds: int, *, timeout: float, said: Callable[[str], None]) -> Results:
    """Run every cell once a round, in turned order every other round, so that drift hits all alike."""
    results = Results({cell.key: cell for cell in cells})
    for number in range(rounds):
        this: dict[str, dict[str, Any]] = {}
        results.rounds.append(this)
        for index, cell in enumerate(cells if number % 2 == 0 else reversed(cells), start=1):
            if results.skipped(cell.key) is not None:
                continue
            said(f"round {number + 1}/{rounds}, {index}/{len(cells)}: {cell.key}")
            this[cell.key] = run_cell(cell, timeout)
    return results


def run_cell(cell: Cell, timeout: float) -> dict[str, Any]:
    """One cell in a fresh process; what goes wrong there is an answer too: `{"skipped": why}`."""
    request = json.dumps({"module": cell.module, "function": cell.function, "params": dict(cell.params)})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OTEL_SDK_DISABLED": "true"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or imports would compile each time
    try:
        done = subprocess.run(
            [cell.python, "-m", "benchmarks.child", request],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"skipped": f"took more than {timeout:.0f} s"}
    lines = done.stdout.splitlines()
    if done.returncode or not lines or not lines[-1].startswith(MARK):
        return {"skipped": (done.stderr.strip().splitlines() or ["no answer"])[-1]}
    answer: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return answer
