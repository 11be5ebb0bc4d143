"""Stopped anywhere, by whoever, an agent that thinks leaves a session that its model can read."""

from collections.abc import Awaitable, Callable

import pytest

from agentflow import (
    Event,
    FunctionAgent,
    InvocationContext,
    LlmAgent,
    ModelRequest,
    ModelResponse,
    ParallelAgent,
    Plugin,
    Run,
    Runner,
    SequentialAgent,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from agentflow.models._anthropic_messages import build_turns
from agentflow.testing import FunctionModel
from agentflow.testing.anthropic_rules import anthropic_problems
from tests.agents.thinking import look
from tests.core.actors import read

Leave = Callable[[Run, int], Awaitable[None]]


async def by_break(run: Run, after: int) -> None:
    """Leave the block after so many events."""
    async with run:
        async for _ in run:
            after -= 1
            if after == 0:
                break


async def by_cancel(run: Run, after: int) -> None:
    """Cancel after so many events, and read on to the end."""
    async with run:
        async for _ in run:
            after -= 1
            if after == 0:
                run.cancel("enough")


def answer(request: ModelRequest) -> object:
    """Calls two tools, then one, then hands over; says something to a message that it has not answered."""
    last = request.messages[-1]
    agent = request.site.agent if request.site is not None else ""
    if agent == "child":
        return "child speaks"
    if last.text.startswith("again"):
        return "here I am"
    calls = sum(type(part) is ToolCall for message in request.messages for part in message.parts)
    if calls == 0:
        return ["let me see", ToolCall("1", "look"), ToolCall("2", "look")]
    if calls == 2:
        return ToolCall("3", "look")
    return ToolCall("4", "transfer_to_agent", {"agent_name": "child"}) if agent == "boss" else "done"


def tree(requests: list[ModelRequest]) -> SequentialAgent:
    def noting(request: ModelRequest) -> ModelResponse:
        requests.append(request)
        said = answer(request)
        parts = said if isinstance(said, list) else [said]
        made = [Text(part) if isinstance(part, str) else part for part in parts]
        return ModelResponse(parts=made, usage=Usage(10, 1, model_calls=1))

    model = FunctionModel(noting)
    child = LlmAgent("child", model=model)
    boss = LlmAgent("boss", model=model, tools=[look], sub_agents=[child])
    return SequentialAgent("s", [ParallelAgent("p", [boss, LlmAgent("other", model=model, tools=[look])])])


def unanswered(events: list[Event]) -> list[str]:
    """Calls in the log that no later event answers."""
    called = {(event.path, part.id): event for event in events for part in event.parts if type(part) is ToolCall}
    for event in events:
        for part in event.parts:
            if type(part) is ToolResult:
                called.pop((event.path, part.id), None)
    return [id for _, id in called]


@pytest.mark.parametrize("leave", [by_break, by_cancel])
async def test_stopped_after_any_event_no_call_is_left_open_and_the_next_turn_can_be_asked(leave: Leave) -> None:
    after = 0
    ended = False
    while not ended:
        after += 1
        assert after < 100
        requests: list[ModelRequest] = []
        async with Runner(tree(requests)) as runner:
            run = runner.run("go", session_id="s")
            await leave(run, after)
            ended = run.result.status == "ok"
            session = await runner.sessions.get(run.session)
            assert session is not None
            assert unanswered(session.events) == [], f"after {after} events"
            paid = [event.usage for event in session.events if event.usage is not None]
            assert sum(usage.model_calls for usage in paid) == run.usage.model_calls
            await read(runner.run("again", session_id="s"))
        for request in requests:
            turns = [{"role": turn.role, "content": turn.blocks()} for turn in build_turns(request.messages)]
            tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("look", "transfer_to_agent")]
            body = {"model": "claude-opus-5-5", "max_tokens": 10, "messages": turns, "tools": tools}
            assert anthropic_problems(body) == [], f"after {after} events"
    assert after > 20


async def test_a_group_that_is_left_before_its_branches_began_has_not_gone_well() -> None:
    """On trio it had."""
    async with Runner(tree([])) as runner:
        run = runner.run("go")
        await by_break(run, 1)
        assert (run.result.status, run.result.reason) == ("cancelled", "its consumer left")


async def test_a_plugin_that_fails_on_any_event_leaves_no_call_open() -> None:
    class Failing(Plugin):
        def __init__(self, place: int) -> None:
            self.left = place

        async def on_event(self, ctx: InvocationContext, event: Event) -> None:
            self.left -= 1
            if self.left == 0:
                raise ValueError("no")

    for place in range(1, 30):
        async with Runner(tree([]), plugins=[Failing(place)]) as runner:
            run = runner.run("go", session_id="s")
            with pytest.raises(Exception, match="no"):
                await read(run)
            session = await runner.sessions.get(run.session)
            assert session is not None
            assert unanswered(session.events) == [], f"at event {place}"


async def test_a_consumer_that_leaves_while_a_custom_agent_directs_it() -> None:
    requests: list[ModelRequest] = []
    inner = tree(requests)

    async def direct(ctx: InvocationContext) -> None:
        async with ctx.open(inner) as events:
            async for event in events:
                if not event.partial:
                    await ctx.emit(event)

    async with Runner(FunctionAgent("boss2", direct, sub_agents=[inner])) as runner:
        run = runner.run("go", session_id="s")
        await by_break(run, 12)
        session = await runner.sessions.get(run.session)
        assert session is not None
        assert unanswered(session.events) == []
