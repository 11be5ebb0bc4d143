"""Turns that are started in tasks which nobody waits for: they end with the turn that they are part of."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    Agent,
    ContextEnded,
    Event,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Plugin,
    Runner,
    SequentialAgent,
    Session,
    SessionKey,
)
from tests.core.actors import fails, play, says, sleeps
from tests.faults.checks import log_problems

CHILDREN: dict[str, Callable[[], Agent]] = {
    "function": lambda: sleeps("child", 50),
    "sequence": lambda: SequentialAgent("child", [sleeps("a", 50), says("b", "x")]),
    "parallel": lambda: ParallelAgent("child", [sleeps("a", 50), SequentialAgent("s", [says("b"), sleeps("c", 9)])]),
    "one by one": lambda: ParallelAgent(
        "child", [sleeps("a", 50), says("b", "x")], max_concurrency=1, on_error="collect"
    ),
    "loop": lambda: LoopAgent("child", [says("a", "x"), sleeps("b", 50), says("c", "y")], max_iterations=3),
    "retried": lambda: sleeps("child", 50, retry=3),
}


class Suspends(Plugin):
    """Takes its time over each event."""

    async def on_event(self, ctx: InvocationContext, event: Event) -> None:
        await checkpoint()


@asynccontextmanager
async def leaves(child: Agent, seconds: float, raised: list[Exception]) -> AsyncIterator[Agent]:
    """An agent that starts its child in a task from outside, and ends after so many seconds; then the task ends too."""

    async def start(ctx: InvocationContext) -> None:
        try:
            await ctx.run(ctx.agent.sub_agents[0])
        except Exception as error:
            raised.append(error)

    async def turn(ctx: InvocationContext) -> None:
        tasks.start_soon(start, ctx)
        await anyio.sleep(seconds)

    async with anyio.create_task_group() as tasks:
        yield FunctionAgent("boss", turn, sub_agents=[child])


async def stored(store: InMemorySessionService, app: str) -> Session:
    session = await store.get(SessionKey(app, "user", "s"))
    assert session is not None
    return session


def ends(events: list[Event], author: str) -> list[str]:
    return [
        event.lifecycle.outcome
        for event in events
        if event.lifecycle and event.lifecycle.name == "agent_complete" and event.author == author
    ]


@pytest.mark.parametrize("plugins", [[], [Suspends()]], ids=["", "plugin"])
@pytest.mark.parametrize("kind", CHILDREN)
async def test_what_goes_on_ends_with_the_turn_that_it_is_part_of(
    kind: str, plugins: list[Plugin], caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[Exception] = []
    store = InMemorySessionService()
    async with leaves(CHILDREN[kind](), 5, raised) as boss:
        played = await play(boss, sessions=store, plugins=plugins)
        again = await play(sleeps("boss", 200), sessions=store)
    assert (played.run.status, played.run.unfinished) == ("ok", [])
    assert ends(played.events, "child") == ["cancelled"]
    (reason,) = {end.reason for end in played.records("agent_complete") if end.agent_name == "child"}
    assert reason == "agent 'boss' had ended without waiting for it"
    assert "boss.child" in caplog.text
    assert [type(error) for error in raised] == [ContextEnded]
    session = await stored(store, "boss")
    assert session.events == again.session.events
    assert log_problems(session.events) == []
    runs = [event.invocation_id for event in session.events]
    assert runs == sorted(runs, key=runs.index)  # nothing of the first run's is among the second's


async def test_what_follows_in_the_run_does_not_hear_the_orphan_either() -> None:
    raised: list[Exception] = []
    async with leaves(sleeps("child", 50), 5, raised) as boss:
        played = await play(SequentialAgent("s", [boss, sleeps("next", 200)]))
    assert played.texts == ["good night", "good night", "good morning"]
    assert log_problems(played.session.events) == []


async def test_an_attempt_that_failed_leaves_nothing_to_the_next() -> None:
    tries = []
    raised: list[Exception] = []
    async with leaves(sleeps("child", 50), 5, raised) as boss:

        async def twice(ctx: InvocationContext) -> None:
            tries.append(ctx)
            if len(tries) == 1:
                await boss.function(ctx)
                raise ValueError("once")
            await anyio.sleep(200)

        played = await play(FunctionAgent("boss", twice, sub_agents=[sleeps("child", 50)], retry=2))
    assert played.texts == ["good night"]
    assert ends(played.events, "child") == ["cancelled"]
    assert log_problems(played.session.events) == []


async def test_a_child_that_begins_while_its_parent_s_end_is_stored_has_an_end_too() -> None:
    class Slow(InMemorySessionService):
        def append_now(self, key, event) -> bool:
            return False

        async def append(self, key, events, **options):
            result = await super().append(key, events, **options)
            await checkpoint()
            return result

    for _ in range(10):
        raised: list[Exception] = []
        async with leaves(sleeps("child", 50), 0, raised) as boss:
            played = await play(boss, sessions=Slow())
        begun = [event for event in played.session.events if event.author == "child" and event.lifecycle]
        assert [event.lifecycle.name for event in begun] in ([], ["agent_start", "agent_complete"])


async def test_leaving_the_run_gives_each_turn_its_end_and_a_task_from_outside_nothing_more_to_say() -> None:
    raised: list[Exception] = []
    store = InMemorySessionService()
    async with leaves(CHILDREN["parallel"](), 500, raised) as boss, Runner(boss, sessions=store) as runner:
        async with runner.run("go", session_id="s") as run:
            async for event in run:
                if event.text == "good night":
                    break
        session = await stored(store, "boss")
        assert (run.status, log_problems(session.events)) == ("cancelled", [])
        await anyio.sleep(100)
        assert await stored(store, "boss") == session
    assert [type(error) for error in raised] == [ContextEnded]


async def test_gather_does_not_wait_when_one_fails_and_the_others_end_all_the_same(anyio_backend) -> None:
    if anyio_backend[0] != "asyncio":
        return

    async def turn(ctx: InvocationContext) -> None:
        await asyncio.gather(*[ctx.run(child) for child in ctx.agent.sub_agents])

    store = InMemorySessionService()
    boss = FunctionAgent("boss", turn, sub_agents=[CHILDREN["parallel"](), fails("bad", "x")])
    async with Runner(boss, sessions=store) as runner:
        with pytest.raises(ValueError, match="bad failed"):
            async with runner.run("go", session_id="s") as run:
                await run.wait()
        session = await stored(store, "boss")
        assert ends(session.events, "child") == ["cancelled"]
        assert log_problems(session.events) == []
        await anyio.sleep(100)
        assert await stored(store, "boss") == session
