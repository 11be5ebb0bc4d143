"""What a context lets an agent do: run others, watch them, keep files; and when it no longer does."""

import operator

import anyio
import pytest

from agentflow import (
    Actions,
    Agent,
    ConfigError,
    ContextEnded,
    Event,
    FunctionAgent,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Runner,
    SequentialAgent,
    Text,
    agent,
)
from tests.core.actors import fails, play, read, refuses, says, sleeps, writes
from tests.faults.checks import log_problems


def boss(*children: Agent):
    """A decorator: the function is an agent that has `children`."""
    return agent(sub_agents=list(children))


async def test_running_a_child_gives_its_outcome() -> None:
    outcomes = []

    @boss(says("a", "one", "two"), ParallelAgent("p", [says("b", "x"), says("c", "y")]))
    async def root(ctx: InvocationContext) -> None:
        outcomes.extend([await ctx.run(child) for child in ctx.agent.sub_agents])

    await play(root)
    one, group = outcomes
    assert (one.agent, one.branch, one.status, one.text, one.ok) == ("a", "", "ok", "two", True)
    assert [outcome.agent for outcome in group.branches] == ["b", "c"]
    assert group.text == "x\n\ny"


async def test_what_a_child_raises_can_be_handled() -> None:
    @boss(fails("a", "one"))
    async def root(ctx: InvocationContext) -> None:
        with pytest.raises(ValueError, match="a failed"):
            await ctx.run(ctx.agent.sub_agents[0])
        await ctx.emit(ctx.text("never mind"))

    played = await play(root)
    assert played.texts == ["one", "never mind"]
    assert [record.outcome for record in played.records("agent_complete")] == ["error", "ok"]


async def test_an_agent_may_run_one_that_is_not_its_child() -> None:
    stranger = says("stranger", "hello")

    @agent
    async def root(ctx: InvocationContext) -> None:
        await ctx.run(stranger)
        await ctx.run(stranger)

    played = await play(root)
    assert [(event.path, event.text) for event in played.events if event.text] == [("root.stranger", "hello")] * 2


async def test_only_agents_can_be_run() -> None:
    @agent
    async def root(ctx: InvocationContext) -> None:
        await ctx.run(lambda ctx: None)

    with pytest.raises(ConfigError, match="can only run agents"):
        await play(root)


async def test_children_run_from_one_s_own_task_group_get_branches_of_their_own() -> None:
    a, b = sleeps("a", 2), sleeps("b", 1)

    @boss(a, b)
    async def root(ctx: InvocationContext) -> None:
        async with anyio.create_task_group() as tasks:
            for child in (a, b, a, b):
                tasks.start_soon(ctx.run, child)
                await anyio.sleep(0.1)
        await ctx.run(a)

    played = await play(root)
    starts = [(event.author, event.branch) for event in played.events if event.lifecycle and event.author != "root"]
    assert list(dict.fromkeys(starts)) == [("a", ""), ("b", "root.b#2"), ("a", "root.a#3"), ("b", "root.b#4")]
    assert log_problems(played.session.events) == []
    assert played.texts.count("good morning") == 5


async def test_a_failure_in_one_s_own_task_group_cancels_the_other_children() -> None:
    @boss(sleeps("a", 50), fails("b"))
    async def root(ctx: InvocationContext) -> None:
        async with anyio.create_task_group() as tasks:
            for child in ctx.agent.sub_agents:
                tasks.start_soon(ctx.run, child)

    async with Runner(root) as runner:
        run = runner.run("go")
        with pytest.raises(ExceptionGroup) as caught:
            await read(run)
        session = await runner.sessions.get(run.session)
    assert str(caught.value.exceptions[0]) == "b failed"
    assert log_problems(session.events) == []


async def test_a_watched_child_s_events_can_be_changed_dropped_and_joined_by_others() -> None:
    @boss(says("a", "keep", "drop", "change"))
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for event in events:
                if event.text == "keep":
                    await ctx.emit(event)
                elif event.text == "change":
                    await ctx.emit(event.model_copy(update={"parts": (Text("changed"),)}))
                else:
                    await ctx.emit(ctx.text("instead"))
        assert events.outcome.ok

    played = await play(root)
    assert [(event.author, event.path, event.text) for event in played.events if event.text] == [
        ("a", "root.a", "keep"),
        ("root", "root", "instead"),
        ("a", "root.a", "changed"),
    ]
    assert [event.text for event in played.session.events if event.text] == ["go", "keep", "instead", "changed"]


