"""What an agent knows and may do in its turn, and that it may do nothing after it."""

import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import pytest

from agentflow import (
    Actions,
    Agent,
    AgentTimeout,
    ConfigError,
    ContextEnded,
    Data,
    Event,
    FunctionAgent,
    InMemoryArtifactService,
    InMemoryMemoryService,
    InMemorySessionService,
    InvalidEvent,
    InvocationContext,
    LimitExceeded,
    Limits,
    LoopAgent,
    ParallelAgent,
    Runner,
    SequentialAgent,
    SessionKey,
    Text,
    Usage,
    agent,
)
from agentflow.events import AgentStart
from tests.core.actors import Played, hears, play, read, says, sleeps, writes, yields

Turn = Callable[[InvocationContext], Awaitable[None]]


async def play_turn(turn: Turn, **settings) -> Played:
    """Play one agent, `a`, that has this turn."""
    return await play(FunctionAgent("a", turn), **settings)


# What it knows


async def test_it_knows_who_and_where_it_is() -> None:
    seen = []

    @agent
    async def b(ctx: InvocationContext) -> None:
        seen.append((ctx.agent, ctx.path, ctx.branch, ctx.iteration, ctx.invocation_id, ctx.session))

    root = SequentialAgent("s", [ParallelAgent("p", [LoopAgent("l", [b], max_iterations=2)])])
    await play(root, new_id=lambda: "r")
    key = SessionKey("s", "user", "s")
    assert seen == [(b, "s.p.l.b", "p.l", number, "r", key) for number in (1, 2)]


async def test_it_knows_what_the_user_said() -> None:
    seen = []

    async def turn(ctx: InvocationContext) -> None:
        seen.append((ctx.user_text, ctx.user_content))

    message = ["one ", Data({"k": 1}), Text("two")]
    await play_turn(turn, message=message)
    await play_turn(turn, message=None)
    assert seen == [("one two", (Text("one "), Data({"k": 1}), Text("two"))), ("", ())]


async def test_history_has_earlier_runs_the_user_and_those_before_and_no_lifecycle_events() -> None:
    store = InMemorySessionService()
    await play(says("a", "one"), "first", sessions=store, app_name="app")
    heard: list[str] = []
    root = SequentialAgent("s", [says("b", "two"), hears("c", heard)])
    await play(root, "second", sessions=store, app_name="app")
    assert heard == ["first", "one", "second", "two"]


async def test_without_a_deadline_time_remains_for_ever() -> None:
    async def turn(ctx: InvocationContext) -> None:
        assert ctx.remaining == ctx.deadline == float("inf")

    await play_turn(turn)


async def test_the_nearest_deadline_counts_and_time_goes_by() -> None:
    seen = []

    async def turn(ctx: InvocationContext) -> None:
        seen.append(ctx.remaining)
        await anyio.sleep(2)
        seen.append(ctx.remaining)
        assert ctx.deadline == pytest.approx(anyio.current_time() + ctx.remaining)

    for outer, inner in ((10, 60), (60, 10)):
        await play(SequentialAgent("s", [FunctionAgent("a", turn, timeout=inner)], timeout=outer))
    await play(FunctionAgent("a", turn, timeout=60), limits=Limits(seconds=10))
    assert seen == pytest.approx([10, 8] * 3)


async def test_waiting_for_the_reader_takes_nothing_from_the_time_that_remains() -> None:
    seen = []

    @agent(timeout=10)
    async def a(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("one"))
        seen.append(ctx.remaining)
        await ctx.emit(ctx.text("two"))

    async with Runner(a) as runner, runner.run("go") as run:
        async for event in run:
            if event.text == "one":
                await anyio.sleep(60)
    assert seen == pytest.approx([10])


async def test_while_a_branch_waits_for_the_reader_its_siblings_see_the_clock_stand_still() -> None:
    seen = []

    @agent
    async def a(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("one"))

    @agent
    async def b(ctx: InvocationContext) -> None:
        await anyio.sleep(3)
        seen.append(ctx.remaining)

    async with Runner(ParallelAgent("p", [a, b], timeout=10)) as runner, runner.run("go") as run:
        async for event in run:
            if event.text == "one":
                await anyio.sleep(60)
    assert seen == pytest.approx([10])


