"""All at once: concurrency, order, back-pressure, failures, outcomes."""

from contextvars import ContextVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    AgentTimeout,
    ConfigError,
    Data,
    FunctionAgent,
    InvocationContext,
    ParallelAgent,
    Runner,
    SequentialAgent,
    Usage,
    agent,
)
from tests.core.actors import fails, hears, play, refuses, says, sleeps, swallows, writes


async def test_children_really_run_at_the_same_time() -> None:
    arrived = {"a": anyio.Event(), "b": anyio.Event()}

    def meets(me: str, other: str) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            arrived[me].set()
            await arrived[other].wait()
            await ctx.emit(ctx.text(me))

        return FunctionAgent(me, turn)

    played = await play(ParallelAgent("pair", [meets("a", "b"), meets("b", "a")]))
    assert sorted(played.texts) == ["a", "b"]


async def test_branches_are_named_after_the_group_and_the_child() -> None:
    inner = ParallelAgent("p2", [says("a", "x")])
    played = await play(ParallelAgent("p1", [SequentialAgent("s1", [inner, says("r", "y")]), says("c", "z")]))
    branches = {event.text: event.branch for event in played.events if event.text}
    assert branches == {"x": "p1.s1.p2.a", "y": "p1.s1", "z": "p1.c"}
    assert {event.branch for event in played.events if event.author == "p1"} == {""}


async def test_the_stream_of_each_branch_is_in_order() -> None:
    words = [str(number) for number in range(20)]
    played = await play(ParallelAgent("p", [says(name, *words) for name in "abcde"]))
    for name in "abcde":
        assert [event.text for event in played.events if event.author == name and event.text] == words
        line = [event.seq for event in played.events if event.branch == f"p.{name}"]
        assert line == list(range(1, 23))


@pytest.mark.parametrize("partial", [False, True])
async def test_no_branch_runs_ahead_of_the_reader(partial: bool) -> None:
    done = dict.fromkeys("abc", 0)

    def counts(name: str) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            for number in range(5):
                await ctx.emit(ctx.text(str(number), partial=partial))
                done[name] += 1

        return FunctionAgent(name, turn)

    taken = dict.fromkeys("abc", 0)
    async with Runner(ParallelAgent("p", [counts(name) for name in "abc"])) as runner, runner.run("go") as run:
        async for event in run:
            for _ in range(20):
                await checkpoint()
            if event.text:
                assert done[event.author] == taken[event.author]
                taken[event.author] += 1
    assert taken == dict.fromkeys("abc", 5)


