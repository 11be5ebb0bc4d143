"""What is stored late is acted on all the same: stores and plugins that suspend, agents that are stopped meanwhile."""

import operator
from collections.abc import Sequence

import anyio
import pytest

from agentflow import (
    Actions,
    Agent,
    AgentTimeout,
    Event,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Plugin,
    Retry,
    Runner,
    SequentialAgent,
    SessionKey,
    StateConflict,
    Usage,
)
from agentflow.events import AgentComplete
from tests.core.actors import hears, says
from tests.faults.sweep import SlowStore


class LateAnswers(InMemorySessionService):
    """Writes at once; that the word `slow` is there, it says two seconds later."""

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        await super().append(key, events, expected_version=expected_version)
        if events[0].text == "slow":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)


class LateBatches(InMemorySessionService):
    """Takes three seconds for several events at once."""

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        if len(events) > 1:
            await anyio.sleep(3)
        await super().append(key, events, expected_version=expected_version)


async def played(root: Agent, sessions: InMemorySessionService | None = None, **options) -> tuple:
    async with Runner(root, sessions=sessions, **options) as runner:
        async with runner.run("go", lookahead=9) as run:
            async for _ in run:
                pass
        session = await runner.sessions.get(run.session)
        assert session is not None
        return run, session.events


async def test_what_an_event_does_is_done_though_its_agent_is_stopped_before_the_answer() -> None:
    async def quick(ctx: InvocationContext) -> None:
        await anyio.sleep(0.5)
        with anyio.move_on_after(1):
            usage = Usage(input_tokens=10, model_calls=1)
            await ctx.emit(ctx.event("x", usage=usage, actions=Actions(escalate=True)))

    group = ParallelAgent("p", [FunctionAgent("quick", quick), says("slow", "slow")])
    run, events = await played(LoopAgent("l", [group], max_iterations=3), LateAnswers())
    names = [event.lifecycle.name for event in events if event.lifecycle]
    assert names.count("loop_iteration") == 1
    assert run.usage.input_tokens == sum(event.usage.input_tokens for event in events if event.usage) == 10


async def test_one_event_may_be_emitted_by_two_tasks_at_once() -> None:
    async def twice(ctx: InvocationContext) -> None:
        event = ctx.text("hi")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.emit, event)
            tasks.start_soon(ctx.emit, event)

    for store in (InMemorySessionService(), SlowStore()):
        run, events = await played(FunctionAgent("a", twice), store)
        said = [event for event in events if event.text == "hi"]
        assert run.status == "ok"
        assert (len(said), len({event.id for event in said})) == (2, 2)


def after_their_ends(events: Sequence[Event]) -> list[Event]:
    """What agents said after their terminal events."""
    ended: set[str] = set()
    late = []
    for event in events:
        late += [event] if event.path in ended else []
        if isinstance(event.lifecycle, AgentComplete):
            ended.add(event.path)
    return late


async def passes_on(ctx: InvocationContext) -> None:
    try:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for event in events:
                await anyio.sleep(2)
                await ctx.emit(event)
    except AgentTimeout:
        pass


async def test_what_is_passed_on_stands_before_the_end_of_who_said_it() -> None:
    async def stuck(ctx: InvocationContext) -> None:
        await anyio.sleep_forever()

    async def other(ctx: InvocationContext) -> None:
        with anyio.move_on_after(1):
            await ctx.run(ctx.agent.sub_agents[0])
        await ctx.emit(ctx.text("other"))  # takes along the end of `stuck`, for which this store needs until 4

    async def holder(ctx: InvocationContext) -> None:
        with anyio.move_on_after(3):  # what its child said is passed on at 2, and waits for that store
            await ctx.run(ctx.agent.sub_agents[0])

    held = FunctionAgent("holder", holder, sub_agents=[says("child", "early")])
    branches = [
        FunctionAgent("other", other, sub_agents=[FunctionAgent("stuck", stuck)]),
        FunctionAgent("watcher", passes_on, sub_agents=[held]),
    ]
    _, events = await played(ParallelAgent("p", branches), LateBatches())
    assert [event.text for event in events if event.path.endswith("child") and event.text] == ["early"]
    assert after_their_ends(events) == []


class LateEnds(InMemorySessionService):
    """Writes at once; that the end of `child` is there, it says ten seconds later."""

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        await super().append(key, events, expected_version=expected_version)
        if events[0].author == "child" and isinstance(events[0].lifecycle, AgentComplete):
            with anyio.CancelScope(shield=True):
                await anyio.sleep(10)