async def test_a_watched_child_s_events_are_not_stored_before_they_are_passed_on() -> None:
    done = []

    @agent
    async def a(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("one"))
        done.append((await ctx.history())[-1].text)

    @boss(a)
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(a) as events:
            async for event in events:
                assert event.serial is None
                assert [e.text for e in await ctx.history()] == ["go"]
                assert done == []
                await ctx.emit(event)
                assert event.serial is not None

    await play(root)
    assert done == ["one"]


async def test_a_watched_child_goes_on_when_the_next_event_is_asked_for() -> None:
    done = []

    @agent
    async def a(ctx: InvocationContext) -> None:
        for number in range(3):
            await ctx.emit(ctx.text(str(number)))
            done.append(number)

    @boss(a)
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(a) as events:
            async for event in events:
                await anyio.sleep(1)
                assert done == list(range(int(event.text)))

    played = await play(root)
    assert done == [0, 1, 2]
    assert played.texts == []


async def test_leaving_a_watch_early_stops_the_child() -> None:
    ended = []

    @agent
    async def a(ctx: InvocationContext) -> None:
        try:
            for number in range(9):
                await ctx.emit(ctx.text(str(number)))
        finally:
            ended.append(True)

    @boss(a)
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(a) as events:
            async for event in events:
                await ctx.emit(event)
                if event.text == "2":
                    break
        assert ended == [True]
        assert events.outcome is None
        await ctx.emit(ctx.text("after"))

    played = await play(root)
    assert played.texts == ["0", "1", "2", "after"]
    assert [record.outcome for record in played.records("agent_complete")] == ["cancelled", "ok"]
    assert log_problems(played.session.events) == []


async def test_a_watched_child_s_error_is_raised_in_the_loop_after_its_last_event() -> None:
    caught = []

    @boss(fails("a", "one"))
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            try:
                async for event in events:
                    await ctx.emit(event)
            except ValueError as error:
                caught.append(str(error))

    played = await play(root)
    assert caught == ["a failed"]
    assert played.texts == ["one"]


async def test_a_watched_child_s_error_that_nobody_asked_for_is_raised_when_the_block_is_left() -> None:
    @boss(refuses("a", "one"))
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for _ in events:
                break

    with pytest.raises(ValueError, match="a failed"):
        await play(root)


async def test_an_error_in_the_block_is_raised_as_itself_and_the_child_is_stopped() -> None:
    @boss(sleeps("a", 50))
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]):
            raise KeyError("mine")

    began = anyio.current_time()
    with pytest.raises(KeyError, match="mine"):
        await play(root)
    assert anyio.current_time() == began


async def test_watching_may_be_nested_and_each_level_sees_what_the_one_below_passes_on() -> None:
    class Adds(Agent):
        async def run(self, ctx: InvocationContext) -> None:
            async with ctx.open(self.sub_agents[0]) as events:
                async for event in events:
                    await ctx.emit(event.model_copy(update={"parts": (Text(event.text + self.name),)}))

    root = Adds("x", sub_agents=[Adds("y", sub_agents=[Adds("z", sub_agents=[says("a", "", "-")])])])
    played = await play(root)
    assert [(event.author, event.path, event.text) for event in played.events if event.text] == [
        ("a", "x.y.z.a", "zyx"), ("a", "x.y.z.a", "-zyx"),
    ]  # fmt: skip


async def test_a_watched_parallel_keeps_its_branches() -> None:
    @boss(ParallelAgent("p", [says("a", "x"), says("b", "y")]))
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for event in events:
                await ctx.emit(event)

    played = await play(root)
    assert {event.text: event.branch for event in played.events if event.text} == {"x": "p.a", "y": "p.b"}
    assert log_problems(played.session.events) == []


async def test_two_children_may_be_watched_at_once() -> None:
    @boss(says("a", "1", "2"), says("b", "x", "y"))
    async def root(ctx: InvocationContext) -> None:
        one, two = ctx.agent.sub_agents
        async with ctx.open(one) as left, ctx.open(two) as right:
            async for event in left:
                await ctx.emit(event)
                await ctx.emit(await anext(right))

    assert (await play(root)).texts == ["1", "x", "2", "y"]


async def test_state_that_a_watched_child_writes_is_published_when_its_event_is_passed_on() -> None:
    @boss(writes("a", x=1))
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for event in events:
                assert "x" not in ctx.state
                await ctx.emit(event)
                assert ctx.state["x"] == 1

    await play(root)


