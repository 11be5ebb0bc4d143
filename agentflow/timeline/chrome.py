"""Runs in Chrome's trace format, which Perfetto, `chrome://tracing` and others open."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from agentflow.timeline.model import Timeline, Turn
from agentflow.timeline.records import record

_THREAD = 1


def to_chrome(timelines: Sequence[Timeline]) -> Iterator[str]:
    """The trace as a JSON document, line by line.

    Each run is a process, each branch a thread in it, each turn a slice; queue waits, waits before a retry and tools
    are slices too, and what agents said are instants on theirs. Arrows lead from who forked to the branches.
    """
    yield '{"displayTimeUnit": "ms", "traceEvents": ['
    before = ""
    for process, timeline in enumerate(timelines, 1):
        for event in _events(timeline, process):
            yield before + json.dumps(event, ensure_ascii=False)
            before = ","
    yield "]}"


def _events(timeline: Timeline, process: int) -> Iterator[dict[str, Any]]:
    zero = timeline.began
    name = " ".join([timeline.root.name if timeline.root is not None else "run", timeline.id])
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": process, "args": {"sort_index": process}}
    threads: dict[str, int] = {}
    for turn in timeline.turns:
        thread = threads.get(turn.branch)
        if thread is None:
            thread = threads[turn.branch] = len(threads) + _THREAD
            title = {"name": turn.branch or "main"}
            yield {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": title}
            yield {
                "ph": "M",
                "name": "thread_sort_index",
                "pid": process,
                "tid": thread,
                "args": {"sort_index": thread},
            }
        yield from _turn(turn, process, thread, zero)
    yield from _arrows(timeline, process, threads, zero)


def _turn(turn: Turn, process: int, thread: int, zero: float) -> Iterator[dict[str, Any]]:
    def piece(name: str, category: str, began: float, ended: float, **more: Any) -> dict[str, Any]:
        first, last = _micros(began, zero), _micros(ended, zero)
        return {
            "ph": "X", "name": name, "cat": category, "pid": process, "tid": thread, "ts": first,
            "dur": max(0, last - first), **more,
        }  # fmt: skip

    if turn.queued:
        yield piece("queued", "queue", turn.began - turn.queued, turn.began)
    args = record(turn, lambda time: time - zero, marks=False)
    colour = {"error": "terrible", "timeout": "terrible", "cancelled": "bad"}.get(turn.status)
    yield piece(turn.name, "agent", turn.began, turn.ended, args=args, **({"cname": colour} if colour else {}))
    for before, after in zip(turn.attempts, turn.attempts[1:], strict=False):
        if before.ended is not None:
            yield piece("before a retry", "retry", before.ended, after.began)
    for call in turn.calls:  # they may overlap each other: events of their own kind, not slices
        ended = call.ended if call.ended is not None else turn.ended
        same = {"cat": "tool", "name": call.name, "id": f"{process}.{call.id}", "pid": process, "tid": thread}
        yield {"ph": "b", "ts": _micros(call.began, zero), **same}
        yield {"ph": "e", "ts": _micros(ended, zero), **same}
    for mark in turn.marks:
        yield {
            "ph": "i", "s": "t", "cat": mark.kind, "name": mark.words or mark.kind, "pid": process, "tid": thread,
            "ts": _micros(mark.time, zero),
        }  # fmt: skip


def _arrows(timeline: Timeline, process: int, threads: dict[str, int], zero: float) -> Iterator[dict[str, Any]]:
    for number, turn in enumerate(timeline.turns):
        parent = turn.parent
        if turn.forked and parent is not None:
            same = {"cat": "fork", "name": "fork", "id": f"{process}.{number}", "pid": process}
            began = max(_micros(turn.began - turn.queued, zero), _micros(parent.began, zero))
            yield {"ph": "s", "tid": threads[parent.branch], "ts": began, **same}
            yield {"ph": "f", "bp": "e", "tid": threads[turn.branch], "ts": _micros(turn.began, zero), **same}


def _micros(time: float, zero: float) -> int:
    return round((time - zero) * 1_000_000)