@pytest.mark.parametrize("store", [InMemorySessionService, LateEnds])
async def test_what_a_plugin_holds_up_until_its_author_has_ended_is_said_by_who_passes_it_on(store) -> None:
    class Holds(Plugin):
        async def on_event(self, ctx: InvocationContext, event: Event) -> None:
            if event.text == "early":
                await anyio.sleep(5)

    async def gives_up(ctx: InvocationContext) -> None:
        with anyio.move_on_after(3):
            await ctx.emit(ctx.text("early"))

    root = FunctionAgent("watcher", passes_on, sub_agents=[FunctionAgent("child", gives_up)])
    _, events = await played(root, store(), plugins=[Holds()])
    assert [event.path for event in events if event.text == "early"] == ["watcher"]
    assert after_their_ends(events) == []


async def test_a_slow_reader_does_not_time_out_who_is_watched() -> None:
    group = ParallelAgent("p", [says(name, "1", "2") for name in "abc"], branch_timeout=1, on_error="collect")

    async def watches(ctx: InvocationContext) -> None:
        async with ctx.open(group) as events:
            async for event in events:
                await ctx.emit(event)

    async with Runner(FunctionAgent("w", watches, sub_agents=[group])) as runner, runner.run("go") as run:
        async for event in run:
            await anyio.sleep(0.6 if event.text else 0)
    assert {outcome.status for outcome in run.result.outcomes.values()} == {"ok"}


async def test_a_watcher_is_timed_by_its_own_clock() -> None:
    async def dawdles(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for _ in events:
                await anyio.sleep(5)

    root = FunctionAgent("w", dawdles, sub_agents=[says("child", "1")], timeout=2)
    async with Runner(root) as runner:
        began = anyio.current_time()
        async with runner.run("go") as run:
            with pytest.raises(AgentTimeout) as caught:
                await run.wait()
    assert (caught.value.agent, anyio.current_time() - began) == ("w", 2)


async def test_an_event_that_was_given_up_before_it_was_written_has_brought_and_claimed_nothing() -> None:
    async def a(ctx: InvocationContext) -> None:
        ctx.state["votes"] = ["a"]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ctx.emit(ctx.event("too late", actions=Actions(state_delta={"x": "a"})))
        ctx.state["votes"] = ["again"]
        await ctx.emit(ctx.text("again"))

    async def b(ctx: InvocationContext) -> None:
        await anyio.sleep(1)
        ctx.state["x"] = "b"

    inner = ParallelAgent("q", [FunctionAgent("a", a)], on_conflict={"votes": operator.add})
    root = ParallelAgent("p", [inner, FunctionAgent("b", b)], on_conflict="error")
    _, events = await played(root, SlowStore())
    written = [event.actions.state_delta for event in events if event.actions and event.actions.state_delta]
    assert sorted(written, key=str) == [{"votes": ["a", "again"]}, {"x": "b"}]


async def test_two_writes_of_one_key_on_their_way_at_once_are_a_conflict() -> None:
    async def writes(ctx: InvocationContext) -> None:
        ctx.state["x"] = ctx.agent.name
        await ctx.emit(ctx.text("x"))

    with pytest.raises(StateConflict) as caught:
        await played(
            ParallelAgent("p", [FunctionAgent(name, writes) for name in "ab"], on_conflict="error"), SlowStore()
        )
    assert sorted(caught.value.branches) == ["p.a", "p.b"]


async def test_what_a_failed_attempt_brought_is_dropped_though_the_answer_comes_late() -> None:
    tried = []

    async def tries(ctx: InvocationContext) -> None:
        tried.append(1)
        await anyio.sleep(0.5)
        ctx.state["votes"] = [f"try {len(tried)}"]
        with anyio.move_on_after(0.5):
            await ctx.emit(ctx.text("x"))
        if len(tried) == 1:
            raise ValueError

    flaky = FunctionAgent("tries", tries, retry=Retry(attempts=2, delay=0))
    _, events = await played(
        ParallelAgent("p", [flaky, says("slow", "slow")], on_conflict={"votes": operator.add}), LateAnswers()
    )
    gather = events[-2]
    assert gather.actions.state_delta == {"votes": ["try 2"]}


async def test_history_read_while_an_event_is_stored_and_not_answered_has_it_once() -> None:
    heard: list[str] = []

    async def asks(ctx: InvocationContext) -> None:
        await anyio.sleep(1)
        await ctx.history()

    group = ParallelAgent("p", [FunctionAgent("asks", asks), says("slow", "slow")])
    await played(SequentialAgent("s", [group, hears("c", heard)]), LateAnswers())
    assert heard == ["go", "slow"]
