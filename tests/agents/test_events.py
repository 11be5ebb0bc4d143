"""What an agent may emit, and what becomes of it."""

from copy import deepcopy
from dataclasses import FrozenInstanceError

import pytest

from agentflow import (
    Actions,
    Event,
    FunctionAgent,
    InvalidEvent,
    InvocationContext,
    ParallelAgent,
    Text,
    ToolCall,
    ToolResult,
    agent,
)
from tests.core.actors import play
from tests.faults.checks import log_problems


def emits(name: str, event: object) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(event)

    return FunctionAgent(name, turn)


@pytest.mark.parametrize("thing", [None, {"text": "hi"}, "hi", 3])
async def test_what_is_no_event_is_refused_and_the_agent_is_named(thing: object) -> None:
    with pytest.raises(InvalidEvent, match=r"agent 'p\.a' emitted"):
        await play(ParallelAgent("p", [emits("a", thing)]))


@pytest.mark.parametrize("partial", [False, True])
async def test_one_event_object_may_be_emitted_by_several_agents(partial: bool) -> None:
    event = Event(parts="hi", partial=partial)
    played = await play(ParallelAgent("p", [emits("a", event), emits("b", event)]))
    said = [(one.author, one.branch, one.path) for one in played.events if one.text]
    assert sorted(said) == [("a", "p.a", "p.a"), ("b", "p.b", "p.b")]
    assert event == Event(parts="hi", partial=partial)


async def test_a_refused_event_does_not_lose_what_was_written_to_state() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state["x"] = 1
        with pytest.raises(InvalidEvent, match="limit is 2,000"):
            await ctx.emit(ctx.text("x" * 3000))
        assert ctx.state["x"] == 1
        await ctx.emit(ctx.text("ok"))

    played = await play(a, max_event_bytes=2000)
    assert played.session.state == {"x": 1}


async def test_an_event_that_is_emitted_again_is_another_event() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        event = ctx.text("again")
        await ctx.emit(event)
        await ctx.emit(event)

    played = await play(a)
    first, second = [event for event in played.events if event.text]
    assert first.id != second.id
    assert (first.serial, second.serial) == (3, 4)


async def test_ids_are_given_and_nobody_else_speaks_as_the_user() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        await ctx.emit(Event(id="mine", parts="one"))
        await ctx.emit(Event(id="mine", author="user", parts="two"))
        await ctx.emit(Event(author="somebody else", parts="three"))

    played = await play(a)
    assert log_problems(played.session.events) == []
    said = [(event.author, event.path) for event in played.events if event.text]
    assert said == [("a", "a"), ("a", "a"), ("somebody else", "a")]


async def test_what_tells_of_a_start_is_shared_by_runs_and_cant_be_changed() -> None:
    tree = ParallelAgent("p", [emits("a", Event(parts="hi")), emits("b", Event(parts="ho"))])
    first, second = [
        [event.lifecycle for event in (await play(tree)).events if getattr(event.lifecycle, "agent_type", "")]
        for _ in range(2)
    ]
    assert len(first) == 3
    assert first == second
    assert [record.name for record in first] == ["agent_start", "agent_parallel_start", "agent_parallel_start"]
    for record in first:
        with pytest.raises(FrozenInstanceError):
            record.attempt = 2
        assert deepcopy(record) == record
        event = Event(id="e", lifecycle=record)
        assert Event.from_json(event.to_json()) == event


async def test_parts_of_a_wrong_type_are_refused() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("x").model_copy(update={"parts": 3}))

    with pytest.raises(InvalidEvent):
        await play(a)


CALL, RESULT = ToolCall("1", "look"), ToolResult("1", "look", "seen")


@pytest.mark.parametrize(
    ("event", "final"),
    [
        (Event(parts="done"), True),
        (Event(parts="do", partial=True), False),
        (Event(parts=(Text("I look"), CALL)), False),
        (Event(parts=(RESULT,)), False),
        (Event(parts=(RESULT,), actions=Actions(skip_summarization=True)), True),
        (Event(parts=(RESULT,), actions=Actions({"k": 1})), False),
        (Event(parts=(CALL,), long_running_tool_ids=("1",)), True),
        (Event(parts=(CALL,), long_running_tool_ids=("1",), partial=True), False),
        (Event(parts="so far", finish_reason="pause"), False),
        (Event(parts="so far", finish_reason="max_tokens"), True),
    ],
)
def test_which_events_are_final_is_adk_gos_rule(event: Event, final: bool) -> None:
    """adk-go 2.11; what a provider interrupted goes on, and isn't."""
    assert event.is_final is final
