"""What a run may spend, and what it says when that is used up."""

import anyio
import pytest

from agentflow import (
    InvocationContext,
    LimitExceeded,
    Limits,
    LoopAgent,
    ParallelAgent,
    Run,
    Runner,
    SequentialAgent,
    SessionKey,
    Usage,
    agent,
)
from tests.core.actors import read, says, sleeps
from tests.faults.checks import delivery_problems, log_problems


def spends(name: str, times: int, **usage: float):
    @agent(name=name)
    async def turn(ctx: InvocationContext) -> None:
        for number in range(times):
            await ctx.emit(ctx.event(f"{name}{number}", usage=Usage(**usage)))

    return turn


async def read_slowly(run: Run) -> None:
    async with run:
        async for _ in run:
            await anyio.sleep(4)


@pytest.mark.parametrize(
    ("limit", "usage"),
    [
        (Limits(tokens=25), {"input_tokens": 6, "output_tokens": 4}),
        (Limits(cost=0.25), {"cost": 0.1}),
        (Limits(model_calls=2), {"model_calls": 1}),
    ],
)
async def test_a_budget_that_runs_out_is_an_error_that_says_what_was_spent(limit: Limits, usage) -> None:
    root = ParallelAgent("p", [SequentialAgent("s", [spends("a", 9, **usage)])])
    async with Runner(root) as runner:
        with pytest.raises(LimitExceeded) as caught:
            await read(run := runner.run("go", limits=limit))
    (name,) = [name for name in ("tokens", "cost", "model_calls") if getattr(limit, name) not in (None, 500)]
    error = caught.value
    assert (error.limit, error.agent, error.branch, error.invocation_id) == (name, "p.s.a", "p.s", run.id)
    assert error.spent[name] > getattr(limit, name)
    assert run.status == "error"
    assert run.result.usage.model_calls == usage.get("model_calls", 0) * 3


async def test_the_event_that_overran_the_budget_is_stored_and_delivered() -> None:
    got = []
    async with Runner(spends("a", 5, input_tokens=10)) as runner:
        with pytest.raises(LimitExceeded):
            await read(runner.run("go", session_id="s", limits=Limits(tokens=25)), got)
        session = await runner.sessions.get(SessionKey("a", "user", "s"))
    assert log_problems(session.events) + delivery_problems(got, session.events, whole=True) == []
    assert [event.text for event in got if event.text] == ["a0", "a1", "a2"]


async def test_a_run_stores_as_many_events_as_it_may_and_no_more() -> None:
    async with Runner(says("a", "one", "two", "three")) as runner:
        with pytest.raises(LimitExceeded) as caught:
            await read(run := runner.run("go", limits=Limits(events=2)))
        session = await runner.sessions.get(run.session)
    assert [event.text for event in session.events if event.text] == ["go", "one", "two"]
    assert caught.value.spent["events"] == 2


async def test_the_run_s_wall_clock_counts_waits_for_the_consumer() -> None:
    async with Runner(says("a", "one", "two", "three")) as runner:
        with pytest.raises(LimitExceeded) as caught:
            await read_slowly(runner.run("go", limits=Limits(seconds=10)))
    assert caught.value.limit == "seconds"
    assert caught.value.spent["seconds"] >= 10


async def test_a_branch_that_the_run_s_time_ended_says_so() -> None:
    root = ParallelAgent("p", [sleeps("a", 50), says("b", "done")])
    async with Runner(root) as runner:
        with pytest.raises(LimitExceeded):
            await read(run := runner.run("go", limits=Limits(seconds=10)))
        session = await runner.sessions.get(run.session)
    ends = {e.author: (e.lifecycle.outcome, e.lifecycle.reason) for e in session.events if e.path and e.lifecycle
            and e.lifecycle.name.endswith("complete") and e.lifecycle.name != "gather_complete"}  # fmt: skip
    assert ends == {
        "b": ("ok", ""),
        "a": ("cancelled", "the run's time (10 s) was up"),
        "p": ("cancelled", "the run's time (10 s) was up"),
    }


async def test_an_endless_loop_is_ended_by_a_limit() -> None:
    root = LoopAgent("l", [says("a", "x")], until=lambda ctx: False)
    async with Runner(root, limits=Limits(events=7)) as runner:
        with pytest.raises(LimitExceeded):
            await read(runner.run("go"))


async def test_a_cancelled_run_is_cancelled_whatever_the_reason() -> None:
    async with Runner(sleeps("a", 50)) as runner, runner.run("go", limits=Limits(seconds=100)) as run:
        async for _ in run:
            run.cancel("")
    assert run.status == "cancelled"


async def test_a_context_knows_what_is_left() -> None:
    known = []

    @agent
    async def curious(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("x", usage=Usage(input_tokens=3)))
        known.append((ctx.limits.tokens, ctx.spent.tokens, ctx.usage.total_tokens, ctx.remaining))

    async with Runner(curious, limits=Limits(tokens=9, seconds=50)) as runner, runner.run("go") as run:
        await run.wait()
    assert known == [(9, 3, 3, 50)]
