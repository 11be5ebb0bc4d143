"""What must hold after any run, however it ended: each function lists what doesn't."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from agentflow import Event, Session

STARTS = ("agent_start", "agent_parallel_start")
ENDS = {"agent_start": "agent_complete", "agent_parallel_start": "agent_parallel_complete"}


def log_problems(events: Sequence[Event]) -> list[str]:
    """Of a session's stored events."""
    problems = []
    serials = [event.serial for event in events]
    if serials != list(range(1, len(events) + 1)):
        problems.append(f"serials have gaps: {serials}")
    lines = defaultdict(list)
    for event in events:
        lines[event.invocation_id, event.branch].append(event)
        if event.partial:
            problems.append(f"a partial event was stored: {event.id}")
    for (_, branch), line in lines.items():
        if [event.seq for event in line] != list(range(1, len(line) + 1)):
            problems.append(f"seqs of branch {branch!r} have gaps: {[event.seq for event in line]}")
    if len({event.id for event in events}) != len(events):
        problems.append("event ids are used twice")
    for run in dict.fromkeys(event.invocation_id for event in events):
        problems += turn_problems([event for event in events if event.invocation_id == run])
    return problems


def turn_problems(events: Iterable[Event]) -> list[str]:
    """Of one run: every turn that began has one end, after all that happened in it."""
    problems = []
    open_turns: Counter[tuple[str, str, str]] = Counter()
    open_groups: Counter[tuple[str, str]] = Counter()
    ended: dict[tuple[str, str], int] = {}
    for event in events:
        record = event.lifecycle
        key = (event.path, event.branch)
        if record is None:
            if event.author != "user" and not any(
                path == event.path and branch == event.branch and count
                for (path, branch, _), count in open_turns.items()
            ):
                problems.append(f"{event.path} on {event.branch!r} spoke outside of its turn: {event.text!r}")
        elif record.name in STARTS and record.attempt == 1:
            open_turns[*key, ENDS[record.name]] += 1
        elif record.name in ENDS.values():
            open_turns[*key, record.name] -= 1
            if open_turns[*key, record.name] < 0:
                problems.append(f"{event.path} on {event.branch!r} ended twice, or without a start ({record.outcome})")
            ended[key] = event.serial or 0
            below = [path for (path, _, _), count in open_turns.items() if count and path.startswith(event.path + ".")]
            if below:
                problems.append(f"{event.path} ended before {below}")
        elif record.name == "scatter_start":
            open_groups[key] += 1
        elif record.name == "gather_complete":
            open_groups[key] -= 1
            total = record.successful + record.failed + record.cancelled + record.skipped
            listed = len(record.outcomes) or record.total_agents  # a group of any size only counts
            if total != record.total_agents or listed != record.total_agents:
                problems.append(f"the counts of {event.path} don't add up: {record}")
    problems += [f"{path} on {branch!r} has no {end}" for (path, branch, end), count in open_turns.items() if count > 0]
    problems += [f"{path} on {branch!r} has no gather_complete" for (path, branch), n in open_groups.items() if n > 0]
    problems += [f"{path} on {branch!r} gathered twice" for (path, branch), n in open_groups.items() if n < 0]
    return problems


def state_problems(session: Session, shared: dict[str, object]) -> list[str]:
    """The session's state is what its events wrote; `shared` is what was there before."""
    state = dict(shared)
    for event in session.events:
        if event.actions is not None:
            for key in [*event.actions.state_delta, *event.actions.state_removed, *event.actions.contributions]:
                if key.startswith("temp:"):
                    return [f"{key!r} was stored"]
            state.update(event.actions.state_delta)
            for key in event.actions.state_removed:
                state.pop(key, None)
    return [] if state == session.state else [f"state is {session.state}, its events make {state}"]


def delivery_problems(delivered: Sequence[Event], stored: Sequence[Event], whole: bool) -> list[str]:
    """The reader got the run's stored events in their order: all of them (`whole`), or the first so many."""
    got = [event.serial for event in delivered if not event.partial]
    expected = [event.serial for event in stored if event.author != "user" or event.path]
    if whole and got != expected:
        return [f"the reader got {got}, stored are {expected}"]
    if got != expected[: len(got)]:
        return [f"the reader got {got}, which is no beginning of {expected}"]
    return []


class Spans(SpanProcessor):
    """Keeps all spans, ended or not."""

    def __init__(self) -> None:
        self.open: dict[int, ReadableSpan] = {}
        self.ended: list[ReadableSpan] = []

    def on_start(self, span, parent_context=None) -> None:
        self.open[span.context.span_id] = span

    def on_end(self, span) -> None:
        if self.open.pop(span.context.span_id, None) is None:
            raise AssertionError(f"{span.name} ended twice")
        self.ended.append(span)

    def problems(self) -> list[str]:
        problems = [f"span {span.name!r} is open" for span in self.open.values()]
        by_id = {span.context.span_id: span for span in self.ended}
        for span in self.ended:
            path = span.attributes.get("agentflow.agent.path")
            if path is None:
                continue
            parent = by_id.get(span.parent.span_id) if span.parent is not None else None
            above = parent.attributes.get("agentflow.agent.path") if parent is not None else None
            if parent is None or above != (path.rpartition(".")[0] or None):
                problems.append(f"span of {path} is below that of {above or parent}")
            elif not parent.start_time <= span.start_time <= span.end_time <= parent.end_time:
                problems.append(f"span of {path} outlives its parent's")
            elif parent.context.trace_id != span.context.trace_id:
                problems.append(f"span of {path} is in another trace than its parent")
        return problems

    def clear(self) -> None:
        self.open.clear()
        self.ended.clear()


def install(monkeypatch, spans: Spans) -> None:
    """Let OpenTelemetry's global provider be one that writes to `spans`, for one test."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(spans)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