@pytest.mark.parametrize("passes_on", ["as it is", "changed", "changed, late"])
async def test_writes_of_an_event_that_its_author_gave_up_are_published_once(passes_on: str) -> None:
    @agent
    async def child(ctx: InvocationContext) -> None:
        ctx.state["votes"] = ["child"]
        with anyio.move_on_after(1):
            await ctx.emit(ctx.text("1"))
        await ctx.emit(ctx.text("2"))

    @boss(child)
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for event in events:
                passed = event if passes_on == "as it is" else event.model_copy(update={"parts": (Text("new"),)})
                if "late" in passes_on:
                    await anyio.sleep(2)
                await ctx.emit(passed)

    async with Runner(ParallelAgent("p", [root], on_conflict={"votes": operator.add})) as runner:
        async with runner.run("go") as run:
            async for event in run:
                if event.text:
                    await anyio.sleep(5)
        session = await runner.sessions.get(run.session)
    assert session.state == {"votes": ["child"]}
    assert len([event for event in session.events if event.text]) == 3


async def test_an_escalation_that_is_not_passed_on_ends_nothing() -> None:
    async def shy(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("stop", actions=Actions(escalate=True)))

    @boss(FunctionAgent("shy", shy))
    async def root(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for _ in events:
                pass
        await ctx.emit(ctx.text("on"))

    assert (await play(LoopAgent("l", [root], max_iterations=3))).texts == ["on"] * 3


async def test_a_context_is_of_no_use_after_its_turn() -> None:
    kept: list[InvocationContext] = []

    @agent
    async def a(ctx: InvocationContext) -> None:
        kept.append(ctx)

    @agent
    async def b(ctx: InvocationContext) -> None:
        (old,) = kept
        for use in (
            lambda: old.emit(ctx.text("x")),
            lambda: old.run(a),
            lambda: old.history(),
            lambda: old.save_artifact("f", b""),
            lambda: old.load_artifact("f"),
            lambda: old.search_memory("x"),
        ):
            with pytest.raises(ContextEnded, match=r"turn of agent 's\.a' has ended"):
                await use()
        with pytest.raises(ContextEnded):
            async with old.open(a):
                pass
        with pytest.raises(ConfigError, match="turn has ended"):
            old.state["x"] = 1

    await play(SequentialAgent("s", [a, b]))


async def test_artifacts_are_versioned_and_told_of() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        assert await ctx.load_artifact("notes.txt") is None
        assert await ctx.save_artifact("notes.txt", "one") == 1
        assert await ctx.save_artifact("notes.txt", b"two", mime_type="text/x") == 2
        latest = await ctx.load_artifact("notes.txt")
        first = await ctx.load_artifact("notes.txt", version=1)
        await ctx.emit(ctx.text(f"{first.data.decode()} {first.mime_type} {latest.data.decode()} {latest.mime_type}"))

    played = await play(a)
    assert played.texts == ["one text/plain two text/x"]
    deltas = [event.actions.artifact_delta for event in played.session.events if event.actions]
    assert deltas == [{"notes.txt": 1}, {"notes.txt": 2}]


async def test_what_a_context_knows() -> None:
    seen = []

    @agent
    async def curious(ctx: InvocationContext) -> None:
        seen.append((ctx.path, ctx.branch, ctx.iteration, ctx.user_text, ctx.session, ctx.remaining, ctx.agent.name))

    played = await play(SequentialAgent("s", [ParallelAgent("p", [curious])]), "hello")
    key = played.run.session
    assert seen == [("s.p.curious", "p.curious", None, "hello", key, float("inf"), "curious")]
    assert key == ("s", "user", "s")


async def test_an_event_that_was_made_elsewhere_is_stamped() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        await ctx.emit(Event(parts="bare"))
        await ctx.emit(Event(parts="signed", author="somebody", branch="x.y", invocation_id="other"))

    played = await play(ParallelAgent("p", [a]), time=lambda: 12.5)
    bare, signed = [event for event in played.events if event.text]
    assert (bare.author, bare.branch, bare.path, bare.timestamp) == ("a", "p.a", "p.a", 12.5)
    assert (signed.author, signed.branch, signed.path) == ("somebody", "p.a", "p.a")
    assert bare.invocation_id == signed.invocation_id == played.run.id
    assert bare.id != signed.id
