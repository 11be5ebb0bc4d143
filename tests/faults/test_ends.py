"""What the sweeps of `test_every_step.py` found, as small as it can be: how a run ends that is stopped half-way."""

import logging
from contextlib import suppress

import anyio
import pytest
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from agentflow import (
    Agent,
    CommitUnknown,
    Event,
    InMemorySessionService,
    InvocationContext,
    ParallelAgent,
    Plugin,
    Run,
    Runner,
    SequentialAgent,
    SessionKey,
    agent,
)
from agentflow.testing import FailingSessionService
from tests.core.actors import fails, play, read, refuses, says, sleeps
from tests.faults.checks import log_problems
from tests.faults.sweep import SlowStore
from tests.faults.trees import Team


async def stored(runner: Runner, run) -> list:
    session = await runner.sessions.get(run.session)
    assert session is not None
    return session.events


@pytest.mark.parametrize("how", ["break", "outer"])
async def test_last_words_said_under_a_shield_do_not_hold_up_a_stop(how: str) -> None:
    @agent
    async def cleaner(ctx: InvocationContext) -> None:
        with anyio.CancelScope(shield=True):
            await ctx.emit(ctx.text("last words"))

    with anyio.CancelScope() as outer:
        async with Runner(cleaner) as runner, runner.run("go") as run:
            async for event in run:
                if event.text:
                    began = anyio.current_time()
                    if how == "break":
                        break
                    outer.cancel()
    assert anyio.current_time() == began
    assert run.status in ("ok", "cancelled")


async def test_a_group_that_is_stopped_as_it_opens_has_an_end_too() -> None:
    silent = [says(f"a{i}") for i in range(3)]  # enough lifecycle events for the next one to wait
    root = SequentialAgent("s", [*silent, ParallelAgent("p", [says("b")])])
    missing = []
    async with Runner(root) as runner:
        for stop in range(1, 12):
            async with runner.run("go") as run:
                for _ in range(stop):
                    await anext(run)
            names = [event.lifecycle.name for event in await stored(runner, run) if event.lifecycle]
            if names.count("gather_complete") != names.count("scatter_start"):
                missing.append(stop)
    assert missing == []


async def test_who_watches_a_child_does_not_go_on_when_both_are_cancelled() -> None:
    went_on = []

    class Watcher(Agent):
        async def run(self, ctx: InvocationContext) -> None:
            async with ctx.open(self.sub_agents[0]) as events:
                async for event in events:
                    await ctx.emit(event)
                went_on.append(events.outcome)

    class Stop:
        """Cancels the run at the k-th point."""

        async def point(self, path: str, where: str) -> None:
            self.left -= 1
            if self.left == 0:
                self.run.cancel()

    stop = Stop()
    async with Runner(Watcher("w", sub_agents=[says("a", "one", "two")]), scheduler=stop) as runner:
        for stop.left in range(1, 12):
            async with runner.run("go") as stop.run:
                async for _ in stop.run:
                    pass
    assert None not in went_on


async def stop_after(run: Run, steps: int) -> None:
    for _ in range(steps):
        await checkpoint()
    run.cancel()


class TardyStore(InMemorySessionService):
    """Writes at once, and answers to `two` late."""

    async def append(self, key, events, *, expected_version=None) -> None:
        await super().append(key, events, expected_version=expected_version)
        if events[-1].text == "two":
            for _ in range(20):
                await cancel_shielded_checkpoint()


async def test_events_come_in_the_order_of_the_log_whatever_order_the_store_answers_in() -> None:
    root = ParallelAgent("p", [says("a", "two"), says("b", "three")])
    played = await play(root, sessions=TardyStore())
    assert [event.serial for event in played.events] == list(range(2, 2 + len(played.events)))


async def test_ends_of_cancelled_turns_survive_a_cancelled_commit() -> None:
    """A race's loser is cancelled; then the run is, while the store is asked to write what the loser left."""
    store = SlowStore()
    lost = []
    root = SequentialAgent("s", [ParallelAgent("p", [says("a", "x"), sleeps("b", 9)], stop_when="first_success")])
    for k in range(1, 60):
        store = SlowStore()
        async with Runner(root, sessions=store) as runner:
            async with runner.run("go", session_id="s") as run, anyio.create_task_group() as tasks:
                tasks.start_soon(stop_after, run, k)
                async for _ in run:
                    pass
            lost += log_problems(await stored(runner, run))
    assert not lost


async def test_a_child_says_nothing_after_its_end() -> None:
    class Watcher(Agent):
        async def run(self, ctx: InvocationContext) -> None:
            async with ctx.open(self.sub_agents[0]) as events:
                async for event in events:
                    kept = event
                    break
            await ctx.emit(kept)

    async with Runner(Watcher("w", sub_agents=[says("a", "one")])) as runner:
        async with runner.run("go") as run:
            async for _ in run:
                pass
        assert log_problems(await stored(runner, run)) == []


