"""The span of a tool call: below its agent's, above what the tool runs; content only where that is wanted."""

import json

import anyio
import pytest
from opentelemetry.trace import StatusCode

from agentflow import AgentTool, Runner, ToolContext, tool, tracing
from tests.core.actors import play, says
from tests.tools.callers import caller
from tests.tracing.spans import Metered, Traced


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def fails() -> None:
    raise ValueError("no")


async def test_calls_are_below_their_agent_and_above_whom_they_run(traced: Traced) -> None:
    helper = AgentTool(says("helper", "hello"))
    await play(caller("c", [add, helper], [("add", {"a": 1, "b": 2}), ("helper", {"request": "x"})]))
    traced.shows("""
        run c: ok
          invoke_agent c: ok
            execute_tool add: ok
            execute_tool helper: ok
              invoke_agent helper: ok
    """)


async def test_what_a_span_says_of_its_call(traced: Traced) -> None:
    await play(caller("c", [add], [("add", {"a": 1, "b": 2})]))
    assert dict(traced.one("execute_tool add").attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "add",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.description": "Add two numbers.",
        "gen_ai.tool.call.id": "c1-1",
        "gen_ai.agent.name": "c",
        "agentflow.outcome": "ok",
    }


async def test_arguments_and_results_only_where_content_is_captured(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracing.CAPTURE, "true")
    await play(caller("c", [add], [("add", {"a": 1, "b": 2})]))
    found = traced.one("execute_tool add").attributes
    assert json.loads(found["gen_ai.tool.call.arguments"]) == {"a": 1, "b": 2}
    assert json.loads(found["gen_ai.tool.call.result"]) == 3


async def test_an_error_that_the_model_is_told_is_one_of_the_call_and_not_of_the_agent(traced: Traced) -> None:
    await play(caller("c", [fails], [("fails", {})]))
    span = traced.one("execute_tool fails")
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "ValueError")
    assert traced.one("invoke_agent c").status.status_code is StatusCode.UNSET


async def test_a_cancelled_call_and_one_that_waits_are_no_errors(traced: Traced) -> None:
    async def hangs(ctx: ToolContext) -> None:
        await ctx.progress("begun")
        await anyio.sleep_forever()

    async with Runner(caller("c", [hangs], [("hangs", {})])) as runner, runner.run("go") as run:
        async for event in run:
            if event.partial:
                run.cancel("enough")
    await play(caller("d", [tool(require_confirmation=True)(add)], [("add", {"a": 1, "b": 2})]))
    cancelled, paused = traced.one("execute_tool hangs"), traced.one("execute_tool add")
    assert (cancelled.status.status_code, cancelled.attributes["agentflow.outcome"]) == (StatusCode.UNSET, "cancelled")
    assert (paused.status.status_code, paused.attributes["agentflow.outcome"]) == (StatusCode.UNSET, "paused")
    assert traced.one("invoke_agent d").attributes["agentflow.outcome"] == "paused"
    assert traced.one("run d").attributes["agentflow.outcome"] == "paused"


async def test_calls_are_measured(metered: Metered) -> None:
    await play(caller("c", [add, fails], [("add", {"a": 1, "b": 2}), ("add", {"a": 1, "b": 2}), ("fails", {})]))
    points = {point.attributes["gen_ai.tool.name"]: point for point in metered.points()["gen_ai.execute_tool.duration"]}
    assert points["add"].count == 2
    assert dict(points["fails"].attributes) == {
        "gen_ai.tool.name": "fails",
        "agentflow.outcome": "error",
        "error.type": "ValueError",
    }
