"""Session state: what an agent reads, when what it writes is seen by others, and what is stored."""

import anyio
import pytest

from agentflow import (
    ConfigError,
    FunctionAgent,
    InMemorySessionService,
    InvalidEvent,
    InvocationContext,
    ParallelAgent,
    Runner,
    SequentialAgent,
    agent,
)
from tests.core.actors import play, read


async def test_an_agent_reads_its_own_writes_at_once_and_others_when_they_are_published() -> None:
    wrote, told = anyio.Event(), anyio.Event()
    seen = []

    @agent
    async def writer(ctx: InvocationContext) -> None:
        ctx.state["x"] = 1
        assert ctx.state["x"] == 1
        wrote.set()
        await anyio.sleep(1)
        await ctx.emit(ctx.text("published"))
        told.set()

    @agent
    async def reader(ctx: InvocationContext) -> None:
        await wrote.wait()
        seen.append(ctx.state.get("x"))
        await told.wait()
        seen.append(ctx.state.get("x"))

    await play(ParallelAgent("p", [writer, reader]))
    assert seen == [None, 1]


async def test_all_that_is_pending_is_published_at_once_with_the_event() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state["x"] = 1
        ctx.state["y"] = 2
        await ctx.emit(ctx.text("now"))

    played = await play(a)
    (event,) = [event for event in played.events if event.text]
    assert event.actions.state_delta == {"x": 1, "y": 2}


async def test_what_is_pending_is_published_before_a_child_runs_and_when_the_agent_succeeds() -> None:
    seen = []

    @agent
    async def child(ctx: InvocationContext) -> None:
        seen.append(dict(ctx.state))

    @agent(sub_agents=[child])
    async def parent(ctx: InvocationContext) -> None:
        ctx.state["before"] = 1
        await ctx.run(child)
        ctx.state["after"] = 2

    played = await play(parent)
    assert seen == [{"before": 1}]
    assert played.session.state == {"before": 1, "after": 2}


@pytest.mark.parametrize("how", ["error", "timeout", "cancelled"])
async def test_what_is_pending_is_dropped_when_the_agent_does_not_succeed(how: str) -> None:
    @agent(timeout=1 if how == "timeout" else None)
    async def a(ctx: InvocationContext) -> None:
        ctx.state["published"] = 1
        await ctx.emit(ctx.text("x"))
        ctx.state["pending"] = 2
        if how == "error":
            raise ValueError
        await anyio.sleep(5 if how == "timeout" else 50)

    goal = {"stop_when": lambda event: event.text == "good night"} if how == "cancelled" else {"on_error": "collect"}
    other = FunctionAgent("other", _says_late)
    played = await play(ParallelAgent("p", [a, other], **goal))
    assert played.session.state == {"published": 1}


async def _says_late(ctx: InvocationContext) -> None:
    await anyio.sleep(2)
    await ctx.emit(ctx.text("good night"))


async def test_none_is_a_value_and_deleting_is_not_setting_to_none() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state["none"] = None
        ctx.state["gone"] = 1
        await ctx.emit(ctx.text("x"))
        del ctx.state["gone"]
        assert "gone" not in ctx.state
        with pytest.raises(KeyError):
            del ctx.state["gone"]
        await ctx.emit(ctx.text("y"))
        with pytest.raises(KeyError):
            ctx.state["gone"]

    played = await play(a, state={"old": 1})
    assert played.session.state == {"none": None, "old": 1}
    assert played.session.events[3].actions.state_removed == ["gone"]


async def test_state_is_a_mapping() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state["b"] = 2
        await ctx.emit(ctx.text("x"))
        ctx.state["c"] = 3
        del ctx.state["b"]
        assert dict(ctx.state) == {"a": 1, "c": 3}
        assert len(ctx.state) == 2
        assert ctx.state.pop("c") == 3
        assert ctx.state.setdefault("d", 4) == 4
        ctx.state.update(e=5)
        assert sorted(ctx.state) == ["a", "d", "e"]

    assert (await play(a, state={"a": 1})).session.state == {"a": 1, "d": 4, "e": 5}


async def test_user_and_app_keys_are_shared_and_temp_keys_end_with_the_run() -> None:
    store = InMemorySessionService()
    seen = []

    @agent
    async def a(ctx: InvocationContext) -> None:
        seen.append(dict(ctx.state))
        for prefix in ("", "user:", "app:", "temp:"):
            ctx.state[f"{prefix}x"] = prefix
        await ctx.emit(ctx.text("x"))
        assert ctx.state["temp:x"] == "temp:"

    async with Runner(a, sessions=store) as runner:
        for user, session in (("u", "s"), ("u", "s"), ("u", "t"), ("v", "s")):
            run = await read(runner.run("go", user_id=user, session_id=session))
            stored = await store.get(run.session)
            assert not [e for e in stored.events if e.actions and "temp:x" in e.actions.state_delta]
    own, user, app = {"x": ""}, {"user:x": "user:"}, {"app:x": "app:"}
    assert seen == [{}, own | user | app, user | app, app]


async def test_temp_keys_are_seen_by_later_agents_of_the_run() -> None:
    seen = []

    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state["temp:x"] = [1]

    @agent
    async def b(ctx: InvocationContext) -> None:
        seen.append(ctx.state["temp:x"])
        del ctx.state["temp:x"]

    @agent
    async def c(ctx: InvocationContext) -> None:
        seen.append("temp:x" in ctx.state)

    played = await play(SequentialAgent("s", [a, b, c]))
    assert seen == [[1], False]
    assert played.session.state == {}


async def test_state_given_with_the_message_is_stored_with_it() -> None:
    seen = []

    @agent
    async def a(ctx: InvocationContext) -> None:
        seen.append(dict(ctx.state))

    played = await play(a, "go", state={"x": 1, "temp:y": 2, "user:z": 3})
    assert seen == [{"x": 1, "temp:y": 2, "user:z": 3}]
    assert played.session.state == {"x": 1, "user:z": 3}
    assert played.session.events[0].author == "user"


@pytest.mark.parametrize("value", [object(), {1: 2}, {"x": {1, 2}}, b"bytes"])
async def test_what_is_no_json_is_refused_with_the_key_s_event(value) -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state["x"] = value
        await ctx.emit(ctx.text("x"))

    with pytest.raises(InvalidEvent):
        await play(a)


async def test_what_is_no_json_is_refused_also_when_the_agent_ends_with_it() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state["x"] = object()

    with pytest.raises(InvalidEvent):
        await play(a)


async def test_changing_a_list_after_it_was_published_changes_nothing_that_is_stored() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        mine = [1]
        ctx.state["x"] = mine
        await ctx.emit(ctx.text("x"))
        mine.append(2)
        assert ctx.state["x"] == [1]

    assert (await play(a)).session.state == {"x": [1]}


@pytest.mark.parametrize("key", ["", 3, None])
async def test_a_key_is_a_string_that_is_not_empty(key) -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state[key] = 1

    with pytest.raises(ConfigError, match="state key"):
        await play(a)


async def test_a_cancelled_branch_does_not_leave_half_of_its_writes() -> None:
    @agent
    async def half(ctx: InvocationContext) -> None:
        ctx.state["one"] = 1
        await anyio.sleep(50)
        ctx.state["two"] = 2

    other = FunctionAgent("other", _says_late)
    played = await play(ParallelAgent("p", [half, other], stop_when="first_success"))
    assert played.session.state == {}
