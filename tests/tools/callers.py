"""An agent that calls tools as a model would ask for them, without a model."""

from collections.abc import Callable, Sequence

from agentflow import FunctionAgent, InvocationContext, ToolCall, ToolResult
from agentflow.core import Tool
from agentflow.tools.calls import Called, Hooks, resume_calls, run_calls
from agentflow.tools.function import as_tool
from agentflow.tools.toolset import Toolset, resolve_tools
from tests.core.actors import Played

Asked = tuple[str, dict]


def caller(
    name: str,
    tools: Sequence[Tool | Toolset | Callable],
    *turns: Sequence[Asked],
    limit: int | None = None,
    hooks: Hooks | None = None,
    seen: list[Called] | None = None,
    **options,
) -> FunctionAgent:
    """Asks for the calls of each of `turns` in one event, as a model does, and emits what they answered.

    Resumed after a pause, it goes on where this turn of its was.
    """
    given = [tool if isinstance(tool, Toolset) else as_tool(tool) for tool in tools]

    async def turn(ctx: InvocationContext) -> None:
        known = await resolve_tools(ctx, given)
        called = await resume_calls(ctx, known, hooks=hooks, limit=limit)
        done = 0
        if called is not None and ctx._past is not None:  # of its own turn alone: in a loop it has had others
            done = sum(any(type(part) is ToolCall and part.id[0] == "c" for part in e.parts) for e in ctx._past.events)
            await finish(ctx, called)
        for number, asked in enumerate(turns[done:], done + 1):
            calls = [ToolCall(f"c{number}-{i}", tool, dict(args)) for i, (tool, args) in enumerate(asked, 1)]
            await ctx.emit(ctx.event(*calls))
            await finish(ctx, await run_calls(ctx, calls, known, hooks=hooks, limit=limit))
        await ctx.emit(ctx.text("done"))

    async def finish(ctx: InvocationContext, called: Called) -> None:
        if seen is not None:
            seen.append(called)
        if called.parts:
            await ctx.emit(ctx.event(*called.parts, actions=called.actions))
        await called.pause(ctx)

    return FunctionAgent(name, turn, **options)


def results(played: Played) -> list[ToolResult]:
    """What tools answered, in the order of the log."""
    return [part for event in played.events if not event.partial for part in event.parts if type(part) is ToolResult]


def answers(played: Played) -> list[object]:
    return [result.result for result in results(played)]
