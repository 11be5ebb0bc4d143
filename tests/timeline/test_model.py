"""What is read off a run's events: turns and their times, waits, attempts, tools, ends; of any part of a log too."""

import json
from collections import Counter
from itertools import pairwise

import anyio
import pytest
import trio

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Runner, SequentialAgent
from agentflow.agents.branches import Branches
from agentflow.events import (
    AgentComplete,
    AgentParallelComplete,
    AgentParallelStart,
    AgentStart,
    Event,
    GatherComplete,
    SynthesisComplete,
)
from agentflow.timeline import Timeline, Turn, gantt, runs, to_html, to_jsonl, to_svg
from agentflow.timeline.rows import pieces, rows
from tests.timeline.panel import events_of, panel, speaker, virtual


def named(timeline: Timeline, name: str) -> Turn:
    (turn,) = [turn for turn in timeline.turns if turn.name == name]
    return turn


def spans(timeline: Timeline, turn: Turn) -> list[tuple[str, float, float]]:
    zero = timeline.turns[0].began
    return [(kind, round(began - zero, 3), round(ended - zero, 3)) for kind, began, ended in pieces(turn)]


@virtual
async def test_a_run_in_which_everything_happens() -> None:
    (timeline,) = runs(await events_of(panel()))
    assert (timeline.status, timeline.asked, round(timeline.wall, 3)) == ("ok", "Should we?", 6.75)
    ends = {turn.name: turn.status for turn in timeline.turns}
    assert Counter(ends.values()) == {"ok": 15, "error": 1, "cancelled": 3}
    assert (ends["filings"], ends["translator"]) == ("error", "cancelled")
    assert named(timeline, "translator").reason == "5 of 9 succeeded"
    assert named(timeline, "views").skipped == ["never"]
    assert timeline.outcomes() == {"ok": 7, "error": 1, "cancelled": 3, "skipped": 1}
    filings = named(timeline, "filings")
    assert filings.error is not None
    assert (filings.error.type, filings.parent, filings.forked) == ("ConnectionError", named(timeline, "sources"), True)
    assert timeline.usage.total_tokens == 320
    assert timeline.usage.model_calls == 2


@virtual
async def test_what_a_turns_time_went_into() -> None:
    (timeline,) = runs(await events_of(panel()))
    assert spans(timeline, named(timeline, "planner")) == [("own", 0, 0.75)]
    assert spans(timeline, named(timeline, "lawyer")) == [
        ("failed", 0.75, 1.75),
        ("retry", 1.75, 2.25),
        ("failed", 2.25, 3.25),
        ("retry", 3.25, 4.25),
        ("own", 4.25, 5.25),
    ]
    assert spans(timeline, named(timeline, "accountant")) == [("queue", 0.75, 2.75), ("own", 2.75, 4.25)]
    assert spans(timeline, named(timeline, "research")) == [("children", 0.75, 2.25), ("children", 2.25, 5.75)]
    lawyer = named(timeline, "lawyer")
    assert (lawyer.tries, lawyer.retry_wait, round(lawyer.seconds, 3)) == (3, 1.5, 4.5)
    assert [(each.number, each.error.message if each.error else "") for each in lawyer.attempts] == [
        (1, "busy"),
        (2, "busy"),
        (3, ""),
    ]


@virtual
async def test_tools_are_spans_of_their_own() -> None:
    (timeline,) = runs(await events_of(panel()))
    search = named(timeline, "search")
    zero = search.began
    calls = [(call.name, call.began - zero, call.ended and call.ended - zero, call.failed) for call in search.calls]
    assert calls == [("search", 0, 1.5, False), ("sum", 0, 0.5, True), ("lost", 0, None, False)]
    assert [mark.kind for mark in search.marks] == ["called", "answered", "answered", "said", "wrote"]
    assert [mark.words for mark in search.marks][-2:] == ["Five sources.", "found"]


