"""Runs as one HTML file that needs nothing else: no server, no network, no other file."""

import html
import json
from collections.abc import Sequence
from heapq import merge
from pathlib import Path
from typing import Any

from agentflow.timeline.model import Timeline
from agentflow.timeline.records import record
from agentflow.timeline.rows import Axis, pieces, rows
from agentflow.timeline.words import clean, duration

_STEPS = 1_000
"""Steps of the strip that shows how many agents are at work: more than a screen has room for."""


def to_html(timelines: Sequence[Timeline]) -> str:
    """A page that draws the runs, the last one first: zoom, search, keys, light and dark.

    It loads nothing from anywhere and sends nothing; its content security policy forbids both. What agents said is in
    it as far as the timelines keep words: make them with `words=0` for a page that shows times alone.

    Args:
        timelines: Closed ones; at least one.
    """
    shown = [timeline for timeline in timelines if timeline.turns] or list(timelines)
    data = json.dumps([_run(timeline) for timeline in shown], ensure_ascii=False, separators=(",", ":"))
    last = shown[-1]
    name = last.root.name if last.root is not None else "run"
    title = f"{name} · {last.status or 'unfinished'} · {duration(last.wall)}"
    parts = {
        "TITLE": html.escape(clean(title)),
        "STYLE": _file("page.css"),
        "DATA": data.replace("<", "\\u003c"),  # nothing in it may end its element
        "SCRIPT": _file("page.js"),
    }
    pieces_of = _file("page.html").split("@")
    return "".join(parts.get(piece, piece) for piece in pieces_of)


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").rstrip("\n")


def _run(timeline: Timeline) -> dict[str, Any]:
    table = rows(timeline)
    axis = Axis(timeline)
    critical = {id(turn) for turn, _ in timeline.critical_turns()}
    usage = timeline.usage
    return {
        "id": timeline.id,
        "name": timeline.root.name if timeline.root is not None else "run",
        "asked": clean(timeline.asked)[:2_000],
        "status": timeline.status,
        "end": max(round(axis.seconds, 6), 1e-6),
        "pauses": [(round(at, 6), round(seconds, 6)) for at, seconds in axis.pauses],
        "wall": timeline.wall,
        "work": timeline.work,
        "speedup": timeline.speedup,
        "turns": len(timeline.turns),
        "events": timeline.events,
        "tokens": usage.total_tokens,
        "cost": usage.cost,
        "outcomes": dict(timeline.outcomes()),
        "load": _load(timeline, axis),
        "rows": [
            {
                "label": clean(row.label),
                "depth": row.depth,
                "status": row.status,
                "seconds": round(row.seconds, 6),
                "note": ", ".join(row.notes()),
                "turns": [
                    record(turn, axis.at)
                    | {"pieces": [(kind, round(axis.at(a), 6), round(axis.at(b), 6)) for kind, a, b in pieces(turn)]}
                    | ({"critical": True} if id(turn) in critical else {})
                    for turn in row.turns
                ],
            }
            for row in table
        ],
    }


def _load(timeline: Timeline, axis: Axis) -> list[tuple[float, int]]:
    """How many agents are at work themselves, as steps: (from when on, how many at most until the next)."""
    starts, ends = [], []
    for turn in timeline.turns:
        for kind, began, ended in pieces(turn):
            if kind in ("own", "failed"):
                starts.append((round(axis.at(began), 6), 1))
                ends.append((round(axis.at(max(ended, began)), 6), -1))
    width = axis.seconds / _STEPS
    steps: list[tuple[float, int]] = []
    count = place = most = 0
    for time, change in merge(sorted(starts), sorted(ends), key=lambda step: step):
        now = int(time / width)
        if now != place:
            steps.append((round(place * width, 6), most))
            if now > place + 1:
                steps.append((round((place + 1) * width, 6), count))
            place, most = now, count
        count += change
        most = max(most, count)
    return [*steps, (round(place * width, 6), most)]
