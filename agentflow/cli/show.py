"""`agentflow show`: what was said in a session, to be read."""

import json
import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click
from rich.cells import cell_len

from agentflow.cli._options import debug_option, listing_option
from agentflow.cli._questions import told
from agentflow.cli._rows import Words, fit, text_rows
from agentflow.cli._runs import Runs, choose_run, read_events
from agentflow.cli._store import app_options, db_option, find, opened, run_async, session_argument
from agentflow.cli._terminal import print_rows, width_of_output
from agentflow.cli.sessions import as_object
from agentflow.content import ToolResult
from agentflow.events import AgentComplete, AgentStart, Event
from agentflow.questions import Question, questions_in
from agentflow.services.sessions import SessionInfo
from agentflow.timeline.model import Timeline
from agentflow.timeline.text import STYLES
from agentflow.timeline.words import clean, duration, one_line, plural, said, short

_NAMED = 5
"""Branches that are named where one reason cancelled many."""


@click.command("show")
@session_argument()
@click.option("--run", "which", default="all", show_default=True, metavar="RUN", help="Its number, id, last, or all.")
@click.option("--events", "all_events", is_flag=True, help="A line for each event, with its number.")
@click.option("--state", "with_state", is_flag=True, help="The session's state too.")
@listing_option
@db_option
@app_options
@debug_option
def command(
    *,
    session: str | None,
    which: str,
    all_events: bool,
    with_state: bool,
    as_json: bool,
    db: str | None,
    app: str | None,
    user: str | None,
    debug: bool,
) -> None:
    """Show what was said in SESSION, run by run, how each run ended, and what it waits to be told.

    SESSION is an id, the beginning of one, or last, which is also what it means when it is left out.
    """
    asked: dict[str, Question] = {}

    async def work() -> tuple[SessionInfo, Runs, dict[str, list[Event]]]:
        async with opened(db, read_only=True) as stores:
            info = await find(stores.sessions, session, app=app, user=user)
            runs = Runs(words=0)
            events: dict[str, list[Event]] = {}

            def take(event: Event) -> None:
                runs.add(event)
                asked.update({question.id: question for question in questions_in(event)})
                if event.author == "user":
                    for part in event.parts:
                        if isinstance(part, ToolResult):
                            asked.pop(part.id, None)
                if all_events or not (as_json or event.lifecycle):
                    events.setdefault(event.invocation_id, []).append(event)

            await read_events(stores.sessions, info, take, quiet=as_json)
        return info, runs, events

    info, runs, events = run_async(work, debug=debug)
    ids = choose_run(list(runs.timelines), which) if runs.timelines or which != "all" else []
    for timeline in runs.timelines.values():
        timeline.close()
    pending: dict[str, list[Question]] = {run_id: [] for run_id in ids}
    for question in asked.values():
        run_id = question.invocation_id
        if run_id in pending and runs.timelines[run_id].status == "paused":
            pending[run_id].append(question)
    if as_json:
        numbers = {run_id: number for number, run_id in enumerate(runs.timelines, 1)}
        found = [_run_object(numbers[run_id], runs.timelines[run_id], pending[run_id]) for run_id in ids]
        first = next(iter(runs.timelines.values())).asked if runs.timelines else ""
        click.echo(json.dumps({**as_object(info, first), "state": info.state, "runs": found}, ensure_ascii=False))
        for run_id in ids:
            for event in events.get(run_id, ()):
                click.echo(event.to_json())
        return
    print_rows(_rows(info, runs, pending, events, all_events=all_events, with_state=with_state))


def _run_object(number: int, timeline: Timeline, pending: list[Question]) -> dict[str, Any]:
    usage = timeline.usage
    fields = {
        "number": number,
        "id": timeline.id,
        "asked": timeline.asked,
        "status": timeline.status or "unfinished",
        "began": timeline.began,
        "seconds": round(timeline.wall, 6),
        "turns": len(timeline.turns),
        "events": timeline.events,
        "branches": dict(timeline.outcomes()),
        "tokens": usage.total_tokens,
        "cost": usage.cost,
        "pending": [_question_object(question) for question in pending],
    }
    return {name: value for name, value in fields.items() if value not in (0.0, "", {}, [])}