async def test_a_branch_that_fails_in_its_clean_up_is_heard_of(caplog: pytest.LogCaptureFixture) -> None:
    error: Exception | None = None
    async with Runner(ParallelAgent("p", [refuses("a", "x"), says("b", "y", "z")])) as runner:
        try:
            async with runner.run("go") as run:
                spoke = set()
                async for event in run:
                    spoke |= {event.author} if event.text else set()
                    if len(spoke) == 2:
                        break
        except ValueError as raised:
            error = raised
    assert error is not None or any(record.levelno >= logging.ERROR for record in caplog.records)


class Replacer(Plugin):
    """Replaces every event by another."""

    async def on_event(self, ctx: InvocationContext, event: Event) -> Event:
        return event.model_copy(update={"response_id": "seen"})


async def test_a_turn_whose_start_a_plugin_replaced_has_one_end_wherever_it_is_cancelled() -> None:
    silent = SequentialAgent("s", [says(f"b{i}") for i in range(9)])
    problems = []
    for k in range(1, 40):
        root = ParallelAgent("p", [says("a", "two"), silent.clone()])
        async with Runner(root, sessions=TardyStore(), plugins=[Replacer()]) as runner:
            async with runner.run("go", lookahead=20) as run, anyio.create_task_group() as tasks:
                tasks.start_soon(stop_after, run, k)
                async for _ in run:
                    pass
            problems += log_problems(await stored(runner, run))
    assert problems == []


class Thoughtful(Plugin):
    """Takes a moment to look at each event."""

    async def on_event(self, ctx: InvocationContext, event: Event) -> None:
        await checkpoint()


async def test_the_end_of_a_turn_is_stored_after_those_of_the_turns_in_it() -> None:
    """Another branch's commit takes the children's ends along; their parent's must not overtake them."""
    problems = []
    for width in range(1, 5):
        for kind in (Team, ParallelAgent):
            group = kind("q", sub_agents=[fails("a"), sleeps("b", 5), sleeps("c", 5)])
            others = [says(f"z{n}", *"abcdef") for n in range(width)]
            played = await play(ParallelAgent("p", [group, *others], on_error="collect"), plugins=[Thoughtful()])
            problems += log_problems(played.session.events)
    assert problems == []


@pytest.mark.parametrize("how", ["cancel", "break", "outer"])
async def test_an_agent_whose_own_tasks_fail_as_they_are_cancelled_has_failed(how: str) -> None:
    bad = refuses("a", "x")

    @agent(sub_agents=[bad])
    async def root(ctx: InvocationContext) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.run, bad)
            await anyio.sleep_forever()

    async def stop(run: Run, outer: anyio.CancelScope) -> None:
        async with run:
            async for event in run:
                if event.text and how == "break":
                    break
                if event.text:
                    (run if how == "cancel" else outer).cancel()

    store = InMemorySessionService()
    errors = []
    with anyio.CancelScope() as outer:
        async with Runner(root, sessions=store) as runner:
            run = runner.run("go")
            try:
                await stop(run, outer)
            except ExceptionGroup as error:
                errors.append(error)
    assert run.status == "error"
    assert str(run.result.error.exceptions[0]) == "a failed"
    assert len(errors) == (how != "outer")  # else it is logged: the reader was cancelled, too
    events = (await store.get(run.session)).events
    ends = {
        event.author: event.lifecycle.outcome
        for event in events
        if event.lifecycle and "_complete" in event.lifecycle.name
    }
    assert ends == {"a": "error", "root": "error"}


@pytest.mark.parametrize("at", range(2, 17))
async def test_what_a_store_has_written_though_it_failed_to_say_so_is_there_once_and_is_read(at: int) -> None:
    store = InMemorySessionService()
    silent = FailingSessionService(store, fail_at=at, calls=("append",), error=CommitUnknown("silent"), written=True)
    group = ParallelAgent("p", [says("a", "x"), fails("b", "y"), sleeps("c", 50)], on_error="collect", stop_when=1)
    events: list[Event] = []
    async with Runner(SequentialAgent("s", [group, says("d", "z")]), sessions=silent) as runner:
        with suppress(CommitUnknown, ExceptionGroup):  # of the other branch that failed, too
            await read(runner.run("go", session_id="s"), events)
    session = await store.get(SessionKey("s", "user", "s"))
    assert session is not None
    assert log_problems(session.events) == []
    assert [event.serial for event in events] == [event.serial for event in session.events][1:]
    assert silent.failed == 1
