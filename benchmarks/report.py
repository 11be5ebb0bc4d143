"""Results as a table for people and as JSON for programs."""

import json
import platform
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell
from benchmarks.rounds import Results, Spread
from benchmarks.targets import Verdict

_SHOWN = {"cpu", "wall", "bytes", "units", "repetitions"}


def table(results: Results) -> str:
    """One Markdown table per group: median cost, spread, ratio to what the cell is compared with."""
    lines: list[str] = []
    groups: dict[str, None] = dict.fromkeys(cell.group for cell in results.cells.values())
    for group in groups:
        cells = [cell for cell in results.cells.values() if cell.group == group]
        lines += [
            "",
            f"### {group}",
            "",
            "| | cost | spread | wall | ratio | spread | of | also |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for backend, members in groupby(cells, key=lambda cell: cell.backend):
            for cell in members:
                name = cell.name if backend == "asyncio" else f"{cell.name} ({backend})"
                cost = results.spread(cell.key, cell.metric)
                if cost is None:
                    lines.append(f"| {name} | n/a: {results.skipped(cell.key)} | | | | | | |")
                    continue
                wall = results.spread(cell.key, "wall")
                ratio = results.ratio(cell.key, cell.against_key, cell.metric) if cell.against_key else None
                lines.append(
                    f"| {name} | {_amount(cost.median, cell.metric)}/{cell.unit} | {_ends(cost, cell.metric)} "
                    f"| {_amount(wall.median, 'wall') if wall else ''} "
                    f"| {f'{ratio.median:.2f}' if ratio else ''} | {_ratio_ends(ratio)} "
                    f"| {cell.against if ratio else ''} | {_also(results, cell)} |"
                )
    return "\n".join(lines).strip()


def targets_table(verdicts: list[Verdict]) -> str:
    """Each target with what was measured."""
    lines = ["| target | measured | spread | must | goal | |", "|---|---|---|---|---|---|"]
    for verdict in verdicts:
        target, measured = verdict.target, verdict.measured
        if measured is None:
            lines.append(f"| {target.text} | n/a | | <= {target.must:g} | {_goal(target.goal)} | not measured |")
            continue
        lines.append(
            f"| {target.text} | {measured.median:.2f} | {measured.low:.2f}..{measured.high:.2f} "
            f"| <= {target.must:g} | {_goal(target.goal)} | {verdict.word} |"
        )
    return "\n".join(lines)


def write_json(results: Results, verdicts: list[Verdict], file: Path) -> None:
    """Everything that was measured, each round by itself."""
    document: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": _versions("anyio", "pydantic", "trio", "uvloop", "opentelemetry-api"),
        "rounds": results.rounds,
        "targets": [
            {
                "target": verdict.target.text,
                "must": verdict.target.must,
                "goal": verdict.target.goal,
                "measured": verdict.measured and verdict.measured.median,
                "verdict": verdict.word,
            }
            for verdict in verdicts
        ],
    }
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _also(results: Results, cell: Cell) -> str:
    """What the cell measured besides: medians."""
    names = {name for one in results.rounds for name in one.get(cell.key, {})} - _SHOWN
    found = [(name, results.spread(cell.key, name)) for name in sorted(names)]
    return ", ".join(f"{name} {_plain(name, spread.median)}" for name, spread in found if spread is not None)


def _plain(name: str, value: float) -> str:
    return _amount(value, name) if name.endswith(("_cpu", "_wall")) else f"{value:,.4g}"


def _versions(*names: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _amount(value: float, metric: str) -> str:
    if metric == "bytes":
        return f"{value:,.0f} B"
    if value < 1e-3:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _ends(spread: Spread, metric: str) -> str:
    return f"{_amount(spread.low, metric)}..{_amount(spread.high, metric)}"


def _ratio_ends(spread: Spread | None) -> str:
    return f"{spread.low:.2f}..{spread.high:.2f}" if spread else ""


def _goal(goal: float | None) -> str:
    return f"{goal:g}" if goal is not None else ""