async def test_it_knows_its_limits_and_what_was_spent() -> None:
    seen = []
    limits = Limits(events=100, tokens=100)

    async def turn(ctx: InvocationContext) -> None:
        assert ctx.limits is limits
        await ctx.emit(ctx.event("one", usage=Usage(input_tokens=3, output_tokens=4, model_calls=1, cost=0.5)))
        ctx.spend(usage=Usage(input_tokens=10, model_calls=1))
        ctx.spend()
        seen.append((ctx.spent.events, ctx.spent.tokens, ctx.spent.model_calls, ctx.spent.cost))

    played = await play_turn(turn, limits=limits)
    assert seen == [(1, 17, 2, 0.5)]
    assert played.run.result.usage.total_tokens == played.run.usage.total_tokens == 17


async def test_usage_is_counted_for_each_turn_and_those_above_it() -> None:
    seen = {}

    def spends(name: str, tokens: int) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            assert ctx.usage.total_tokens == 0
            ctx.spend(usage=Usage(input_tokens=tokens))
            seen[name] = ctx.usage.total_tokens

        return FunctionAgent(name, turn)

    @agent(sub_agents=[SequentialAgent("s", [spends("a", 1), spends("b", 2)])])
    async def root(ctx: InvocationContext) -> None:
        outcome = await ctx.run(ctx.agent.sub_agents[0])
        seen["s"], seen["root"] = outcome.usage.total_tokens, ctx.usage.total_tokens

    await play(root)
    assert seen == {"a": 1, "b": 2, "s": 3, "root": 3}


@pytest.mark.parametrize(
    ("limits", "usage", "limit"),
    [
        (Limits(tokens=5), Usage(input_tokens=3, output_tokens=3), "tokens"),
        (Limits(cost=0.5), Usage(cost=0.6), "cost"),
        (Limits(model_calls=1), Usage(model_calls=2), "model_calls"),
    ],
    ids=["tokens", "cost", "model_calls"],
)
async def test_spending_more_than_the_limit_is_an_error(limits: Limits, usage: Usage, limit: str) -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.spend(usage=usage)

    with pytest.raises(LimitExceeded) as caught:
        await play(SequentialAgent("s", [a]), limits=limits)
    assert (caught.value.limit, caught.value.agent) == (limit, "s.a")
    assert caught.value.spent[limit] == getattr(usage, "total_tokens" if limit == "tokens" else limit)


# What it may do


@pytest.mark.parametrize("value", [None, 5, b"words", ["words"]])
async def test_text_is_a_string(value: object) -> None:
    async def turn(ctx: InvocationContext) -> None:
        ctx.text(value)

    with pytest.raises(InvalidEvent, match=f"^agent 'a': text must be a string, not {type(value).__name__}\n"):
        await play_turn(turn)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("words", r"emitted str 'words', which is not an Event; await ctx.emit\(ctx.text"),
        ({"text": "words"}, r"emitted dict .*, which is not an Event; await ctx.emit\(ctx.text"),
        (5, "emitted int 5, which is not an Event\n"),
        (None, "emitted None, which is not an Event\n"),
        ("x" * 100, "emitted str 'x{59}…, which"),
    ],
    ids=["str", "dict", "int", "None", "long"],
)
async def test_only_events_are_emitted(value: object, message: str) -> None:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(value)

    with pytest.raises(InvalidEvent, match=f"^agent 'a' {message}"):
        await play_turn(turn)


async def test_lifecycle_events_are_the_framework_s_own() -> None:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(Event(lifecycle=AgentStart("a")))

    with pytest.raises(InvalidEvent, match=r"^agent 'a' emitted a lifecycle event; those are the framework's own\n"):
        await play_turn(turn)


async def test_a_refused_event_leaves_pending_writes_to_the_next() -> None:
    async def turn(ctx: InvocationContext) -> None:
        ctx.state["k"] = 1
        with pytest.raises(InvalidEvent):
            await ctx.emit(ctx.event(Data(object())))
        assert ctx.state["k"] == 1
        await ctx.emit(ctx.text("one"))

    played = await play_turn(turn)
    assert played.session.state == {"k": 1}
    assert played.texts == ["one"]


async def test_flush_publishes_pending_writes_and_without_any_says_nothing() -> None:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.flush()
        ctx.state["k"] = 1
        await ctx.flush()
        await ctx.flush()
        ctx.state["unused"] = 1
        del ctx.state["unused"]

    played = await play_turn(turn)
    assert played.session.state == {"k": 1}
    assert [event.actions.state_delta for event in played.events if event.actions and not event.lifecycle] == [{"k": 1}]


