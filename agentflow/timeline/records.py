"""A turn as a JSON object: a line of JSON Lines, or what the page draws."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from agentflow.content import to_wire
from agentflow.events import ErrorInfo
from agentflow.timeline.model import Timeline, Turn
from agentflow.timeline.words import clean


def to_jsonl(timelines: Iterable[Timeline]) -> Iterator[str]:
    """One JSON object a turn, in the order in which they began; times are in seconds since the epoch.

    Fields that have nothing to say are left out. `parent` is the place of the turn that gave it this one, in its run.
    """
    for timeline in timelines:
        places = {id(turn): place for place, turn in enumerate(timeline.turns)}
        critical = {id(turn) for turn, _ in timeline.critical_turns()}
        for place, turn in enumerate(timeline.turns):
            line: dict[str, Any] = {"run": timeline.id, "turn": place}
            if turn.parent is not None:
                line["parent"] = places[id(turn.parent)]
            line |= record(turn, lambda time: time)
            line["status"] = turn.status or "unfinished"
            if id(turn) in critical:
                line["critical"] = True
            yield json.dumps(line, ensure_ascii=False)


def record(turn: Turn, place: Callable[[float], float], *, marks: bool = True) -> dict[str, Any]:
    """One turn; `place` says where its moments are."""

    def at(time: float) -> float:
        return round(place(time), 6)

    fields: dict[str, Any] = {
        "name": turn.name,
        "type": turn.kind,
        "path": turn.path,
        "branch": turn.branch,
        "iteration": turn.iteration,
        "status": turn.status,
        "began": at(turn.began),
        "ended": at(turn.ended),
        "own": round(turn.own, 6),
        "queued": round(turn.queued, 6),
        "waitedForRetries": round(turn.retry_wait, 6),
        "error": words_of(turn.error),
        "reason": clean(turn.reason),
        "decision": clean(turn.decision),
        "hidden": turn.hidden,
        "skipped": turn.skipped,
        "usage": to_wire(turn.usage) if turn.usage is not None else None,
        "attempts": [
            _present(
                number=each.number,
                began=at(each.began),
                ended=at(each.ended) if each.ended is not None else None,
                error=words_of(each.error),
            )
            for each in turn.attempts
        ],
        "calls": [
            _present(
                name=call.name,
                began=at(call.began),
                ended=at(call.ended) if call.ended is not None else None,
                failed=call.failed,
            )
            for call in turn.calls
        ],
    }
    if marks:
        fields["marks"] = [
            {"time": at(mark.time), "kind": mark.kind, "words": clean(mark.words), "serial": mark.serial}
            for mark in turn.marks
        ]
    always = ("status", "branch", "began", "ended", "own")
    return {
        name: value for name, value in fields.items() if name in always or value not in (None, "", 0, False, [], {})
    }


def words_of(error: ErrorInfo | None) -> str:
    """An error in a line: its type and message."""
    if error is None:
        return ""
    return clean(f"{error.type}: {error.message}".removesuffix(": "))


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", False)}