async def test_a_branch_that_waits_for_the_reader_does_not_hold_up_the_others_work() -> None:
    reached = anyio.Event()

    @agent
    async def quiet(ctx: InvocationContext) -> None:
        await anyio.sleep(5)
        reached.set()

    async with Runner(ParallelAgent("p", [says("a", "x"), quiet])) as runner, runner.run("go") as run:
        async for event in run:
            if event.text == "x":
                with anyio.fail_after(10):
                    await reached.wait()
    assert run.status == "ok"


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_at_most_so_many_run_at_once_first_come_first_served(most: int) -> None:
    running: set[str] = set()
    began: list[str] = []
    peak = 0

    def works(name: str) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            nonlocal peak
            running.add(name)
            began.append(name)
            peak = max(peak, len(running))
            await anyio.sleep(1)
            running.discard(name)

        return FunctionAgent(name, turn)

    played = await play(ParallelAgent("p", [works(name) for name in "abcdef"], max_concurrency=most))
    assert peak == most
    for index in range(0, 6, most):
        assert sorted(began[index : index + most]) == list("abcdef"[index : index + most])
    waits = [record.queue_ms for record in played.records("agent_parallel_start")]
    assert [round(wait / 1000) for wait in waits] == [index // most for index in range(6)]
    assert played.records("scatter_start")[0].max_concurrency == most


async def test_a_failed_branch_makes_room_for_the_next() -> None:
    played = await play(
        ParallelAgent("p", [fails("a"), fails("b"), says("c", "x")], max_concurrency=1, on_error="collect")
    )
    assert played.texts == ["x"]


async def test_the_first_failure_cancels_the_others_and_is_raised_as_itself() -> None:
    ended = []

    @agent
    async def patient(ctx: InvocationContext) -> None:
        try:
            await ctx.emit(ctx.text("waiting"))
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async with Runner(ParallelAgent("p", [patient, fails("b", "x")])) as runner:
        async with runner.run("go") as run:
            with pytest.raises(ValueError, match="b failed") as caught:
                [event async for event in run]
        session = await runner.sessions.get(run.session)
    assert ended == [True]
    assert any("in agent 'p.b' on branch 'p.b'" in note for note in caught.value.__notes__)
    gather = next(e.lifecycle for e in session.events if e.lifecycle and e.lifecycle.name == "gather_complete")
    assert gather.outcomes == {"patient": "cancelled", "b": "error"}
    assert (gather.total_agents, gather.failed, gather.cancelled, gather.reason) == (2, 1, 1, "b failed")


async def test_several_failures_at_once_are_raised_as_a_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await play(ParallelAgent("p", [refuses("a", "x"), fails("b"), refuses("c")]))
    assert sorted(str(error) for error in caught.value.exceptions) == ["a failed", "b failed", "c failed"]


async def test_a_failure_deep_inside_comes_up_through_all_levels() -> None:
    root = ParallelAgent(
        "p1", [SequentialAgent("s", [ParallelAgent("p2", [fails("a"), sleeps("b", 50)])]), sleeps("c", 50)]
    )
    began = anyio.current_time()
    with pytest.raises(ValueError, match="a failed"):
        await play(root)
    assert anyio.current_time() == began


async def test_collect_lets_the_others_go_on_and_reports_what_failed() -> None:
    root = ParallelAgent("p", [fails("a", "x"), sleeps("b", 1), says("silent")], on_error="collect")
    played = await play(root)
    assert played.run.status == "ok"
    outcomes = played.run.result.outcomes
    assert [(name, outcome.status) for name, outcome in outcomes.items()] == [
        ("p.a", "error"), ("p.b", "ok"), ("p.silent", "ok"),
    ]  # fmt: skip
    assert str(outcomes["p.a"].error) == "a failed"
    assert outcomes["p.a"].text == "x"
    assert outcomes["p.b"].duration == pytest.approx(1)
    (gather,) = played.records("gather_complete")
    assert gather.gathered_results == ["b", "silent"]
    assert (gather.successful, gather.failed, gather.total_time_ms) == (2, 1, pytest.approx(1000))
    assert played.run.result.text == "good morning"


async def test_a_branch_out_of_time_has_failed_and_only_that_one() -> None:
    root = ParallelAgent("p", [sleeps("a", 9), sleeps("b", 1)], branch_timeout=3, on_error="collect")
    played = await play(root)
    a, b = played.run.result.outcomes.values()
    assert (a.status, b.status) == ("timeout", "ok")
    assert isinstance(a.error, AgentTimeout)
    assert (a.error.seconds, a.error.agent, a.error.branch) == (3, "p.a", "p.a")
    ends = {record.agent_name: record for record in played.records("agent_parallel_complete")}
    assert (ends["a"].outcome, ends["a"].execution_time_ms) == ("timeout", pytest.approx(3000))
    assert played.records("scatter_start")[0].timeout_per_agent == 3


async def test_a_branch_timeout_begins_with_the_branch_not_with_the_group() -> None:
    root = ParallelAgent("p", [sleeps(name, 2) for name in "abc"], branch_timeout=3, max_concurrency=1)
    assert (await play(root)).run.status == "ok"


@pytest.mark.parametrize(("stop_when", "winners"), [("first_success", ["b"]), (1, ["b"]), (2, ["b", "c"])])
async def test_a_race_ends_when_enough_have_succeeded(stop_when, winners) -> None:
    root = ParallelAgent("p", [sleeps("a", 9), sleeps("b", 1), sleeps("c", 2), sleeps("d", 9)], stop_when=stop_when)
    began = anyio.current_time()
    played = await play(root)
    assert anyio.current_time() - began == len(winners)
    (gather,) = played.records("gather_complete")
    assert gather.gathered_results == winners
    assert gather.reason == f"{len(winners)} of 4 succeeded"
    assert gather.hidden == [f"p.{name}" for name in "abcd" if name not in winners]


async def test_a_failure_does_not_end_a_race_that_can_still_be_won() -> None:
    root = ParallelAgent("p", [fails("a"), sleeps("b", 1)], stop_when="first_success")
    assert (await play(root)).run.result.text == "good morning"


async def test_a_race_that_can_t_be_won_any_more_fails_at_once() -> None:
    began = anyio.current_time()
    with pytest.raises(ExceptionGroup) as caught:
        await play(ParallelAgent("p", [fails("a"), fails("b"), sleeps("c", 50)], stop_when=2))
    assert len(caught.value.exceptions) == 2
    assert anyio.current_time() == began


async def test_a_race_that_nobody_wins_under_collect_ends_with_what_there_is() -> None:
    root = ParallelAgent("p", [fails("a", "x"), sleeps("b", 1)], stop_when=2, on_error="collect")
    played = await play(root)
    assert played.run.status == "ok"
    assert [outcome.status for outcome in played.run.result.outcomes.values()] == ["error", "ok"]


async def test_who_never_began_is_skipped() -> None:
    root = ParallelAgent("p", [says("a", "x"), says("b"), says("c")], stop_when="first_success", max_concurrency=1)
    played = await play(root)
    (gather,) = played.records("gather_complete")
    assert gather.outcomes == {"a": "ok", "b": "skipped", "c": "skipped"}
    assert gather.skipped == 2
    assert [record.agent_name for record in played.records("agent_parallel_start")] == ["a"]


async def test_a_predicate_is_given_each_event_of_each_branch_however_deep() -> None:
    seen = []

    def stop(event) -> bool:
        seen.append(event.text)
        return event.text == "three"

    deep = SequentialAgent("s", [ParallelAgent("q", [says("a", "one", "two", "three", "four")])])
    played = await play(ParallelAgent("p", [deep, sleeps("b", 9)], stop_when=stop))
    assert [text for text in seen if text != "good night"] == ["one", "two", "three"]
    assert "good morning" not in played.texts


async def test_an_error_in_a_predicate_is_raised() -> None:
    def stop(event) -> bool:
        raise KeyError("predicate")

    with pytest.raises(KeyError, match="predicate"):
        await play(ParallelAgent("p", [says("a", "x")], stop_when=stop))


async def test_results_come_in_declaration_order_whoever_was_first() -> None:
    @agent
    async def structured(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("words", Data({"n": 1})))

    played = await play(ParallelAgent("p", [sleeps("a", 3), sleeps("b", 1), structured]))
    result = played.run.result
    assert result.text == "good morning\n\ngood morning\n\nwords"
    assert result.output == ["good morning", "good morning", {"n": 1}]
    assert list(played.records("gather_complete")[0].outcomes) == ["a", "b", "structured"]


async def test_outcomes_know_what_each_branch_has_cost() -> None:
    def spends(name: str, tokens: int) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            await ctx.emit(ctx.event(name, usage=Usage(input_tokens=tokens)))

        return FunctionAgent(name, turn)

    played = await play(ParallelAgent("p", [SequentialAgent("s", [spends("a", 3), spends("b", 4)]), spends("c", 5)]))
    outcomes = played.run.result.outcomes
    assert [outcome.usage.total_tokens for outcome in outcomes.values()] == [7, 5]
    assert played.run.usage.total_tokens == 12


async def test_context_variables_set_in_a_branch_stay_there() -> None:
    colour: ContextVar[str] = ContextVar("colour", default="none")
    seen = {}

    def paints(name: str) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            seen[f"{name} before"] = colour.get()
            colour.set(name)
            await anyio.sleep(1)
            seen[f"{name} after"] = colour.get()

        return FunctionAgent(name, turn)

    async def look(ctx: InvocationContext) -> None:
        seen["look"] = colour.get()

    group = ParallelAgent("p", [paints("a"), paints("b"), paints("c")], max_concurrency=2)
    await play(SequentialAgent("s", [group, FunctionAgent("look", look)]))
    assert seen == {
        "a before": "none", "a after": "a", "b before": "none", "b after": "b", "c before": "none", "c after": "c",
        "look": "none",
    }  # fmt: skip


async def test_a_thousand_branches_work() -> None:
    heard: list[str] = []
    group = ParallelAgent("p", [says(f"a{number}", str(number)) for number in range(1000)])
    played = await play(SequentialAgent("s", [group, hears("b", heard)]))
    assert sorted(heard[1:], key=int) == [str(number) for number in range(1000)]
    assert played.records("gather_complete")[0].successful == 1000


async def test_one_tree_serves_many_runs_at_once() -> None:
    root = ParallelAgent("p", [writes("a", x=1), sleeps("b", 1)])
    async with Runner(root) as runner, anyio.create_task_group() as tasks:
        results = []

        async def one() -> None:
            async with runner.run("go") as run:
                results.append((await run.wait()).status)

        for _ in range(10):
            tasks.start_soon(one)
    assert results == ["ok"] * 10


@pytest.mark.parametrize(
    "bad",
    [
        {"max_concurrency": 0},
        {"max_concurrency": True},
        {"max_concurrency": 1.5},
        {"on_error": "retry"},
        {"stop_when": 3},
        {"stop_when": 0},
        {"stop_when": True},
        {"stop_when": "later"},
        {"branch_timeout": 0},
        {"branch_timeout": "soon"},
        {"on_conflict": "first"},
        {"on_conflict": {"x": 3}},
    ],
)
def test_settings_that_can_t_work_are_refused(bad) -> None:
    with pytest.raises(ConfigError, match="'p'"):
        ParallelAgent("p", [says("a"), says("b")], **bad)


def test_a_parallel_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        ParallelAgent("p", [])


@pytest.mark.parametrize("lookahead", [0, 64])
@pytest.mark.parametrize("how", ["group", "timeout"])
async def test_what_follows_who_swallowed_a_cancellation_does_not_begin(how: str, lookahead: int) -> None:
    @agent
    async def wins(ctx: InvocationContext) -> None:
        await anyio.sleep(1 if how == "group" else 100)

    line = SequentialAgent("line", [swallows("a"), says("next", "x")], timeout=50)
    played = await play(ParallelAgent("p", [line, wins], stop_when=1), lookahead=lookahead)
    assert played.texts == []
    (end,) = [end for end in played.records("agent_parallel_complete") if end.agent_name == "line"]
    assert end.outcome == ("cancelled" if how == "group" else "timeout")