async def test_an_artifact_is_saved_in_versions_and_each_is_told_in_an_event() -> None:
    seen = []

    async def turn(ctx: InvocationContext) -> None:
        assert await ctx.load_artifact("notes.txt") is None
        assert await ctx.save_artifact("notes.txt", "one") == 1
        assert await ctx.save_artifact("notes.txt", b"two", mime_type="text/markdown") == 2
        latest, first = await ctx.load_artifact("notes.txt"), await ctx.load_artifact("notes.txt", version=1)
        seen.extend((artifact.version, artifact.text, artifact.mime_type) for artifact in (latest, first))
        assert await ctx.load_artifact("notes.txt", version=3) is None

    store = InMemoryArtifactService()
    played = await play_turn(turn, artifacts=store)
    assert seen == [(2, "two", "text/markdown"), (1, "one", "text/plain")]
    told = [event.actions.artifact_delta for event in played.session.events if event.actions]
    assert told == [{"notes.txt": 1}, {"notes.txt": 2}]
    assert list(await store.list(played.run.session)) == ["notes.txt"]


async def test_an_artifact_s_name_is_checked() -> None:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.save_artifact("a/b", "one")

    with pytest.raises(ConfigError, match="'a/b'"):
        await play_turn(turn)


async def test_memory_is_searched_for_this_user_in_this_app() -> None:
    found = []

    async def turn(ctx: InvocationContext) -> None:
        found.append([hit.text for hit in await ctx.search_memory("about cats")])
        found.append([hit.text for hit in await ctx.search_memory("cats", limit=1)])

    memory = InMemoryMemoryService()
    for name, app in (("a", "a"), ("b", "elsewhere")):
        earlier = await play(says(name, f"cats purr, says {name}", "cats sleep"), "hello", app_name=app)
        await memory.add_session(earlier.session)
    await play_turn(turn, memory=memory)
    assert sorted(found[0]) == ["cats purr, says a", "cats sleep"]
    assert len(found[1]) == 1


@pytest.mark.parametrize("value", [None, "b", says, Agent], ids=["None", "str", "function", "class"])
async def test_only_agents_can_be_run(value: object) -> None:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.run(value)

    with pytest.raises(ConfigError, match=r"^agent 'a' can only run agents, not "):
        await play_turn(turn)


@pytest.mark.parametrize("target", ["nowhere", "s", "sibling"])
async def test_escalating_to_a_loop_that_doesn_t_run_it_is_an_error(target: str) -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("enough", actions=Actions(escalate=target)))

    root = SequentialAgent("s", [LoopAgent("l", [a], max_iterations=2), LoopAgent("sibling", [says("b")], timeout=5)])
    with pytest.raises(InvalidEvent, match=f"'s.l.a' escalated to '{target}', but no loop of that name runs it"):
        await play(root)


async def test_escalating_where_no_loop_is_changes_nothing() -> None:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("enough", actions=Actions(escalate=True)))
        await ctx.emit(ctx.text("on we go"))

    root = SequentialAgent("s", [FunctionAgent("a", turn), says("b", "and on")])
    assert (await play(root)).texts == ["enough", "on we go", "and on"]