@virtual
async def test_a_loops_turns_stand_in_one_row_below_it() -> None:
    (timeline,) = runs(await events_of(panel()))
    table = rows(timeline)
    assert [(row.depth, row.label, len(row.turns), row.status) for row in table] == [
        (0, "panel", 1, "ok"),
        (1, "planner", 1, "ok"),
        (1, "views", 1, "ok"),
        (2, "optimist", 1, "ok"),
        (2, "critic", 1, "ok"),
        (3, "objection", 3, "ok"),
        (3, "answer", 3, "ok"),
        (2, "research", 1, "ok"),
        (3, "search", 1, "ok"),
        (3, "sources", 1, "ok"),
        (4, "news", 1, "ok"),
        (4, "prices", 1, "ok"),
        (4, "filings", 1, "error"),
        (2, "lawyer", 1, "ok"),
        (2, "accountant", 1, "ok"),
        (2, "translator", 1, "cancelled"),
        (2, "late", 1, "cancelled"),
        (2, "last", 1, "cancelled"),
        (2, "never", 0, "skipped"),
        (1, "editor", 1, "ok"),
    ]
    notes = {row.label: row.notes() for row in table if row.notes()}
    assert notes == {
        "objection": ["3 turns"],
        "answer": ["3 turns"],
        "views": ["5 of 9 succeeded"],
        "filings": ["ConnectionError: closed on <Sundays> & holidays"],
        "lawyer": ["attempt 3"],
        "accountant": ["queued 2.0 s"],
        "translator": ["5 of 9 succeeded", "queued 3.5 s"],
        "late": ["5 of 9 succeeded", "queued 3.8 s"],
        "last": ["5 of 9 succeeded", "queued 4.5 s"],
    }
    assert [turn.iteration for row in table if row.label == "answer" for turn in row.turns] == [1, 2, 3]


@virtual
async def test_every_part_of_a_log_is_a_run_that_was_cut_short() -> None:
    """As a crash at that event leaves it: each turn is there, ended or not, and no time is negative."""
    events = await events_of(panel())
    for size in range(len(events) + 1):
        part = events[:size]
        found = list(runs(part))
        assert len(found) == bool(part)
        for timeline in found:
            starts = [
                event for event in part if isinstance(event.lifecycle, AgentStart) and event.lifecycle.attempt == 1
            ]
            ends = [event for event in part if isinstance(event.lifecycle, AgentComplete)]
            assert len(timeline.turns) == len(starts)
            assert sum(bool(turn.status) for turn in timeline.turns) == len(ends)
            assert timeline.events == size
            for turn in timeline.turns:
                assert turn.began <= turn.ended <= timeline.now
                spent = pieces(turn)
                assert all(began <= ended for _, began, ended in spent)
                assert all(one[2] == other[1] for one, other in pairwise(spent)), "no gap"
            lines = [json.loads(line) for line in to_jsonl([timeline])]
            assert [line["status"] for line in lines] == [turn.status or "unfinished" for turn in timeline.turns]
            assert timeline.speedup >= 0
            assert len(rows(timeline)) >= len({(turn.path, turn.branch) for turn in timeline.turns})


@virtual
async def test_a_session_has_a_timeline_for_each_run() -> None:
    first, second = runs(await events_of(speaker("only", 1), messages=["One?", "Two?"]))
    assert (first.asked, second.asked) == ("One?", "Two?")
    assert first.id != second.id
    assert [len(timeline.turns) for timeline in (first, second)] == [1, 1]


@virtual
async def test_twins_have_rows_of_their_own() -> None:
    async def direct(ctx: InvocationContext) -> None:
        async with Branches(ctx, max_concurrency=2) as group:
            for number in range(3):
                group.add(voter, message=f"vote {number}")

    voter = speaker("voter", 1)
    (timeline,) = runs(await events_of(FunctionAgent("team", direct, sub_agents=[voter])))
    table = rows(timeline)
    assert [(row.label, row.depth, row.status) for row in table] == [
        ("team", 0, "ok"),
        ("voter", 1, "ok"),
        ("voter#2", 1, "ok"),
        ("voter#3", 1, "ok"),
    ]
    assert [mark.words for mark in table[2].turns[0].marks] == ["vote 1", "voter says 0"]
    assert table[3].turns[0].queued == 1


@virtual
async def test_who_lost_a_race_says_so_and_why() -> None:
    race = ParallelAgent("race", [speaker("fast", 1), speaker("slow", 9)], stop_when="first_success")
    (timeline,) = runs(await events_of(race))
    slow = named(timeline, "slow")
    assert (slow.status, slow.reason, slow.hidden, round(slow.seconds, 3)) == ("cancelled", "1 of 2 succeeded", True, 1)


@virtual
async def test_why_a_run_was_cancelled_is_on_each_of_its_turns() -> None:
    pair = ParallelAgent("pair", [speaker("a", 9), speaker("b", 9)])
    async with Runner(pair, time=trio.current_time) as runner:
        async with runner.run("go", session_id="s") as run:
            with anyio.move_on_after(2):
                async for _ in run:
                    pass
            run.cancel("the user left")
            await run.wait()
        (info,) = await runner.sessions.list()
        session = await runner.sessions.get(info.key)
    assert session is not None
    (timeline,) = runs(session.events)
    assert {(turn.name, turn.status, turn.reason) for turn in timeline.turns} == {
        (name, "cancelled", "the user left") for name in ("pair", "a", "b")
    }
    assert all(round(turn.seconds, 3) == 2 for turn in timeline.turns)


