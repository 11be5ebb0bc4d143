"""A run in which everything happens: nesting, a queue, retries, failures, cancellations, loops and tools, timed."""

from collections.abc import Sequence

import anyio
import pytest
import trio
from trio.testing import MockClock

from agentflow import (
    Agent,
    Event,
    FunctionAgent,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Retry,
    Runner,
    SequentialAgent,
    ToolCall,
    ToolResult,
    Usage,
)

virtual = pytest.mark.parametrize(
    "anyio_backend", [pytest.param(("trio", {"clock": MockClock(autojump_threshold=0)}), id="virtual time")]
)
"""Waits take no time, and the clock of the events is the backend's."""


def speaker(name: str, *pauses: float, fails: str = "", times: int = 99, retry: Retry | None = None) -> FunctionAgent:
    """Says something after each pause; then fails, the first `times` times."""
    tries = 0

    async def run(ctx: InvocationContext) -> None:
        nonlocal tries
        tries += 1
        for number, pause in enumerate(pauses):
            await anyio.sleep(pause)
            await ctx.emit(ctx.text(f"{name} says {number}"))
        if fails and tries <= times:
            raise ConnectionError(fails)

    return FunctionAgent(name, run, retry=retry)


def tool_user(name: str) -> FunctionAgent:
    async def run(ctx: InvocationContext) -> None:
        calls = [ToolCall("1", "search", {"q": "umbrellas"}), ToolCall("2", "sum"), ToolCall("3", "lost")]
        await ctx.emit(Event(parts=calls, usage=Usage(input_tokens=90, output_tokens=10, model_calls=1)))
        await anyio.sleep(0.5)
        await ctx.emit(Event(parts=[ToolResult("2", "sum", "no", is_error=True)]))
        await anyio.sleep(1)
        await ctx.emit(Event(parts=[ToolResult("1", "search", ["a"])]))
        ctx.state["found"] = 1
        await ctx.emit(Event(parts="Five sources.", usage=Usage(input_tokens=200, output_tokens=20, model_calls=1)))

    return FunctionAgent(name, run)


def panel() -> Agent:
    sources = ParallelAgent(
        "sources",
        [
            speaker("news", 1, 1.5),
            speaker("prices", 1, 2.5),
            speaker("filings", 0.25, fails="closed on <Sundays> & \u202eholidays"),
        ],
        on_error="collect",
    )
    views = ParallelAgent(
        "views",
        [
            speaker("optimist", 2),
            LoopAgent("critic", [speaker("objection", 1), speaker("answer", 0.25)], max_iterations=3),
            SequentialAgent("research", [tool_user("search"), sources]),
            speaker("lawyer", 1, fails="busy", times=2, retry=Retry(attempts=3, delay=0.5, jitter=0)),
            speaker("accountant", 1.5),
            speaker("translator", 9),
            speaker("late", 9),
            speaker("last", 9),
            speaker("never", 1),
        ],
        max_concurrency=4,
        stop_when=5,
    )
    return SequentialAgent("panel", [speaker("planner", 0.75), views, speaker("editor", 1)])


async def events_of(agent: Agent, *, messages: Sequence[str] = ("Should we?",), stop_at: float = 99) -> list[Event]:
    """What is stored of runs of `agent`, the last of them cut short at `stop_at`."""
    async with Runner(agent, time=trio.current_time) as runner:
        for message in messages:
            with anyio.move_on_after(stop_at):
                async with runner.run(message, session_id="s") as run:
                    async for _ in run:
                        pass
        (info,) = await runner.sessions.list()
        session = await runner.sessions.get(info.key)
    assert session is not None
    return session.events