async def test_a_child_is_heard_before_it_is_stored_and_may_be_changed_or_dropped() -> None:
    @agent(sub_agents=[says("a", "one", "two", "three")])
    async def editor(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for event in events:
                if event.text == "one":
                    await ctx.emit(event)
                elif event.text == "two":
                    await ctx.emit(ctx.text("TWO"))

    played = await play(editor)
    assert played.texts == ["one", "TWO"]
    assert [event.author for event in played.events if event.text] == ["a", "editor"]


async def test_leaving_a_watched_child_with_an_error_stops_it_and_raises_that_error() -> None:
    stopped = []

    async def talk(ctx: InvocationContext) -> None:
        try:
            await ctx.emit(ctx.text("one"))
            await anyio.sleep_forever()
        finally:
            stopped.append(ctx.path)

    @agent(sub_agents=[FunctionAgent("a", talk)])
    async def editor(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for _ in events:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await play(editor)
    assert stopped == ["editor.a"]


async def test_several_children_may_be_watched_at_once() -> None:
    @agent(sub_agents=[says("a", "one", "two"), says("b", "eins", "zwei", "drei")])
    async def editor(ctx: InvocationContext) -> None:
        a, b = ctx.agent.sub_agents
        async with ctx.open(a) as first, ctx.open(b) as second:
            async for event in first:
                await ctx.emit(event)
                await ctx.emit(await anext(second))
            assert first.outcome.ok

    assert (await play(editor)).texts == ["one", "eins", "two", "zwei"]


async def test_streamed_pieces_that_nobody_reads_are_dropped() -> None:
    async with Runner(yields("a", "word")) as runner, runner.run("go", session_id="s") as run:
        assert (await run.wait()).text == "word"
        session = await runner.sessions.get(run.session)
    assert [event.text for event in session.events if event.text] == ["go", "word"]


# After its turn


async def opens(ctx: InvocationContext) -> None:
    async with ctx.open(says("b")):
        pass


async def spends(ctx: InvocationContext) -> None:
    ctx.spend()


AFTER: dict[str, Turn] = {
    "emit": lambda ctx: ctx.emit(Event(parts="late")),
    "history": lambda ctx: ctx.history(),
    "run": lambda ctx: ctx.run(says("b", "late")),
    "open": opens,
    "save_artifact": lambda ctx: ctx.save_artifact("late.txt", "late"),
    "load_artifact": lambda ctx: ctx.load_artifact("late.txt"),
    "search_memory": lambda ctx: ctx.search_memory("late"),
    "spend": spends,
}


@pytest.mark.parametrize("method", AFTER)
@pytest.mark.parametrize("how", ["ok", "error", "timeout"])
async def test_after_its_turn_a_context_is_of_no_use(method: str, how: str) -> None:
    kept: list[InvocationContext] = []

    async def keep(ctx: InvocationContext) -> None:
        kept.append(ctx)
        if how == "error":
            raise ValueError
        if how == "timeout":
            await anyio.sleep_forever()

    @agent(sub_agents=[FunctionAgent("a", keep, timeout=5)])
    async def root(ctx: InvocationContext) -> None:
        with suppress(ValueError, AgentTimeout):
            await ctx.run(ctx.agent.sub_agents[0])
        with pytest.raises(ContextEnded, match=r"^the turn of agent 'root.a' has ended, .*don't keep ctx"):
            await AFTER[method](kept[0])

    played = await play(root)
    assert "late" not in "".join(played.texts)
    with pytest.raises(ContextEnded):  # and after the run, too
        await AFTER[method](kept[0])


async def test_after_its_turn_state_can_be_read_and_no_more_written() -> None:
    kept: list[InvocationContext] = []

    async def used(ctx: InvocationContext) -> None:
        ctx.state["k"] = 1
        kept.append(ctx)

    async def unused(ctx: InvocationContext) -> None:
        kept.append(ctx)

    await play(SequentialAgent("s", [FunctionAgent("a", used), FunctionAgent("b", unused)]))
    for ctx in kept:
        assert dict(ctx.state) == {"k": 1}
        with pytest.raises(ConfigError, match="turn has ended"):
            ctx.state["late"] = 1
        with pytest.raises(ConfigError, match="turn has ended"):
            del ctx.state["k"]


# Callbacks


async def speak_later(ctx: InvocationContext) -> str:
    await anyio.sleep(1)
    return "callback"


CALLBACKS = {
    "plain text": lambda ctx: "callback",
    "plain event": lambda ctx: ctx.text("callback"),
    "free event": lambda ctx: Event(parts="callback"),
    "async text": speak_later,
    "second in line": [lambda ctx: None, speak_later, lambda ctx: pytest.fail("asked though another had spoken")],
}


@pytest.mark.parametrize("kind", CALLBACKS)
async def test_what_a_callback_before_the_turn_says_stands_for_the_turn(kind: str) -> None:
    played = await play(says("a", "one", before_agent=CALLBACKS[kind]))
    assert played.story == ["agent_start a", "a: callback", "agent_complete a"]
    assert played.run.result.text == "callback"


@pytest.mark.parametrize("kind", CALLBACKS)
async def test_what_a_callback_after_the_turn_says_is_said_too(kind: str) -> None:
    played = await play(says("a", "one", after_agent=CALLBACKS[kind]))
    assert played.texts == ["one", "callback"]
    assert played.run.result.text == "callback"


@pytest.mark.parametrize("hook", ["before_agent", "after_agent"])
async def test_a_callback_that_says_nothing_changes_nothing(hook: str) -> None:
    async def silent(ctx: InvocationContext) -> None:
        ctx.state[hook] = True

    played = await play(says("a", "one", **{hook: [silent, lambda ctx: None]}))
    assert played.texts == ["one"]
    assert played.session.state == {hook: True}


@pytest.mark.parametrize("hook", ["before_agent", "after_agent"])
@pytest.mark.parametrize("value", [5, b"words", ["words"], False])
async def test_a_callback_says_text_or_an_event(hook: str, value: object) -> None:
    message = f"^{hook} of agent 'a' must return text, an event or None, not {type(value).__name__} "
    with pytest.raises(InvalidEvent, match=message):
        await play(says("a", "one", **{hook: lambda ctx: value}))


async def test_a_turn_that_failed_has_no_callback_after_it() -> None:
    called = []
    with pytest.raises(ValueError, match="a failed"):
        await play(FunctionAgent("a", raises_it, after_agent=called.append))
    assert called == []


async def raises_it(ctx: InvocationContext) -> None:
    raise ValueError("a failed")


@pytest.mark.parametrize("hook", ["before_agent", "after_agent"])
async def test_an_error_in_a_callback_is_an_error_of_the_turn(hook: str) -> None:
    async def broken(ctx: InvocationContext) -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError) as caught:
        await play(says("a", "one", **{hook: broken}), new_id=lambda: "r")
    assert caught.value.__notes__ == ["in agent 'a' (run r)"]


# What `run` may be


@pytest.mark.parametrize("value", ["words", 5, False, Event(parts="words")], ids=["text", "number", "bool", "event"])
async def test_an_agent_that_returns_a_value_is_told_to_emit_it(value: object) -> None:
    async def turn(ctx: InvocationContext):
        return value

    with pytest.raises(InvalidEvent, match=rf"^agent 'a' returned {type(value).__name__} .*await ctx.emit\(ctx.text"):
        await play_turn(turn)


@pytest.mark.parametrize("value", [None, "words", [], iter(())], ids=["None", "text", "list", "iterator"])
async def test_a_run_that_is_neither_coroutine_nor_generator_is_refused(value: object) -> None:
    class Odd(Agent):
        def run(self, ctx: InvocationContext):
            return value

    with pytest.raises(
        InvalidEvent, match=r"^agent 'a': run must be an async function or an async generator; it gave "
    ):
        await play(Odd("a"))


async def test_a_callable_object_that_isn_t_async_is_found_when_it_runs() -> None:
    class Plain:
        def __call__(self, ctx: InvocationContext) -> None: ...

    with pytest.raises(InvalidEvent, match=r"^agent 'a': run must be an async function .* it gave None\n"):
        await play(FunctionAgent("a", Plain()))


async def test_any_awaitable_and_any_async_iterator_will_do() -> None:
    class Waits:
        def __init__(self, ctx: InvocationContext) -> None:
            self.ctx = ctx

        def __await__(self):
            return self.ctx.emit(self.ctx.text("awaited")).__await__()

    class Counts:
        def __init__(self, ctx: InvocationContext) -> None:
            self.words = [ctx.text("two"), ctx.text("one")]

        def __aiter__(self):
            return self

        async def __anext__(self) -> Event:
            if not self.words:
                raise StopAsyncIteration
            return self.words.pop()

    class Mine(Agent):
        def __init__(self, name: str, kind: type) -> None:
            super().__init__(name)
            self.kind = kind

        def run(self, ctx: InvocationContext):
            return self.kind(ctx)

    assert (await play(SequentialAgent("s", [Mine("a", Waits), Mine("b", Counts)]))).texts == ["awaited", "one", "two"]


async def test_a_refused_event_of_an_iterator_that_can_t_be_told_ends_the_turn() -> None:
    class Wrong:
        def __aiter__(self):
            return self

        async def __anext__(self) -> str:
            return "words"

    class Mine(Agent):
        def run(self, ctx: InvocationContext):
            return Wrong()

    with pytest.raises(InvalidEvent, match="emitted str 'words'"):
        await play(Mine("a"))


# The same agent, many runs


async def test_one_agent_serves_many_runs_at_once_and_none_sees_another() -> None:
    @agent
    async def echo(ctx: InvocationContext) -> None:
        ctx.state["mine"] = ctx.user_text
        await anyio.sleep(1)
        await ctx.emit(ctx.text(f"{ctx.user_text}, {ctx.state['mine']}"))

    async with Runner(SequentialAgent("s", [echo, sleeps("b", 1)])) as runner:
        runs = [runner.run(str(number)) for number in range(5)]
        async with anyio.create_task_group() as tasks:
            for run in runs:
                tasks.start_soon(read, run)
    for number, run in enumerate(runs):
        said = run.result.text
        assert (run.result.status, said) == ("ok", "good morning")
        session = await runner.sessions.get(run.session)
        assert [event.text for event in session.events if event.author == "echo" and event.text] == [
            f"{number}, {number}"
        ]


async def test_a_tree_that_was_played_is_gone_when_nobody_uses_it_any_more() -> None:
    root = SequentialAgent("s", [writes("a", k=1)])
    child = root.sub_agents[0]
    await play(root)
    del root
    gc.collect()
    assert child.parent is None