def _question_object(question: Question) -> dict[str, Any]:
    fields = {
        "id": question.id,
        "kind": question.kind,
        "message": question.message,
        "path": question.path,
        "schema": question.schema,
        "payload": question.payload,
        "tool": question.call.name if question.call is not None else None,
        "args": question.call.args if question.call is not None else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _rows(
    info: SessionInfo,
    runs: Runs,
    pending: dict[str, list[Question]],
    events: dict[str, list[Event]],
    *,
    all_events: bool,
    with_state: bool,
) -> Iterator[Words]:
    yield [(clean(info.title) or clean(info.id), "bold")]
    facts = [clean(info.app_name), clean(info.user_id), plural(info.version, "event"), _date(info.updated_at)]
    if info.title:
        facts.insert(0, clean(info.id))
    yield [(" · ".join(facts), "dim")]
    if with_state:
        yield [("", "")]
        for key, value in sorted(info.state.items()):
            yield [(clean(key), "bold"), (f" = {short(value)}", "")]
    numbers = {run_id: number for number, run_id in enumerate(runs.timelines, 1)}
    for run_id, questions in pending.items():
        timeline = runs.timelines[run_id]
        yield [("", "")]
        yield from _run(numbers[run_id], timeline, events.get(run_id, []), all_events=all_events)
        if not timeline.status:
            latest = timeline.now == max(other.now for other in runs.timelines.values())
            ongoing = ", or is still going on" if latest else ""
            yield [(f"… it has no end: it was cut short{ongoing}", "cyan")]
        yield from _waiting(info, questions)


def _waiting(info: SessionInfo, questions: list[Question]) -> Iterator[Words]:
    """What a run waits to be told, and the options that tell it."""
    whose = "" if info.user_id == "user" else f" --user {shlex.quote(clean(info.user_id))}"
    for question in questions:
        yield [("‖ ", "magenta"), (told(question), "")]
        answer = shlex.quote(clean(question.id)) + "=VALUE"
        session = shlex.quote(clean(info.id))
        yield [(f"  agentflow run FILE --session {session}{whose} --answer {answer}", "dim")]


def _run(number: int, timeline: Timeline, events: list[Event], *, all_events: bool) -> Iterator[Words]:
    status = timeline.status or "unfinished"
    facts = [_date(timeline.began), duration(timeline.wall), plural(len(timeline.turns), "turn")]
    if timeline.usage.total_tokens:
        facts.append(plural(timeline.usage.total_tokens, "token"))
    yield [(f"── run {number} ", "bold"), (status, STYLES.get(status, "")), (" · " + " · ".join(facts), "dim")]
    width = width_of_output()
    for event in events:
        if all_events:
            yield _event_row(event, timeline.began, width)
        else:
            yield from text_rows(event)
    if not all_events:
        yield from _failures(timeline)


def _failures(timeline: Timeline) -> Iterator[Words]:
    """What went wrong, where it began; and why what was cancelled was, told once of all that one reason ended."""
    stopped: dict[tuple[str, str], list[str]] = {}
    for turn in timeline.turns:
        below = any(child.error is not None for child in turn.children)
        if turn.error is not None and not below:
            words = one_line(f"{turn.error.type}: {turn.error.message}".removesuffix(": "))
            yield [(f"✕ {one_line(turn.path)}: ", "bold red"), (words, "red")]
        elif turn.status == "cancelled" and turn.reason and (turn.forked or turn.parent is None):
            above = turn.parent
            if above is None or (above.status, above.reason) != ("cancelled", turn.reason):
                stopped.setdefault((turn.path.rpartition(".")[0], turn.reason), []).append(turn.label)
    for (path, reason), names in stopped.items():
        who = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
        yield [
            (f"■ {one_line(f'{path}: {who}' if path else who)} ", "yellow"),
            (f"cancelled: {one_line(reason)}", "dim"),
        ]


def _event_row(event: Event, began: float, width: int) -> Words:
    start = f"{event.serial or 0:>6}  {duration(max(0.0, event.timestamp - began)):>8}  "
    who = event.path or event.author
    left = width - len(start) - cell_len(who) - 2
    record = event.lifecycle
    if record is None:
        words, style = one_line(said(event)), ""
    elif isinstance(record, AgentComplete):
        error = f" {record.error.type}: {record.error.message}" if record.error is not None else ""
        words, style = one_line(f"{record.outcome}{error} {record.reason}"), "dim"
    elif isinstance(record, AgentStart):
        words, style = "begins" if record.attempt == 1 else f"attempt {record.attempt}", "dim"
    else:
        words, style = record.name, "dim"
    if event.actions is not None and event.actions.state_delta:
        words += f"{' ' if words else ''}[{', '.join(event.actions.state_delta)}]"
    if event.iteration is not None:
        words += f" ({event.iteration})"
    words = one_line(words)
    words = fit(words, left).rstrip() if left > 8 and cell_len(words) > left else words
    return [(start, "dim"), (clean(who), "" if record is None else "dim"), ("  " + words, style)]


def _date(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp).astimezone():%Y-%m-%d %H:%M}"