async def test_words_are_kept_as_far_as_was_asked() -> None:
    async with Runner(SequentialAgent("root", [speaker("long", 0)])) as runner, runner.run("go") as run:
        events = [event async for event in run]
    (short,) = runs(events, words=4)
    (none,) = runs(events, words=0)
    assert [mark.words for mark in short.turns[1].marks] == ["long…"]
    assert none.turns[1].marks == []


@pytest.mark.parametrize("odd", ["a clock that goes back", "events of nobody"])
async def test_odd_events_are_no_error(odd: str) -> None:
    async with Runner(panel_without_waits()) as runner, runner.run("go") as run:
        events = [event async for event in run]
    changed = [
        event.model_copy(update={"path": ""} if "nobody" in odd else {"timestamp": 1000.0 - (event.serial or 0)})
        for event in events
    ]
    for timeline in runs(changed):
        assert all(turn.seconds >= 0 for turn in timeline.turns)
        assert all(began <= ended for turn in timeline.turns for _, began, ended in pieces(turn))


async def asked_and_answered() -> list[Event]:
    """A run of 4 seconds that waited an hour for an answer, and another for a second one."""

    async def ask(ctx: InvocationContext) -> None:
        await ctx.request_input("Which colour?")
        await ctx.request_input("How many?")

    group = ParallelAgent("group", [FunctionAgent("asks", ask), speaker("other", 2)])
    agent = SequentialAgent("talk", [speaker("intro", 1), group, speaker("after", 1)])
    async with Runner(agent, time=trio.current_time) as runner:
        async with runner.run("Go.", session_id="s") as run:
            result = await run.wait()
        while result.status == "paused":
            await anyio.sleep(3600)
            async with runner.run(session_id="s", answers={result.pending[0].id: "red"}) as run:
                result = await run.wait()
        session = await runner.sessions.get(run.session)
    assert session is not None
    return session.events


@virtual
async def test_a_run_that_was_answered_is_one_run_and_its_pauses_take_no_room() -> None:
    (timeline,) = runs(await asked_and_answered())
    assert (timeline.status, round(timeline.wall, 3), round(timeline.speedup, 3)) == ("ok", 4, 1)
    assert [round(ended - began) for began, ended in timeline.pauses] == [3600, 3600]
    assert [step.name for step in timeline.critical_path()] == ["intro", "other", "asks", "after"]
    assert timeline.outcomes() == {"ok": 2}
    lines = gantt(timeline, width=80).splitlines()
    assert lines[0].startswith("talk ok · 4.0 s · 2 h 00 m paused · ")
    (other,) = [line for line in lines if line.startswith("    other")]
    assert lines[1].index("‖") - other.rindex("━") in (0, 1)
    assert lines[-1] == "‖ paused for an answer"
    assert gantt(timeline, ascii=True).isascii()
    assert to_svg(timeline).count("<title>paused for 60 m 00 s</title>") == 2
    assert '"pauses":[[3.0,3600.0],[3.0,3600.0]]' in to_html([timeline])


def panel_without_waits() -> SequentialAgent:
    return SequentialAgent("root", [ParallelAgent("pair", [speaker("a", 0), speaker("b", 0)]), speaker("c", 0)])


def told(serial: int, record: object, path: str, branch: str = "") -> Event:
    return Event(
        id=f"e{serial}", serial=serial, invocation_id="r", timestamp=float(serial), author=path.rpartition(".")[2],
        path=path, branch=branch, lifecycle=record,
    )  # fmt: skip


def test_patterns_pauses_and_names_of_a_newer_writer() -> None:
    (timeline,) = runs(
        [
            told(1, AgentStart("vote"), "vote"),
            told(2, AgentParallelStart("solver"), "vote.solver", "vote.solver"),
            told(3, {"name": "hologram_shown", "x": 1}, "vote.solver", "vote.solver"),
            told(4, AgentParallelComplete("solver", "dreaming"), "vote.solver", "vote.solver"),
            told(5, GatherComplete("vote", 1, hidden=["*"]), "vote"),
            told(6, SynthesisComplete("vote", "voting", 4, "42", 2500, agreement=0.75, saved_calls=2), "vote"),
            told(7, AgentComplete("vote", "paused"), "vote"),
        ]
    )
    vote, solver = timeline.turns
    assert vote.decision == "voting of 4 answers, agreement 75%, 2 calls saved, in 2.5 s"
    assert [(mark.kind, mark.words) for turn in (solver, vote) for mark in turn.marks] == [
        ("hologram_shown", ""),
        ("decided", "42"),
    ]
    assert (timeline.status, solver.status, solver.hidden) == ("paused", "dreaming", True)
    assert "dreaming" in gantt(timeline)
    assert "paused" in to_svg(timeline)
